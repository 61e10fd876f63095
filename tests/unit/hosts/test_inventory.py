"""Fleet → inventory. Real: the role argument specifications of playbooks/. No process, no network."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aifactory.errors import ProblemError
from aifactory.hosts import inventory
from aifactory.hosts.play import Play

from .conftest import fleet_host


def build(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "playbook": "site.yml", "marker": "configuration", "hosts": (fleet_host("a"), fleet_host("b", rank=1)),
        "layers": ("host", "runtime"),
    }  # fmt: skip
    return inventory.build(Play(**{**values, **changes}), {"host": "d1", "runtime": "d2"})["all"]


def strings(value: Any) -> list[str]:
    """Every string value that is not wrapped."""
    if isinstance(value, dict):
        if set(value) == {"__ansible_unsafe"}:
            return []
        return [text for item in value.values() for text in strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []


def test_every_host_is_in_the_group_of_every_layer() -> None:
    groups = build()["children"]
    assert {name: sorted(group["hosts"]) for name, group in groups.items()} == {
        "host": ["a", "b"],
        "runtime": ["a", "b"],
    }


def test_no_string_value_is_left_that_ansible_would_take_for_a_template() -> None:
    trap = "{{ lookup('pipe', 'id') }}"
    made = build(
        hosts=(fleet_host("a", labels={"rack": trap}, zone=trap, serial=trap),),
        role_vars={"host": {"operator": trap, "sysctl": {"vm.x": trap}, "time_servers": [trap]}},
    )
    assert strings({"vars": made["vars"], "hosts": made["hosts"]}) == []
    assert json.dumps(made).count("lookup") == 6


def test_role_dict_is_whole() -> None:
    whole = build()["vars"]["runtime"]
    assert whole["engine"] == {"__ansible_unsafe": "podman"}
    assert (whole["registries"], whole["gpus_per_node"], whole["rdma"]) == ([], 0, False)


def test_secrets_are_merged_into_the_dict_of_their_role() -> None:
    made = build(secret_vars={"runtime": {"engine": "docker"}})
    assert made["vars"]["runtime"]["engine"] == {"__ansible_unsafe": "docker"}


def test_run_that_only_looks_leaves_no_marker() -> None:
    assert "aifactory_marker" in build()["vars"]
    assert "aifactory_marker" not in build(marker="")["vars"]


def test_limit_leaves_the_other_hosts_out() -> None:
    assert list(build(limit=("b",))["hosts"]) == ["b"]


def test_root_does_not_become() -> None:
    made = build(hosts=(fleet_host("a", user="root"), fleet_host("b")))
    assert [host["ansible_become"] for host in made["hosts"].values()] == [False, True]


@pytest.mark.parametrize(
    ("names", "rule"),
    [(("A",), "HOSTS-001"), (("a b",), "HOSTS-001"), (("a", "a"), "HOSTS-002"), (("host",), "HOSTS-003")],
)
def test_name_that_ansible_could_misread_is_refused(names: tuple[str, ...], rule: str) -> None:
    with pytest.raises(ProblemError) as caught:
        build(hosts=tuple(fleet_host(name) for name in names))
    assert [p.rule for p in caught.value.problems] == [rule]
