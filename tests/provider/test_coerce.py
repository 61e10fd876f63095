"""Decoded trees to typed values and back through real protobuf messages. Pure."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from aifactory.provider import coerce, wire
from aifactory.provider.resource import UNKNOWN, prop
from google.protobuf import struct_pb2
from hypothesis import given
from hypothesis import strategies as st


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Inner:
    name: str
    ports: tuple[int, ...] = ()
    password: str = prop("", doc="", secret=True)


@dataclass(frozen=True)
class Outer:
    count: int
    inner: Inner
    ratio: float = 1.0
    on: bool = False
    note: str | None = None
    many: tuple[Inner, ...] = ()
    pair: tuple[str, int] | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    by_name: dict[str, Inner] = field(default_factory=dict)
    level: Literal["low", "high"] = "low"
    colour: Colour = Colour.RED
    either: int | str = 0
    free: Any = None
    key: str = prop("", doc="", secret=True)


GOOD: dict[str, Any] = {"count": 2.0, "inner": {"name": "a"}}


def struct(tree: Mapping[str, Any]) -> struct_pb2.Struct:
    return wire.dump(tree, preview=True)


def load(tree: Mapping[str, Any], *, lenient: bool = False) -> coerce.Loaded:
    return coerce.load(Outer, tree, lenient=lenient)


def reasons(tree: Mapping[str, Any]) -> dict[str, str]:
    return {wire.show(f.path): f.reason for f in load(tree).failures}


def wrapped(value: str) -> struct_pb2.Value:
    message = struct_pb2.Struct()
    message.fields[wire.SIGNATURE].string_value = wire.SECRET
    message.fields["value"].string_value = value
    return struct_pb2.Value(struct_value=message)


def test_everything_survives_the_wire() -> None:
    given_ = Outer(
        count=3,
        inner=Inner("a", (1, 2), "s"),
        ratio=0.5,
        on=True,
        note="n",
        many=(Inner("b"), Inner("c", (9,))),
        pair=("x", 7),
        labels={"a.b": "c"},
        by_name={"z": Inner("z")},
        level="high",
        colour=Colour.BLUE,
        either="text",
        free={"deep": [1, 2.5, None, {"x": True}]},
        key="k",
    )
    assert load(wire.decode(wire.dump(given_))).value == given_


def test_floats_become_the_type_of_the_field() -> None:
    value = load({**GOOD, "ratio": 2.0, "many": [{"name": "b", "ports": [8000.0]}], "free": {"port": 8000.0}}).value
    assert type(value.count) is int
    assert type(value.ratio) is float
    assert type(value.many[0].ports[0]) is int
    assert type(value.free["port"]) is int


@pytest.mark.parametrize(
    ("change", "path", "reason"),
    [
        ({"count": 2.5}, "count", "must be a whole number"),
        ({"count": 2.0**53}, "count", "is too large to be exact"),
        ({"count": math.nan}, "count", "must be a finite number"),
        ({"count": "2"}, "count", "must be a whole number, is text"),
        ({"count": True}, "count", "must be a whole number, is true or false"),
        ({"count": None}, "count", "is required"),
        ({"on": 1.0}, "on", "must be true or false, is a number"),
        ({"note": 1.0}, "note", "must be text, is a number"),
        ({"inner": "a"}, "inner", "must be an object, is text"),
        ({"inner": {}}, "inner.name", "is required"),
        ({"many": {"name": "a"}}, "many", "must be a list, is an object"),
        ({"many": [{"name": "a"}, {"name": 1.0}]}, "many[1].name", "must be text, is a number"),
        ({"many": [None]}, "many[0]", "must be an object, is null"),
        ({"pair": ["x"]}, "pair", "must have 2 items, has 1"),
        ({"labels": {"a.b": 1.0}}, 'labels["a.b"]', "must be text, is a number"),
        ({"level": "hihg"}, "level", "must be one of low, high; did you mean high?"),
        ({"colour": "green"}, "colour", "must be one of red, blue"),
        ({"either": []}, "either", "must be text, is a list"),
        ({"inner": {"name": "a", "prots": []}}, "inner.prots", "is not a property here; did you mean ports?"),
        ({"zzz": 1.0}, "zzz", "is not a property here"),
    ],
)
def test_wrong_value_is_named_by_its_path_and_why(change: dict[str, Any], path: str, reason: str) -> None:
    found = reasons({**GOOD, **change})
    assert list(found) == [path]
    assert found[path].startswith(reason)


def test_all_failures_are_gathered() -> None:
    assert set(reasons({"inner": {}, "ratio": "x", "nope": 1.0})) == {"count", "inner.name", "ratio", "nope"}


def test_the_engines_own_keys_are_passed_over() -> None:
    assert reasons({**GOOD, "__defaults": []}) == {}


def test_unknown_is_taken_anywhere() -> None:
    tree = wire.decode(struct({"count": UNKNOWN, "inner": {"name": UNKNOWN}, "many": [UNKNOWN], "labels": UNKNOWN}))
    value = load(tree).value
    assert value.count is UNKNOWN
    assert value.inner.name is UNKNOWN
    assert value.many == (UNKNOWN,)
    assert value.labels is UNKNOWN


@pytest.mark.parametrize("signature", list(wire.REFUSED))
def test_assets_and_their_like_are_refused_by_name(signature: str) -> None:
    message = struct(GOOD)
    message.fields["note"].struct_value.fields[wire.SIGNATURE].string_value = signature
    assert load(wire.decode(message)).failures[0].reason.endswith("which this provider does not take")


def test_declared_and_wrapped_secrets_are_remembered_and_wrapped_again() -> None:
    message = struct({**GOOD, "key": "k"})
    message.fields["inner"].struct_value.fields["name"].CopyFrom(wrapped("hidden name"))
    loaded = load(wire.decode(message))
    assert {("key",), ("inner", "name"), ("inner", "password")} <= loaded.secrets
    back = wire.dump(loaded.value, loaded.secrets)
    tree = wire.decode(back)
    assert tree["key"] == wire.Secret("k")
    assert tree["inner"]["name"] == wire.Secret("hidden name")
    assert sorted(wire.secret_texts(tree)) == ["", "hidden name", "k"]


def test_failure_at_above_or_below_a_secret_is_hidden() -> None:
    message = struct(GOOD)
    message.fields["note"].CopyFrom(wrapped("x"))
    message.fields["count"].CopyFrom(wrapped("not a number"))
    message.fields["inner"].struct_value.fields["password"].number_value = 3
    message.fields["ratio"].string_value = "plain"
    hidden = {wire.show(f.path): f.hidden for f in load(wire.decode(message)).failures}
    assert hidden == {"count": True, "inner.password": True, "ratio": False}


def test_unknown_key_is_hidden_since_it_may_be_a_misspelt_secret() -> None:
    [failure] = load({**GOOD, "kei": "secret"}).failures
    assert failure.hidden


def test_lenient_reads_what_another_version_left() -> None:
    loaded = load({"count": "many", "inner": {"name": 3.0, "gone": 1.0}, "pair": 5.0, "new": {}}, lenient=True)
    assert loaded.failures == []
    assert loaded.value == Outer(count=0, inner=Inner(""))


def test_empty_says_nothing_for_every_type() -> None:
    assert coerce.load(Outer, {}, lenient=True).value == Outer(0, Inner(""))
    assert coerce.empty(tuple[str, int]) == ("", 0)
    assert coerce.empty(Colour) is Colour.RED
    assert coerce.empty(Literal["low", "high"]) == "low"


@pytest.mark.parametrize("value", [b"bytes", object(), 2**53, {wire.SIGNATURE: "x"}, {1, 2}])
def test_what_the_wire_cannot_carry_is_a_bug_with_its_path(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^inner\.free"):
        wire.dump({"inner": {"free": value}})


def test_unknown_is_left_out_of_a_result_and_sent_in_a_preview() -> None:
    value = {"a": UNKNOWN, "b": [UNKNOWN, 1]}
    assert wire.decode(wire.dump(value)) == {"b": [None, 1.0]}
    assert wire.decode(wire.dump(value, preview=True)) == {"a": UNKNOWN, "b": [UNKNOWN, 1.0]}


def test_changed_names_the_smallest_parts() -> None:
    old = Outer(1, Inner("a", (1, 2)), labels={"x": "1", "y": "1"}, many=(Inner("b"),))
    new = Outer(1, Inner("a", (1, 3)), labels={"x": "1", "y": "2"}, many=(Inner("b"), Inner("c")))
    assert [wire.show(p) for p in wire.changed(old, new)] == ["inner.ports[1]", "many[1]", "labels.y"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values.filter(lambda v: v is not None), max_size=4))
def test_untyped_values_survive_the_wire(free: dict[str, Any]) -> None:
    def without_sentinel(tree: Any) -> bool:
        return wire.UNKNOWN_STRING not in repr(tree) and wire.SIGNATURE not in repr(tree)

    if without_sentinel(free):
        assert load(wire.decode(wire.dump({**GOOD, "free": free}))).value.free == free


@given(st.dictionaries(st.sampled_from(list(Outer.__dataclass_fields__)), json_values))
def test_no_tree_makes_the_loader_fail_or_lie(tree: dict[str, Any]) -> None:
    for lenient in (False, True):
        loaded = load(tree, lenient=lenient)
        assert loaded.failures or isinstance(loaded.value, Outer)
        assert not (lenient and loaded.failures)
