"""The table of resource types, and the schema made of the classes. Pure; the engine checks the schema elsewhere."""

from __future__ import annotations

import json
import sys
import threading
from dataclasses import dataclass
from typing import Any

import pytest
from aifactory.provider import registry, schema, tokens
from aifactory.provider.engine_log import PROGRESS_INTERVAL_S, Mask, Throttle
from aifactory.provider.registry import Registry
from aifactory.provider.resource import Refused, Resource

from tests.provider import cloud


def test_every_resource_token_has_a_class() -> None:
    named = {v for k, v in vars(tokens).items() if k.isupper() and not k.startswith("COMPONENT")}
    assert set(registry.CLASSES) == named


def test_type_tokens_do_not_change_unnoticed() -> None:
    """Changing one is a migration: aliases in the program, a line in the changelog, then this list."""
    assert sorted(registry.CLASSES) == [
        "aifactory:aws:Bucket",
        "aifactory:aws:Door",
        "aifactory:aws:FileSystem",
        "aifactory:aws:Identity",
        "aifactory:aws:Key",
        "aifactory:aws:LaunchTemplate",
        "aifactory:aws:Network",
        "aifactory:aws:NodePool",
        "aifactory:aws:PlacementGroup",
        "aifactory:host:Configuration",
        "aifactory:host:Keys",
        "aifactory:local:Network",
        "aifactory:local:NodeImage",
        "aifactory:local:NodePool",
        "aifactory:service:Acceptance",
        "aifactory:service:EngineImage",
        "aifactory:service:FrontDoor",
        "aifactory:service:Service",
        "aifactory:static:NodePool",
    ]


@pytest.mark.parametrize("token", list(registry.CLASSES))
def test_every_class_can_be_made_and_said(token: str) -> None:
    resource = registry.default().get(token)
    assert resource.token == token
    inputs = resource.Inputs.__dataclass_fields__
    assert "token" not in inputs or inputs["token"].metadata["check"]
    one = Registry("aifactory", {token: registry.CLASSES[token]})
    assert token in schema.document(one, "0")["resources"]


def test_a_resource_is_made_once() -> None:
    table = cloud.registry()
    assert table.get(cloud.GANG) is table.get(cloud.GANG)


def test_unknown_token_names_the_nearest() -> None:
    with pytest.raises(Refused, match="no resource type aifactory:test:Netwrk; nearest: aifactory:test:Network"):
        cloud.registry().get("aifactory:test:Netwrk")


def test_class_under_another_token_is_a_bug() -> None:
    with pytest.raises(TypeError, match="says that it is aifactory:test:Gang"):
        Registry("x", {"aifactory:x:Y": cloud.CLASSES[cloud.GANG]}).get("aifactory:x:Y")


def test_schema_says_all_that_the_dataclasses_say() -> None:
    document = json.loads(schema.text(cloud.registry(), "1.2.3"))
    assert (document["name"], document["version"]) == ("aifactory", "1.2.3")
    network = document["resources"][cloud.NETWORK]
    assert network["inputProperties"]["cidr"] == {
        "type": "string",
        "description": "Addresses.",
        "willReplaceOnChanges": True,
    }
    assert network["inputProperties"]["password"]["secret"] is True
    assert network["inputProperties"]["size"] == {"type": "integer", "description": "Changes in place.", "default": 1}
    assert network["inputProperties"]["labels"]["additionalProperties"] == {"type": "string"}
    assert network["requiredInputs"] == ["cloud", "cidr"]
    assert network["properties"]["generation_seen"] == {
        "type": "integer",
        "description": "The generation it was made with.",
    }
    gang = document["resources"][cloud.GANG]["inputProperties"]["nodes"]
    assert gang["items"] == {"$ref": "#/types/aifactory:provider:Node"}
    assert document["types"]["aifactory:provider:Node"]["required"] == ["name"]
    assert document["config"]["variables"]["deployment"]["type"] == "string"


def test_schema_refuses_two_types_of_one_name() -> None:
    @dataclass(frozen=True)
    class Node:
        other: str

    class Other(cloud.Gang):
        token = "aifactory:test:Other"

        @dataclass(frozen=True)
        class Inputs:
            node: Node

    Node.__module__ = cloud.__name__
    Other.Inputs.__annotations__["node"] = Node
    sys.modules[__name__].Other = Other  # type: ignore[attr-defined]
    table = Registry("aifactory", {**cloud.CLASSES, "aifactory:test:Other": f"{__name__}:Other"})
    with pytest.raises(TypeError, match="two classes would be aifactory:provider:Node"):
        schema.document(table, "0")


def test_schema_of_a_type_that_the_wire_has_not_is_a_bug() -> None:
    with pytest.raises(TypeError, match="the schema cannot say"):
        schema._Builder("x").kind(set[str])


def test_mask_hides_whole_secrets_and_their_lines_but_no_short_words() -> None:
    pem = "-----BEGIN KEY-----\nc2VjcmV0LWxpbmU=\n-----END KEY-----\n"
    mask = Mask([pem, "abc", "long-secret", "long-secret-and-longer"])
    text = "abc long-secret-and-longer long-secret c2VjcmV0LWxpbmU= -----BEGIN KEY-----"
    assert mask(text) == "abc [secret] [secret] [secret] -----BEGIN KEY-----"


class Clock:
    """Time that a test moves; `later` is what Throttle starts its late lines with."""

    def __init__(self) -> None:
        self.now = 0.0
        self.due: list[tuple[float, Any]] = []

    def later(self, seconds: float, function: Any) -> Any:
        entry = (self.now + seconds, function)
        self.due.append(entry)
        timer = threading.Timer(0, function)
        timer.cancel = lambda: self.due.remove(entry)  # type: ignore[method-assign]
        return timer

    def move(self, seconds: float) -> None:
        self.now += seconds
        for entry in [e for e in self.due if e[0] <= self.now]:
            self.due.remove(entry)
            entry[1]()


def test_throttle_says_one_line_a_second_and_the_newest_late_rather_than_never() -> None:
    said: list[str] = []
    clock = Clock()
    say = Throttle(said.append, lambda: clock.now, clock.later)
    for text in ("1/4", "2/4", "3/4"):
        say(text)
    assert said == ["1/4"]
    clock.move(PROGRESS_INTERVAL_S)
    assert said == ["1/4", "3/4"]
    say("3/4")
    clock.move(PROGRESS_INTERVAL_S)
    assert said == ["1/4", "3/4"], "a repeated line says nothing"
    clock.move(PROGRESS_INTERVAL_S)
    say("4/4")
    assert said == ["1/4", "3/4", "4/4"]


def test_throttle_of_a_call_that_is_over_is_silent() -> None:
    said: list[str] = []
    clock = Clock()
    say = Throttle(said.append, lambda: clock.now, clock.later)
    say("1/2")
    say("2/2")
    say.close()
    say("3/2")
    clock.move(5)
    assert said == ["1/2"]
    assert clock.due == []


def test_resources_are_resources() -> None:
    made: list[Resource[Any, Any]] = cloud.registry().all()
    assert [r.token for r in made] == [cloud.NETWORK, cloud.GANG]
