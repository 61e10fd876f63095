"""The contract's driver on the real engine: every `up` is a run of the CLI with a server of its own."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from aifactory.provider import coerce

from tests.provider.contract import Backend
from tests.provider.harness import State
from tests.provider.pulumi_project import Project, custom


class RealDriver:
    def __init__(self, backend: Backend, project: Project) -> None:
        self._backend, self.project = backend, project
        self._token = backend.resource.token
        self._said = ""

    @property
    def state(self) -> State | None:
        found = self.project.resource("it")
        if "ciphertext" in str(found):
            found = self.project.clear_text("it")
        if found is None:
            return None
        resource = self._backend.resource
        inputs = coerce.load(resource.Inputs, found["inputs"], lenient=True).value
        outputs = coerce.load(resource.Outputs, found["outputs"], lenient=True).value
        return State(found["id"], inputs, outputs, tuple(found.get("initErrors") or ()))

    def up(self, values: dict[str, Any], *more: str) -> State:
        self._write(values)
        self._said += self.project.up(*more).ok().output
        state = self.state
        assert state
        return state

    def would_change(self, values: dict[str, Any]) -> bool:
        self._write(values)
        result = self.project.preview("--diff")
        self._said += result.ok().output
        return any(f" to {verb}" in result.output for verb in ("create", "update", "replace", "delete"))

    def refresh(self) -> State | None:
        self._said += self.project.refresh().ok().output
        return self.state

    def destroy(self) -> None:
        self._said += self.project.destroy().ok().output

    def taint(self, values: dict[str, Any]) -> State:
        found = self.project.resource("it")
        assert found
        return self.up(values, "--replace", found["urn"])

    def cancelled_up(self, values: dict[str, Any], when: Callable[[], bool]) -> None:
        self._write(values)
        self.project.interrupted(signal.SIGINT, when, "up", "-s", "it", "--yes", "--skip-preview").failed()
        assert self.project.pending() == []

    def killed_up(self, values: dict[str, Any], when: Callable[[], bool]) -> None:
        self._write(values)
        self.project.killed(when, "up", "-s", "it", "--yes", "--skip-preview")

    def written(self) -> str:
        states = [p.read_text() for p in self.project.folder.glob("state/**/*.json")]
        return "\n".join([self._said, *states])

    def _write(self, values: dict[str, Any]) -> None:
        secret = {f.name for f in self._fields() if f.metadata.get("secret")}
        inputs = {k: {"secret": v} if k in secret else v for k, v in values.items()}
        outputs = tuple(self._backend.resource.Outputs.__dataclass_fields__)
        self.project.program([custom(self._token, "it", inputs, outputs)])

    def _fields(self) -> list[Any]:
        return list(self._backend.resource.Inputs.__dataclass_fields__.values())
