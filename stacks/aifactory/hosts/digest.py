"""Digests that say whether a host is up to date: per layer over content and variables, per node over both and the node.

No clock, no mtime, no path of this machine enters; two checkouts of one commit give the same values.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from aifactory import paths

from . import role_input
from .fleet import FleetHost
from .play import Play

_SHARED = ("ansible.cfg", "marker.yml", "roles/marker", "library", "action_plugins", "module_utils")
"""Content of playbooks/ that every layer runs through. The result callback only watches and stays out."""

_ALSO = {"gpu": ("reboot.yml", "roles/reboot")}
"""What a layer's playbook runs besides its own role."""

_SKIPPED = ("__pycache__", ".git", "README.md")

_VOLATILE = frozenset({"address", "port", "host_key", "created_at", "serial", "urn"})
"""Fields of a fleet host that may change without anything to configure on it."""


def digests(play: Play, key: bytes) -> dict[str, str]:
    """SHA-256 for each layer of the play, over: playbook, role, templates, shared plugins, versions, variables, files.

    Secrets enter as HMAC-SHA-256 under `key`, so that a digest can be shown. Raises ValueError like `inventory.build`.
    """
    files = [(file.name, _sha256(file)) for file in play.files]
    versions = {name: metadata.version(name) for name in ("ansible-core", "ansible-runner")}
    others = [role for role in role_input.roles(play) if role not in play.layers]
    result = {}
    for layer in play.layers:
        used = (layer, *others)
        content = {
            "playbook": _tree(
                paths.PLAYBOOKS,
                (play.playbook, f"{layer}.yml", *_SHARED, *_ALSO.get(layer, ()), *(f"roles/{r}" for r in used)),
            ),
            "templates": _tree(paths.TEMPLATES, used),
            "versions": versions,
            "variables": {role: _variables(play, role, key) for role in used},
            "files": files,
        }
        result[layer] = hashlib.sha256(_canonical(content)).hexdigest()
    return result


def node_digest(host: FleetHost, layer_digests: Mapping[str, str]) -> str:
    """What a host's marker must say for it to be up to date: the layers, and what roles see of the host itself."""
    seen = {name: value for name, value in host.to_dict().items() if name not in _VOLATILE}
    return hashlib.sha256(_canonical({"layers": dict(layer_digests), "host": seen})).hexdigest()


def modules() -> str:
    """SHA-256 over everything that a module's archive can hold: our modules and what they import, ansible-core."""
    roles = [f"roles/{role.name}/library" for role in (paths.PLAYBOOKS / "roles").iterdir()]
    content = {
        "modules": _tree(paths.PLAYBOOKS, ("library", "module_utils", *roles)),
        "version": metadata.version("ansible-core"),
    }
    return hashlib.sha256(_canonical(content)).hexdigest()


def _variables(play: Play, role: str, key: bytes) -> dict[str, Any]:
    whole = role_input.merged(play, role)
    for name in play.secret_vars.get(role, {}):
        text = json.dumps([role, name, whole[name]]).encode()
        whole[name] = "hmac:" + hmac.new(key, text, hashlib.sha256).hexdigest()
    return {name: value for name, value in whole.items() if name not in play.local_vars.get(role, {})}


def _tree(base: Path, names: Iterable[str]) -> list[tuple[str, bool, str]]:
    """(relative path, executable, sha256) of the named files and folders, sorted; missing names are left out."""
    found = {
        (
            str(file.relative_to(base)) if file.is_relative_to(base) else file.name,
            bool(file.stat().st_mode & 0o111),
            _sha256(file),
        )
        for name in names
        for file in _files(base / name)
    }
    return sorted(found)


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.is_dir():
        found = (f for f in path.rglob("*") if f.is_file())
        yield from (f for f in found if not any(part in _SKIPPED for part in f.relative_to(path).parts))


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
