"""The format as data, for messages: what stands at a path, which keys a section has, what a value must be.

Read from pydantic's JSON schema of the models, and only when something is wrong with a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from aifactory.region.spec import Region

Node = Mapping[str, Any]
Path = tuple[str | int, ...]

FORMS: Mapping[str, tuple[str, str]] = {
    r"^[a-z][a-z0-9-]{1,30}$": ("a lower-case letter, then 1 to 30 of a-z, 0-9 and -", "oslo-lab"),
    r"^[a-z][a-z0-9-]{0,15}$": ("a lower-case letter, then at most 15 of a-z, 0-9 and -", "serve"),
    r"^[a-z][a-z0-9-]{0,30}$": ("a lower-case letter, then at most 30 of a-z, 0-9 and -", "ministry-a"),
    r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$": ("a host name without dots: 1 to 63 of a-z, 0-9 and -", "b200-01"),
    r"^[A-Z]{2}$": ("two capital letters, ISO 3166-1", "DE"),
    r"^[0-9]{1,3}(\.[0-9]{1,3}){3}/[0-9]{1,2}$": ("an IPv4 network", "10.64.0.0/16"),
    r"^[A-Z]{3}$": ("three capital letters", "EUR"),
    r"^[A-Za-z0-9.*-]+:[0-9]{1,5}$": ("a host, a colon, a port", "registry.example.eu:443"),
    r"^[a-z0-9]+([.-][a-z0-9]+)*$": ("the name of a service: words of a-z and 0-9, . or - between", "ecr.api"),
    r"^secret:[a-z][a-z0-9_]*$": ("secret: and the name of an encrypted value", "secret:tls_key"),
    r"^[0-9a-f]{64}$": ("64 of 0-9 and a-f: printf %s KEY | sha256sum", ""),
    r"^[0-9A-F]{40}$": ("40 of 0-9 and A-F: gpg --show-keys FILE", "EB693B3035CD5710E231E123A4B469963BF863CC"),
    r"^https?://[^\s]+$": ("an http or https URL", "https://mirror.example.eu/nvidia"),
    r"^[0-9]{3}(\.[0-9]{1,3}){1,2}$": ("a driver version in quotes", '"580.178.04"'),
    r"^[0-9]+\.[0-9]+\.[0-9]+$": ("three numbers with dots, in quotes", '"1.48.0"'),
    r"^[0-9]+\.[0-9]+(\.[0-9]+)?$": ("two or three numbers with dots, in quotes", '"6.4.4"'),
    r"^[a-z_]+$": ("lower-case letters and _", "max_q"),
    r"^[a-z][a-z0-9_]{0,62}$": ("the name of an RDMA device, as ibv_devices lists it", "mlx5_2"),
    r"^[0-9]{12}$": ("twelve digits in quotes", '"123456789012"'),
    r"^/": ("a path from the root", "/datasets"),
}
"""What each pattern of the spec means to a person, and an example. A test keeps this complete."""


@cache
def _root() -> Node:
    return Region.model_json_schema()


def at(path: Path, data: Any) -> Node | None:
    """The schema of what stands at `path` in `data`; None where the format has nothing there."""
    node: Node | None = _root()
    here = data
    for part in path:
        node = _child(_plain(node, here), part) if node is not None else None
        here = _step(here, part)
    return None if node is None else _plain(node, here)


def tagged(path: Path) -> bool:
    """Whether a `kind` decides what stands at `path` (pydantic then puts that kind into its own paths)."""
    node: Node | None = _root()
    for part in path:
        node = _child(_plain(node, None), part) if node is not None else None
    return node is not None and "discriminator" in node


def keys(node: Node | None) -> tuple[str, ...]:
    return tuple(node.get("properties", ())) if node else ()


def says(node: Node | None) -> str:
    """The one line of documentation of a key."""
    return str(node.get("description", "")) if node else ""


def expected(node: Node | None) -> str:
    """What a value must be, in a few words."""
    if node is None:
        return "nothing"
    if "discriminator" in node:
        return f"a section with `kind:` ({', '.join(choices(node))})"
    words = choices(node)
    if words:
        return words[0] if len(words) == 1 else f"one of {', '.join(words)}"
    return _by_type(node)


def choices(node: Node | None) -> tuple[str, ...]:
    """The words or numbers that are allowed, where they are few."""
    if node is None:
        return ()
    if "discriminator" in node:
        kinds = {target: kind for kind, target in node["discriminator"]["mapping"].items()}
        return tuple(kinds[each["$ref"]] for each in node["oneOf"])  # as the spec has them: the easiest first
    return tuple(str(c) for c in node.get("enum", [node["const"]] if "const" in node else []))


def example(node: Node | None) -> str | None:
    """A value that could stand there."""
    if node is None:
        return None
    if "discriminator" in node:
        return f"{{kind: {choices(node)[0]}}}"
    if words := choices(node):
        return words[0]
    return FORMS.get(str(node.get("pattern")), ("", ""))[1] or None


def elsewhere(key: str) -> Iterator[str]:
    """Other sections that have `key`, as people call them."""
    for name, definition in _root()["$defs"].items():
        if key in definition.get("properties", {}):
            yield name


def _by_type(node: Node) -> str:
    kind = node.get("type")
    if kind in {"integer", "number"}:
        return f"a {'whole ' if kind == 'integer' else ''}number{_range(node)}"
    if kind == "array":
        item = _plain(node["items"], None)
        return "a list of sections" if item.get("type") == "object" else f"a list; each item {expected(item)}"
    if kind == "object":
        return f"a section with the keys {', '.join(keys(node))}" if keys(node) else "names with text each"
    return _text(node)


def _text(node: Node) -> str:
    if node.get("format") == "date":
        return "a date, year-month-day: 2027-03-31"
    form, sample = FORMS.get(str(node.get("pattern")), ("", ""))
    if form:
        return f"{form}: {sample}" if sample else form
    return "text that is not empty" if node.get("minLength") else "text"


def _range(node: Node) -> str:
    low, high, above = node.get("minimum"), node.get("maximum"), node.get("exclusiveMinimum")
    if above is not None:
        return f" above {above:g}"
    if low is not None and high is not None:
        return f", {low:.10g} to {high:.10g}"
    return f", at least {low:.10g}" if low is not None else ""


def _child(node: Node, part: str | int) -> Node | None:
    if isinstance(part, int):
        return node.get("items")
    child = node.get("properties", {}).get(part)
    if child is None and isinstance(node.get("additionalProperties"), Mapping):
        child = node["additionalProperties"]
    return child if isinstance(child, Mapping) else None


def _plain(node: Node, here: Any) -> Node:
    """The node without references, `or null`, and, where `here` says which kind it is, without the choice."""
    if "$ref" in node:
        target = _root()["$defs"][node["$ref"].rsplit("/", 1)[-1]]
        return _plain({**target, **{k: v for k, v in node.items() if k != "$ref"}}, here)
    if "anyOf" in node:
        inner: Node = next((n for n in node["anyOf"] if n.get("type") != "null"), {})
        return _plain({**inner, **{k: v for k, v in node.items() if k != "anyOf"}}, here)
    if "discriminator" in node and isinstance(here, Mapping):
        kind = here.get(node["discriminator"]["propertyName"])
        target = node["discriminator"]["mapping"].get(kind) if isinstance(kind, str) else None
        return _plain({"$ref": target, "description": node.get("description", "")}, here) if target else node
    return node


def value_at(data: Any, path: Path) -> Any:
    """What `data` has at `path`, None where it has nothing."""
    for part in path:
        data = _step(data, part)
    return data


def _step(here: Any, part: str | int) -> Any:
    if isinstance(here, Mapping):
        return here.get(part)
    if isinstance(here, list) and isinstance(part, int) and part < len(here):
        return here[part]
    return None
