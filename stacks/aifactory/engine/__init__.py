"""The Pulumi engine, run for one region at a time: `Stack`, and the typed events of its runs."""

from aifactory.engine.outcome import Change, Failure, Outcome
from aifactory.engine.stack import Stack

__all__ = ["Change", "Failure", "Outcome", "Stack"]
