"""The wrappers against the plugin's own dataclasses. Real: both sides; nothing is registered."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import pytest
from aifactory.components import aws_resources, resources
from aifactory.provider import registry, tokens

WRAPPERS = {
    cls.token: cls
    for cls in {**vars(aws_resources), **vars(resources)}.values()
    if isinstance(cls, type) and issubclass(cls, resources._Resource) and isinstance(getattr(cls, "token", None), str)
}
ACCESS = {"ssh_private_key", "ssh_private_key_path", "bastion", "bastion_host_key"}
DEFAULTED = {
    tokens.HOST_KEYS: {"generation"},
    tokens.LOCAL_NODE_POOL: {"ready_timeout_s"},
    tokens.AWS_KEY: {"deletion_window_days"},
    tokens.AWS_NETWORK: {"egress_ports"},
    tokens.AWS_NODE_POOL: {"host_keys", "ready_timeout_s"},
    tokens.SERVICE_ENGINE_IMAGE: {"architecture"},
    tokens.SERVICE_FRONT_DOOR: {"listen_port"},
}
"""Inputs that the program leaves to the plugin's default."""

GOLDEN = Path(__file__).parents[1] / "golden" / "tokens.txt"


def test_wrappers_one_for_each_resource_of_the_plugin() -> None:
    assert set(WRAPPERS) == set(registry.CLASSES)


@pytest.mark.parametrize("token", sorted(registry.CLASSES))
def test_wrapper_outputs_equal_the_plugins(token: str) -> None:
    made = registry.default().get(token)
    assert sorted(WRAPPERS[token].outputs()) == sorted(f.name for f in dataclasses.fields(made.Outputs))


@pytest.mark.parametrize("token", sorted(registry.CLASSES))
def test_wrapper_inputs_equal_the_plugins(token: str) -> None:
    made = registry.default().get(token)
    taken = set(inspect.signature(WRAPPERS[token].__init__).parameters) - {"self", "name", "opts"}
    if "called" in taken:  # Pulumi has a word `name` of its own
        taken = (taken - {"called"}) | {"name"}
    if "access" in taken:
        taken = (taken - {"access"}) | ACCESS
    wanted = {f.name for f in dataclasses.fields(made.Inputs) if not f.metadata.get("check")}
    assert taken == wanted - DEFAULTED.get(token, set())


def test_tokens_golden() -> None:
    """A changed token is a migration: `aliases` in the component and an Upgrade line in the changelog."""
    lines = [f"{name} {value}" for name, value in vars(tokens).items() if name.isupper()]
    assert "\n".join(lines) + "\n" == GOLDEN.read_text(encoding="utf-8")
