"""What the tests of the smaller resources of a cloud share: their backend on the emulator, and who else is there."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from aifactory.provider.aws import api, tags
from aifactory.provider.resource import Resource
from botocore.exceptions import ClientError

from tests.emulator import Emulator
from tests.provider.contract import Backend, Killed
from tests.provider.harness import DEPLOYMENT, Engine, urn

REGION = "t-eu"
STRANGER = {tags.DEPLOYMENT: "d-other", tags.REGION: "other", tags.URN: "urn:other", tags.TOKEN: "0" * 32}
"""Tags of another deployment's object."""
HOLDER = "region other of deployment d-other"


class CloudBackend(Backend):
    """One resource in a fresh account. A subclass says its values and parts, and where its create gets stuck."""

    def __init__(self, emulator: Emulator, resource: Resource[Any, Any]) -> None:
        self.emulator, self.resource = emulator, resource

    def common(self) -> dict[str, Any]:
        return {"region": REGION, "cloud": self.emulator.cloud()}

    def stick(self, action: str, **rule: Any) -> None:
        """From now on every such call answers 503."""
        self.emulator.fault(action=action, count=-1, **rule)

    def quick(self) -> None:
        self.emulator.no_faults()


class CloudEngine(Engine):
    """The engine's part, and what it asked of the cloud."""

    def __init__(self, backend: CloudBackend) -> None:
        super().__init__(backend.resource)
        self.emulator = backend.emulator

    def unchanged_calls(self, values: dict[str, Any]) -> Counter[str]:
        """Calls of a diff that finds nothing to do, without the one that a process begins with."""
        self.emulator.forget_counts()
        diff, _ = self.preview(values)
        assert diff is not None
        assert not diff.changes, diff
        asked = self.emulator.requests()
        del asked["GetCallerIdentity"]
        return asked

    def drift(self, values: dict[str, Any]) -> tuple[str, ...]:
        """What a preview says of the world."""
        diff, _ = self.preview(values)
        assert diff is not None
        return diff.output_updates


def earlier(resource: Resource[Any, Any]) -> dict[str, str]:
    """Tags of this resource's object as an earlier token left them: what a lost state cannot know."""
    return {tags.DEPLOYMENT: DEPLOYMENT, tags.REGION: REGION, tags.URN: urn(resource), tags.TOKEN: "1" * 32}


def there(call: Callable[[], Any]) -> Any:
    """What a plain client reads; None where it is not there."""
    with suppress(ClientError):
        return call()
    return None


def hasten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks for what a lost create may have made come at once: the emulator sees its own writes."""
    monkeypatch.setattr(api, "LOOKS_S", dict.fromkeys(("lost", "transient", "exists"), (0.0,)), raising=False)


def kill_after_write(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The process dies when the cloud has done what the `number`th call that writes asked for, and before anything
    else: no answer is heard, no journal written, no further call made."""
    real, left, mutex = api.Api._once, [number], threading.Lock()

    def once(asked: api.Api, service: str, action: str, params: Any) -> dict[str, Any]:
        if left[0] <= 0:
            raise Killed
        answer = real(asked, service, action, params)
        if not action.startswith(("Describe", "Get", "Head", "List")):
            with mutex:
                left[0] -= 1
            if left[0] == 0:
                raise Killed
        return answer

    monkeypatch.setattr(api.Api, "_once", once)


def kill_at_every_write(backend: CloudBackend, engine: CloudEngine, monkeypatch: pytest.MonkeyPatch) -> int:
    """A create is killed after its first write, another after its second, and so on; each is gone on with by the next
    up and destroyed. Returns how many there were."""
    values = backend.values()
    wanted: set[str] | None = None
    for number in range(1, 20):
        with monkeypatch.context() as dying:
            kill_after_write(dying, number)
            try:
                engine.up(values)
                killed = False
            except Killed:
                killed = True
        first = backend.parts()
        engine.up(values)
        after = backend.parts()
        assert first.items() <= after.items(), f"made twice after write {number}"
        assert engine.unchanged_calls(values)
        assert wanted in (None, set(after)), f"after write {number}"
        wanted = set(after)
        engine.destroy()
        assert backend.parts() == {}, f"left over after write {number}"
        engine.forget()
        if not killed:
            return number - 1
    raise AssertionError("too many writes")
