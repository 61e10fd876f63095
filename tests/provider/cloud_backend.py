"""The contract's view of the test cloud."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.provider.cloud import Cloud, Gang, Network
from tests.provider.contract import Backend

PASSWORD = "correct-horse-battery"


class GangBackend(Backend):
    """Two nodes; the first one is slow on demand."""

    def __init__(self, folder: Path) -> None:
        self.resource = Gang()
        self.folder = folder
        self.cloud = Cloud(str(folder))

    def values(self) -> dict[str, Any]:
        return {"cloud": str(self.folder), "nodes": [{"name": "n0"}, {"name": "n1", "size": 2}]}

    def changed(self) -> dict[str, Any]:
        return {**self.values(), "nodes": [{"name": "n0", "size": 5}, {"name": "n1", "size": 2}]}

    def parts(self) -> dict[str, str]:
        found = self.cloud.all()
        names = [o["name"] for o in found]
        assert len(set(names)) == len(names), f"made twice: {names}"
        return {o["name"]: o["id"] for o in found}

    def kill_part(self) -> str | None:
        found = sorted(self.cloud.all(), key=lambda thing: thing["name"])
        if found:
            self.cloud.drop(found[0])
            return str(found[0]["name"])
        return None

    def slow(self) -> None:
        for name in ("n0.slow", "n1.slow", "it.slow"):
            (self.folder / name).touch()

    def quick(self) -> None:
        for path in self.folder.glob("*.slow"):
            path.unlink()


class NetworkBackend(GangBackend):
    """One object, with secrets."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.resource = Network()

    def values(self) -> dict[str, Any]:
        return {"cloud": str(self.folder), "cidr": "10.0.0.0/24", "password": PASSWORD}

    def changed(self) -> dict[str, Any]:
        return {**self.values(), "size": 7}

    def kill_part(self) -> str | None:
        return None

    def secret_texts(self) -> list[str]:
        return [PASSWORD, *[o["key"] for o in self.cloud.all()]]
