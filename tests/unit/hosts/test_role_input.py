"""The dict a role takes. Real: the argument specifications of playbooks/roles."""

from __future__ import annotations

from typing import Any

import pytest
from aifactory.hosts import role_input


def test_defaults_are_filled_in() -> None:
    filled = role_input.complete("gpu", {})
    assert (filled["gpus_per_node"], filled["kind"], filled["driver"]["modules"]) == (0, "", "open")


def test_whole_float_of_the_wire_becomes_an_integer() -> None:
    assert role_input.complete("gpu", {"gpus_per_node": 8.0})["gpus_per_node"] == 8


def test_two_calls_do_not_share_a_default() -> None:
    role_input.complete("runtime", {})["registries"].append("x")
    assert role_input.complete("runtime", {})["registries"] == []


@pytest.mark.parametrize(
    ("role", "given", "words"),
    [
        ("host", {"nofiles": "secret-value"}, "host: unknown nofiles"),
        ("host", {"nofile": "secret-value"}, "host.nofile must be int"),
        ("host", {"nofile": True}, "host.nofile must be int"),
        ("host", {"time_servers": [1]}, r"host.time_servers\[0\] must be str"),
        ("runtime", {"engine": "secret-value"}, "runtime.engine must be one of podman, docker"),
        ("no-such-role", {"a": 1}, "no-such-role: unknown a"),
    ],
)
def test_what_does_not_fit_is_named_and_never_shown(role: str, given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        role_input.complete(role, given)
    assert "secret-value" not in str(caught.value)


@pytest.mark.parametrize("role", ["host", "fabric", "gpu", "runtime"])
def test_every_layer_works_without_variables(role: str) -> None:
    """A role without required keys: a pool can be configured before anybody tuned anything."""
    assert role_input.complete(role, {})
