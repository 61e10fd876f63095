"""The one change made to the SDK. Real: the SDK that is installed."""

from __future__ import annotations

import pytest
from aifactory import catalog
from aifactory.components import sdk
from pulumi.runtime import resource


def test_version_looked_at_is_the_locked_one() -> None:
    """A new SDK: look at `_get_stack_trace` again, then raise SDK_VERSION."""
    assert catalog.versions()["pulumi-sdk"].version == sdk.SDK_VERSION


def test_leave_out_stack_traces_sends_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "_get_stack_trace", resource._get_stack_trace)
    assert sdk.leave_out_stack_traces()
    trace = resource._get_stack_trace()
    assert not trace.frames
    assert resource._get_source_position(trace) is None


def test_leave_out_stack_traces_other_version_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = resource._get_stack_trace
    monkeypatch.setattr(sdk, "SDK_VERSION", "0.0.0")
    assert not sdk.leave_out_stack_traces()
    assert resource._get_stack_trace is before
