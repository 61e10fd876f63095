"""Templates of inference and front_door → golden files. Real: Ansible's templating, the roles' own variables, and
`haproxy -c` where HAProxy is installed.

Accept new output: `UPDATE_GOLDEN=1 pytest tests/unit/serving/test_templates.py`, then read the diff.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aifactory import paths
from aifactory.hosts import role_input
from aifactory.hosts.fleet import FleetHost
from aifactory.hosts.play import Play
from aifactory.provider.service.front_door import Client, DoorService, FrontDoor, FrontDoorInputs
from aifactory.provider.service.service import Endpoint, Replica, Service, ServiceInputs

from tests.unit.serving import certificates, doors

GOLDEN = Path(__file__).parent / "golden"
PODMAN = {"engine": "podman", "containers": True, "quadlet": True}


def host(index: int, **changes: Any) -> FleetHost:
    name = f"local-serve-{index:03d}"
    values = {
        "id": name, "name": name, "address": "127.0.0.1", "port": 2200 + index, "user": "ops", "pool": "serve",
        "host_key": "ssh-ed25519 AAAA", "shape": "local-cpu", "rank": index, "gpus": 0,
        "node_address": f"10.64.0.{16 + index}",
    }  # fmt: skip
    return FleetHost(**{**values, **changes})


SERVICE = ServiceInputs(
    region="local", hosts=(host(0), host(1)), service="chat", model="golden-tiny", engine="llama-cpp",
    image_archive="engine.tar", image_id="1f" * 32, model_file="m.gguf", model_sha256="2e" * 32, context_tokens=4096,
    parallel_requests=4, replicas=(Replica(0, "local-serve-000", 8000), Replica(1, "local-serve-001", 8000)),
    upstream_key="t-upstream-key",
)  # fmt: skip
SERVERS = (Endpoint("local-serve-000", "10.64.0.16", 8000), Endpoint("local-serve-001", "10.64.0.17", 8000))
DOOR = FrontDoorInputs(
    region="local", hosts=(), hostname="localhost", port=8443, certificate="CERTIFICATE\n", private_key="KEY\n",
    clients=(Client("aifactory", "aa" * 32), Client("ministry-a", "bb" * 32, 600)),
    services=(DoorService("chat", "golden-tiny", SERVERS),), upstream_key="t-upstream-key",
)  # fmt: skip
TWO = replace(DOOR, services=(*DOOR.services, DoorService("assistant", "apertus-8b", SERVERS[:1])))

DOOR_CASES = {
    ("haproxy.cfg", "local"): DOOR,
    ("haproxy.cfg", "two-services"): TWO,
    ("clients.map", "local"): DOOR,
    ("limits.map", "local"): DOOR,
    ("upstream.map", "local"): DOOR,
    ("certificate.pem", "local"): DOOR,
    ("service.conf", "local"): DOOR,
    ("save_state.py", "local"): DOOR,
}
UNIT_CASES = {
    ("quadlet", "podman"): (PODMAN, []),
    ("container", "podman"): ({**PODMAN, "quadlet": False}, []),
    ("container", "docker"): ({"engine": "docker", "containers": True, "quadlet": False}, []),
    ("process", "own-kernel"): ({**PODMAN, "containers": False}, ["kvm"]),
    ("process", "in-a-container"): ({**PODMAN, "containers": False}, ["podman", "container"]),
    ("service.env", "any"): (PODMAN, []),
}


def rendered(name: str, role: str, play: Play, variables: dict[str, Any]) -> str:
    """As the role and the action plugin `aifactory_files` do it."""
    from ansible.parsing.dataloader import DataLoader
    from ansible.template import Templar, trust_as_template

    loader = DataLoader()
    own = loader.load_from_file(str(paths.PLAYBOOKS / "roles" / role / "vars" / "main.yml"), trusted_as_template=True)
    templar = Templar(loader=loader, variables={**own, role: role_input.merged(play, role), **variables})
    text = (paths.TEMPLATES / role / f"{name}.j2").read_text()
    overrides = {"trim_blocks": True, "lstrip_blocks": True}
    return str(templar.template(trust_as_template(text), escape_backslashes=False, overrides=overrides))


def check(text: str, name: str) -> None:
    golden = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize(("name", "case"), DOOR_CASES)
def test_front_door_renders_as_accepted(name: str, case: str) -> None:
    play = FrontDoor().play(DOOR_CASES[name, case])
    play = replace(play, role_vars={"front_door": {**play.role_vars["front_door"], "version": "0.0.0"}})
    check(rendered(name, "front_door", play, {}), f"front_door/{name}.{case}")


@pytest.mark.parametrize(("name", "case"), UNIT_CASES)
def test_inference_renders_as_accepted(name: str, case: str) -> None:
    runtime, guest = UNIT_CASES[name, case]
    facts = {"ansible_local": {"aifactory_runtime": runtime}, "virtualization_tech_guest": guest}
    variables = {
        "fleet_host": SERVICE.hosts[0].to_dict(),
        "replica": {"index": 0, "node": "local-serve-000", "port": 8000},
        "ansible_facts": facts,
    }
    play = Service().play(SERVICE)
    driver = rendered_driver(play, variables)
    assert name in (driver, "service.env")
    check(rendered(name, "inference", play, variables), f"inference/{name}.{case}")


def rendered_driver(play: Play, variables: dict[str, Any]) -> str:
    """What the role chooses on such a node."""
    from ansible.parsing.dataloader import DataLoader
    from ansible.template import Templar

    loader = DataLoader()
    own = loader.load_from_file(str(paths.PLAYBOOKS / "roles/inference/vars/main.yml"), trusted_as_template=True)
    templar = Templar(loader=loader, variables={**own, "inference": role_input.merged(play, "inference"), **variables})
    return str(templar.template(own["_inference_driver"])).strip()


@pytest.mark.parametrize("role", ["front_door", "inference"])
def test_every_template_has_a_golden_file(role: str) -> None:
    templates = {f.name.removesuffix(".j2") for f in (paths.TEMPLATES / role).glob("*.j2")}
    assert templates == {name for name, _case in (DOOR_CASES if role == "front_door" else UNIT_CASES)}


def test_first_line_says_who_wrote_it_and_from_what() -> None:
    for role in ("front_door", "inference"):
        for file in (paths.TEMPLATES / role).glob("*.j2"):
            lines = [line for line in file.read_text().splitlines() if not line.startswith("#!")]
            if file.name != "certificate.pem.j2":  # PEM has no comments that everything reads
                assert f"Managed by aifactory (templates/{role}/{file.name})" in lines[0]


def test_secrets_stand_only_where_they_must() -> None:
    for (name, _case), given in DOOR_CASES.items():
        text = rendered(name, "front_door", FrontDoor().play(given), {})
        assert ("t-upstream-key" in text) == (name == "upstream.map")
        assert ("KEY" in text.replace("API KEY", "").replace("Bearer KEY", "")) == (name == "certificate.pem")


@pytest.mark.skipif(not doors.binary(), reason="HAProxy is not installed: apt-get install haproxy")
@pytest.mark.parametrize("given", [DOOR, TWO], ids=["local", "two services"])
def test_haproxy_takes_the_configuration(tmp_path: Path, given: FrontDoorInputs) -> None:
    _ca, certificate, key = certificates.make()
    config = doors.write(tmp_path, replace(given, certificate=certificate, private_key=key))
    done = subprocess.run([doors.binary(), "-c", "-f", config], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if "WARNING" in line and "state file" not in line] == []
