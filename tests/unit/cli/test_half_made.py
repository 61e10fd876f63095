"""What the commands know of a region whose first `up` did not end. Made up: the resources of its state."""

from __future__ import annotations

from typing import Any

from aifactory.cli import use
from aifactory.plan import build
from aifactory.provider import tokens

from tests.unit.plan import regions


class State:
    """Stands for a Stack."""

    def __init__(self, *resources: tuple[str, dict[str, Any]]) -> None:
        self.resources = list(resources)

    def resource_outputs(self, *, show_secrets: bool = False) -> list[tuple[str, dict[str, Any]]]:
        return self.resources


def known(*resources: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return use._half_made(State(*resources), build.plan(regions.example("local")), secrets=True)  # type: ignore[arg-type]


def test_hosts_of_every_provider_are_known() -> None:
    for token in (tokens.LOCAL_NODE_POOL, tokens.STATIC_NODE_POOL, tokens.AWS_NODE_POOL):
        assert known((token, {"hosts": [{"name": "a"}]}))["fleet"] == {"hosts": [{"name": "a"}]}
    assert known()["fleet"] is None


def test_ca_is_the_doors_own_where_it_has_keys_of_its_own() -> None:
    region = (tokens.HOST_KEYS, {"ca_certificate": "REGION", "ssh_private_key": "KEY"})
    door = (tokens.HOST_KEYS, {"ca_certificate": "DOOR", "ssh_private_key": "NOBODY'S"})
    assert known(region)["ca_certificate"] == "REGION"
    found = known(region, door)
    assert (found["ca_certificate"], found["ssh_private_key"]) == ("DOOR", "KEY")
