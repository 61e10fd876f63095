"""What the tests of the smaller resources of a cloud share: their backend on the emulator, and who else is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from aifactory.provider.aws import api, tags
from aifactory.provider.resource import Resource
from botocore.exceptions import ClientError

from tests.emulator import Emulator
from tests.provider.contract import Backend
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
