"""What the toolkit changes in the Pulumi SDK, and why."""

from __future__ import annotations

from importlib import metadata
from typing import Any

SDK_VERSION = "3.259.0"
"""The version that was looked at. With another one nothing is changed."""


def leave_out_stack_traces() -> bool:
    """Makes the SDK send no stack traces with resources; returns whether it did.

    They are 55 % of the state and put paths of this machine into it. The SDK has no switch.
    """
    if metadata.version("pulumi") != SDK_VERSION:
        return False
    from pulumi.runtime import resource
    from pulumi.runtime.proto import source_pb2

    def empty() -> Any:
        return source_pb2.StackTrace()

    resource._get_stack_trace = empty
    return True
