"""The engine's lock: which binaries, from which modules, with which flags; and the cache key made of it."""

from __future__ import annotations

import hashlib
import platform
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
GO_FOLDERS = HERE / "go"


@dataclass(frozen=True)
class Binary:
    """One `go build`: the package, the folder whose go.mod and go.sum pin it, the version stamped into it."""

    name: str
    version: str
    folder: str
    package: str
    stamp: str


@dataclass(frozen=True)
class Script:
    """A file copied out of a module into bin/."""

    name: str
    folder: str
    module: str
    file: str


@dataclass(frozen=True)
class Lock:
    at_least: tuple[int, ...]
    below: tuple[int, ...]
    tags: str
    binaries: tuple[Binary, ...]
    scripts: tuple[Script, ...]
    kubernetes: Binary
    kubernetes_module: str
    engine_key: str
    """Names the cache folder of the engine: changes when anything changes that it is built from."""
    kubernetes_key: str

    @property
    def pulumi_version(self) -> str:
        return next(b.version for b in self.binaries if b.name == "pulumi")


@cache
def load() -> Lock:
    """The lock of this checkout."""
    data = tomllib.loads((HERE / "lock.toml").read_text(encoding="utf-8"))
    binaries = tuple(Binary(name=name, **row) for name, row in data["binaries"].items())
    scripts = tuple(Script(name=name, **row) for name, row in data["scripts"].items())
    row = data["kubernetes"]
    module = row.pop("module")
    kubernetes = Binary(name="pulumi-resource-kubernetes", **row)
    return Lock(
        at_least=parse_version(data["path"]["at_least"]),
        below=parse_version(data["path"]["below"]),
        tags=data["build"]["tags"],
        binaries=binaries,
        scripts=scripts,
        kubernetes=kubernetes,
        kubernetes_module=module,
        engine_key=_key([data["build"], data["binaries"], data["scripts"]], sorted({b.folder for b in binaries})),
        kubernetes_key=_key([data["build"], data["kubernetes"], module], [kubernetes.folder]),
    )


def _key(parts: list[object], folders: list[str]) -> str:
    digest = hashlib.sha256(f"{platform.system()}/{platform.machine()}\n{parts!r}\n".encode())
    for folder in folders:
        for path in sorted((GO_FOLDERS / folder).iterdir()):
            if path.name in {"go.mod", "go.sum"} or path.suffix == ".go":
                digest.update(f"{folder}/{path.name}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def parse_version(text: str) -> tuple[int, ...]:
    """`v3.259.0-dev` → (3, 259, 0); an empty tuple when there is no version in the text."""
    match = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part or 0) for part in match.groups()) if match else ()


def version_text(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)


def go_required(folder: str) -> tuple[int, ...]:
    """The Go version that go/<folder>/go.mod asks for."""
    for line in (GO_FOLDERS / folder / "go.mod").read_text(encoding="utf-8").splitlines():
        if line.startswith("go "):
            return parse_version(line)
    return (1, 0, 0)
