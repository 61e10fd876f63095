"""The region's resources in this process, one after the other: for faults between the plugin and the cloud."""

from __future__ import annotations

import dataclasses
from typing import Any

from tests.faults import plugin
from tests.faults.region import pick
from tests.provider.harness import Engine, State


class Chain:
    """`up` is one run of the toolkit: every resource in order. `fresh` makes the next run one of a new process."""

    def __init__(self, resources: list[dict[str, Any]]) -> None:
        registry = plugin.registry()
        self.resources = resources
        self.engines = {each["name"]: Engine(registry.get(each["type"]), name=each["name"]) for each in resources}

    def up(self, *, timeout_s: float | None = None) -> None:
        for each in self.resources:
            self.engines[each["name"]].up(self.resolved(each["inputs"]), timeout_s=timeout_s)

    def would_change(self) -> list[str]:
        """Names of the resources whose diff shows something."""
        found = []
        for each in self.resources:
            diff, _ = self.engines[each["name"]].preview(self.resolved(each["inputs"]))
            if diff is None or diff.changes:
                found.append(each["name"])
        return found

    def destroy(self) -> None:
        for each in reversed(self.resources):
            self.engines[each["name"]].destroy()

    def state(self, name: str) -> State:
        found = self.engines[name].state
        assert found is not None, f"{name} is not in the state"
        return found

    def lines(self) -> list[str]:
        return [line for engine in self.engines.values() for line in (*engine.lines.log, *engine.lines.progress)]

    def resolved(self, value: Any) -> Any:
        if isinstance(value, dict) and "from" in value and "output" in value:
            return pick(_plain(getattr(self.state(value["from"]).outputs, value["output"])), value.get("key", ""))
        if isinstance(value, dict):
            return {key: self.resolved(item) for key, item in value.items()}
        return [self.resolved(item) for item in value] if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
