"""Region specs for the plan's tests, made from plain data as the loader does it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aifactory.region.spec import Region
from ruamel.yaml import YAML

CASES = Path(__file__).parents[2] / "cases" / "plan"


def spec(**sections: Any) -> Region:
    """A region named `lab`; `local` unless the sections say otherwise."""
    raw = {"version": 1, "name": "lab", "jurisdiction": {"country": "DE"}, "provider": {"kind": "local"}, **sections}
    return Region.model_validate_json(json.dumps(raw))


def example(name: str) -> Region:
    """One of the three example regions of docs/region-spec.md."""
    raw = YAML(typ="safe").load(CASES / f"{name}.yaml")
    return Region.model_validate_json(json.dumps(raw))


def static(shape: str, nodes: int = 1, **sections: Any) -> Region:
    """Static region with one pool `p` of so many hosts."""
    hosts = [
        {"name": f"h{i}", "address": f"10.0.0.{i}", "host_key": f"ssh-ed25519 AAAA{i}"} for i in range(1, nodes + 1)
    ]
    raw = {
        "provider": {"kind": "static", "ssh": {"user": "ops"}},
        "pools": [{"name": "p", "shape": shape, "hosts": hosts}],
        **sections,
    }
    return spec(**raw)


def cloud(shape: str, nodes: int, services: list[dict[str, Any]], **sections: Any) -> Region:
    """Cloud region with one pool `train`."""
    raw = {
        "provider": {
            "kind": "aws",
            "partition": "aws",
            "region": "eu-central-1",
            "account": "123456789012",
            "zones": ["eu-central-1a"],
            "credentials": {"profile": "x"},
        },
        "pools": [{"name": "train", "shape": shape, "nodes": nodes}],
        "services": services,
        **sections,
    }
    return spec(**raw)
