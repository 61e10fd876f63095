"""The one dict that a role takes: checked against, and completed from, its `meta/argument_specs.yml`.

This is the only check of a run of the toolkit: Ansible's own would be a task a role and host. By hand Ansible makes it,
but it does not apply nested defaults; the inventory has to be whole.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from aifactory import paths

from .play import Play

_TYPES: dict[str, type | tuple[type, ...]] = {
    "str": str, "path": str, "int": int, "float": (int, float), "bool": bool, "list": (list, tuple), "dict": Mapping,
}  # fmt: skip


def roles(play: Play) -> tuple[str, ...]:
    """Roles whose dict the inventory writes: the layers, and any other role that variables are given for."""
    return tuple(dict.fromkeys((*play.layers, *play.role_vars, *play.secret_vars, *play.local_vars)))


def merged(play: Play, role: str) -> dict[str, Any]:
    """The whole dict of a role: defaults of its argument specification, then variables, secrets, local paths."""
    given = (play.role_vars, play.secret_vars, play.local_vars)
    return complete(role, {key: value for part in given for key, value in part.get(role, {}).items()})


def complete(role: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` with the defaults filled in. Raises ValueError that names the key; never shows a value."""
    return _dict(role, _options(role), given)


def _options(role: str) -> Mapping[str, Any]:
    """Options of the dict called like the role; empty for a role without arguments."""
    file = paths.PLAYBOOKS / "roles" / role / "meta" / "argument_specs.yml"
    if not file.is_file():
        return {}
    spec = _load(file, file.stat().st_mtime_ns)
    options: Mapping[str, Any] = spec["argument_specs"]["main"]["options"][role]["options"]
    return options


@lru_cache(maxsize=64)
def _load(file: Path, _mtime_ns: int) -> Any:
    from ruamel.yaml import YAML

    return YAML(typ="safe", pure=True).load(file)


def _dict(where: str, options: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    if unknown := sorted(set(given) - set(options)):
        raise ValueError(f"{where}: unknown {', '.join(unknown)} (known: {', '.join(options) or 'none'})")
    whole: dict[str, Any] = {}
    for key, option in options.items():
        path = f"{where}.{key}"
        if key in given and given[key] is not None:
            whole[key] = _value(path, option, given[key])
        elif "default" in option:
            whole[key] = _value(path, option, copy.deepcopy(option["default"]))
        elif option.get("required"):
            raise ValueError(f"{path} is required")
        elif option.get("type") == "dict" and "options" in option:
            whole[key] = _dict(path, option["options"], {})
    return whole


def _value(path: str, option: Mapping[str, Any], value: Any) -> Any:
    kind = option.get("type", "str")
    if kind == "int" and isinstance(value, float) and value.is_integer():
        value = int(value)
    if kind in _TYPES and (not isinstance(value, _TYPES[kind]) or (kind != "bool" and isinstance(value, bool))):
        raise ValueError(f"{path} must be {kind}")
    if "choices" in option and value not in option["choices"]:
        raise ValueError(f"{path} must be one of {', '.join(map(str, option['choices']))}")
    if kind == "list" and "options" not in option:
        return [_value(f"{path}[{i}]", {"type": option.get("elements", "raw")}, item) for i, item in enumerate(value)]
    if "options" not in option:
        return value
    if kind == "list":
        return [_dict(f"{path}[{i}]", option["options"], item) for i, item in enumerate(value)]
    return _dict(path, option["options"], value)
