"""The event parser against streams recorded from the real engine (3.259.0) with the provider of tests/engine/tiny.

Real: the recorded lines. Debug lines were thinned out and folder names changed; nothing else was touched.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from aifactory.engine.events import (
    Diagnostic,
    Event,
    ResourceBegin,
    ResourceDone,
    ResourceFailed,
    Summary,
    parse,
    unwrap,
    urn_name,
    urn_type,
)

STREAMS = Path(__file__).parent / "streams"
THING = "urn:pulumi:one::tiny::tiny:index:Group$tiny:index:Thing::a"


def read(name: str) -> list[Event]:
    lines = (STREAMS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [event for line in lines if (event := parse(line)) is not None]


def test_a_first_up_begins_ends_and_sums_up() -> None:
    events = read("up_create")
    assert [e.name for e in events if isinstance(e, ResourceBegin)] == ["tiny-one", "group", "a", "b"]
    assert [e.name for e in events if isinstance(e, ResourceDone)] == ["group", "a", "b", "tiny-one"]
    assert [e for e in events if isinstance(e, Summary)] == [Summary("succeeded", {"create": 4}, 3.0)]


def test_progress_of_a_resource_is_ephemeral_and_names_it() -> None:
    progress = [e for e in read("up_create") if isinstance(e, Diagnostic)]
    assert [(e.name, e.message, e.ephemeral) for e in progress] == [("b", "step 0", True), ("b", "step 1", True)]


def test_outputs_of_the_stack_come_with_secrets_masked() -> None:
    done = [e for e in read("up_create") if isinstance(e, ResourceDone)]
    assert done[-1].outputs == {"plain": 1, "secret_x": "[secret]"}
    assert not any(e.outputs for e in done[:-1]), "a resource's own outputs are nobody's business here"


def test_debug_lines_are_dropped() -> None:
    text = (STREAMS / "up_create.jsonl").read_text()
    assert '"severity":"debug"' in text
    assert not [e for e in read("up_create") if isinstance(e, Diagnostic) and e.severity == "debug"]


def test_a_half_made_resource_has_an_id_and_its_reasons_a_refused_one_has_neither() -> None:
    failed = {e.name: e for e in read("up_failed") if isinstance(e, ResourceFailed)}
    assert failed["d"].id == "/things/d.json"
    assert failed["d"].reasons == ("unreachable: n1", "failed (task X): n2")
    assert failed["c"].id == ""
    assert failed["c"].reasons == ()


def test_a_preview_marks_its_events_and_its_summary() -> None:
    events = read("preview")
    assert all(e.planning for e in events if isinstance(e, ResourceBegin | ResourceDone))
    assert [e.preview for e in events if isinstance(e, Summary)] == [True]


def test_pending_operations_are_a_warning() -> None:
    warnings = [e for e in read("up_pending") if isinstance(e, Diagnostic) and e.severity == "warning"]
    assert "1 pending operations" in warnings[0].message


def test_changed_paths_come_with_their_kind() -> None:
    meta = {"op": "update", "urn": THING, "type": "tiny:index:Thing", "detailedDiff": {"size": {"diffKind": "update"}}}
    event = parse(json.dumps({"resourcePreEvent": {"metadata": meta}}))
    assert isinstance(event, ResourceBegin)
    assert event.changed == (("size", "update"),)


def test_a_line_that_is_not_json_is_an_error() -> None:
    with pytest.raises(ValueError, match="Expecting value"):
        parse("error: something went wrong")


def test_unwrap_masks_at_every_depth() -> None:
    secret = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "ciphertext": "v1:x"}
    assert unwrap({"a": [secret, {"b": secret}], "c": 1}) == {"a": ["[secret]", {"b": "[secret]"}], "c": 1}


def test_name_and_type_of_a_urn() -> None:
    assert (urn_name(THING), urn_type(THING)) == ("a", "tiny:index:Thing")
    assert (urn_name(""), urn_type("")) == ("", "")
