"""A region of hosts that exist: two machines made beforehand, known only by address, host key and login.

Real: all of it. The machines are nodes of a local region that serves nothing; the static region knows no containers.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.e2e.driver import REPO, LocalRegion, podman

pytestmark = [pytest.mark.e2e, pytest.mark.engine, pytest.mark.containers, pytest.mark.timeout(600)]


def static_file(ground: LocalRegion, key: Path, name: str) -> str:
    """Region file of the ground's nodes as hosts that somebody else made."""
    hosts = "".join(
        f'      - {{name: box-{h["rank"]}, address: {h["node_address"]}, host_key: "{h["host_key"]}"}}\n'
        for h in ground.json("status")["hosts"]
    )
    return (
        f"version: 1\nname: {name}\njurisdiction: {{country: NO}}\n"
        f'provider:\n  kind: static\n  ssh: {{user: ops, private_key: "{key}"}}\n'
        f"pools:\n  - name: serve\n    shape: cpu-small\n    hosts:\n{hosts}"
        "services:\n  - {name: chat, model: golden-tiny, pool: serve, replicas: 2}\n"
    )


def test_hosts_that_exist_are_configured_served_proved_and_left_clean(fresh: LocalRegion) -> None:
    text = (fresh.regions / f"{fresh.name}.yaml").read_text()
    (fresh.regions / f"{fresh.name}.yaml").write_text(text.split("services:")[0].replace("front_door:", "# "))
    fresh.ok("up", "--yes")
    secrets = subprocess.run(
        ["pulumi", "stack", "output", "--json", "--show-secrets", "-s", fresh.name],
        env={**fresh.env, **fresh.json("env")}, cwd=REPO, capture_output=True, text=True, check=True,
    )  # fmt: skip
    key = fresh.home / "operator"
    key.write_text(json.loads(secrets.stdout)["ssh_private_key"])
    key.chmod(0o600)

    ground, lab = fresh.name, f"{fresh.name}-lab"
    (fresh.regions / f"{lab}.yaml").write_text(static_file(fresh, key, lab))
    fresh.name = lab
    try:
        fresh.ok("up", "--yes")
        assert set(fresh.json("up", "--yes")["changes"]) == {"same"}
        verdicts = fresh.json("verify")["verdicts"]
        assert {v["check"] for v in verdicts} >= {"host.units", "door.key", "service.stream"}
        assert [v for v in verdicts if v["verdict"] != "pass"] == []
        assert "test model" in fresh.ok("ask", "Who are you?")
        fresh.ok("destroy", "--yes")
    finally:
        fresh.name = ground
    # the hosts stay; what was served on them is gone
    units = podman(
        "exec", fresh.node(0), "systemctl", "list-units", "--no-legend", "--state=active", "aifactory-*", "haproxy*"
    )
    assert units.strip() == ""
