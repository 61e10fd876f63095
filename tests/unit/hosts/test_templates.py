"""Templates of host, fabric, gpu, runtime → golden files. Real: Ansible's templating, strict about what is undefined.

Accept new output: `UPDATE_GOLDEN=1 pytest tests/unit/hosts/test_templates.py`, then read the diff.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from aifactory import paths
from aifactory.hosts import role_input

GOLDEN = Path(__file__).parent / "golden"
LAYERS = ("host", "fabric", "gpu", "runtime")
WITHOUT_COMMENTS = (".json.j2",)
"""Formats in which no line can say who wrote the file."""

DEFAULT: dict[str, dict[str, Any]] = {layer: {} for layer in LAYERS}
TUNED: dict[str, dict[str, Any]] = {
    "host": {
        "allow_tcp_forwarding": True, "time_servers": ["ntp1.example.eu", "ntp2.example.eu"], "nofile": 65536,
        "sysctl": {"net.ipv4.tcp_rmem": "4096 67108864 1073741824"}, "journal_max_mib": 200, "journal_keep_days": 7,
    },
    "runtime": {"registries": ["registry.example.eu", "mirror.example.eu:5000/team"]},
}  # fmt: skip
CASES = {
    "host/sshd.conf": {"default": DEFAULT, "tuned": TUNED, "root": DEFAULT},
    "host/journald.conf": {"default": DEFAULT, "tuned": TUNED},
    "host/sysctl.conf": {"default": DEFAULT, "tuned": TUNED},
    "host/timesyncd.conf": {"default": DEFAULT, "tuned": TUNED},
    "host/limits.conf": {"tuned": TUNED},
    "host/systemd.conf": {"tuned": TUNED},
    "host/sudoers": {"default": DEFAULT},
    "host/apt.conf": {"default": DEFAULT},
    "runtime/policy.json": {"default": DEFAULT, "tuned": TUNED},
    "runtime/registries.conf": {"default": DEFAULT},
    "runtime/daemon.json": {"default": DEFAULT},
}


def rendered(name: str, variables: dict[str, Any]) -> str:
    """As the action plugin `aifactory_files` does it."""
    from ansible.parsing.dataloader import DataLoader
    from ansible.template import Templar, trust_as_template

    templar = Templar(loader=DataLoader(), variables=variables)
    text = (paths.TEMPLATES / f"{name}.j2").read_text()
    overrides = {"trim_blocks": True, "lstrip_blocks": True}
    return str(templar.template(trust_as_template(text), escape_backslashes=False, overrides=overrides))


@pytest.mark.parametrize(("name", "case"), [(name, case) for name, cases in CASES.items() for case in cases])
def test_template_renders_as_accepted(name: str, case: str) -> None:
    user = "root" if case == "root" else "ops"
    roles = {role: role_input.complete(role, CASES[name][case].get(role, {})) for role in LAYERS}
    text = rendered(name, {**roles, "ansible_user": user, "_host_operator": user})
    golden = GOLDEN / f"{name}.{case}"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(text)
    assert text == golden.read_text()
    if Path(name).suffix == ".json":
        json.loads(text)


def all_templates() -> list[str]:
    return sorted(str(f.relative_to(paths.TEMPLATES)) for layer in LAYERS for f in (paths.TEMPLATES / layer).glob("*"))


def test_every_template_has_a_golden_file() -> None:
    assert all_templates() == sorted(f"{name}.j2" for name in CASES)


@pytest.mark.parametrize("name", [n for n in all_templates() if not n.endswith(WITHOUT_COMMENTS)])
def test_first_line_says_who_wrote_it_and_from_what(name: str) -> None:
    assert f"Managed by aifactory (templates/{name})" in (paths.TEMPLATES / name).read_text().splitlines()[0]


def test_undefined_variable_is_an_error() -> None:
    from ansible.errors import AnsibleError

    with pytest.raises(AnsibleError, match="no attribute 'journal_max_mib'"):
        rendered("host/journald.conf", {"host": {}})
