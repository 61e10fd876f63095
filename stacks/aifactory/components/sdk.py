"""What the toolkit asks of the Pulumi SDK beyond its interface, and why."""

from __future__ import annotations

import sys
from importlib import metadata
from typing import Any, NoReturn

import pulumi
from pulumi.runtime import resource
from pulumi.runtime.proto import source_pb2

SDK_VERSION = "3.259.0"
"""The version that was looked at. With another one nothing is changed."""

SHOWN = 32
"""Exit code by which the language host knows that the user has been told: it adds no message of its own."""


def stop(text: str) -> NoReturn:
    """Ends the program with a message and nothing else: no traceback, no second error."""
    pulumi.log.error(f"\n{text}")
    sys.exit(SHOWN)


def leave_out_stack_traces() -> bool:
    """Makes the SDK send no stack traces with resources; returns whether it did.

    They are 55 % of the state and put paths of this machine into it. The SDK has no switch.
    """
    if metadata.version("pulumi") != SDK_VERSION:
        return False

    def empty() -> Any:
        return source_pb2.StackTrace()

    resource._get_stack_trace = empty
    return True
