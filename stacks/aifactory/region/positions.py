"""Where each key and value of a region file stands."""

from __future__ import annotations

import re
from dataclasses import replace

from aifactory.errors import Place, Problem
from aifactory.region.document import Mapping, Node, Scalar, Sequence
from aifactory.region.text import Text

Path = tuple[str | int, ...]
PART = re.compile(r"\[(\d+)\]|([^.\[\]]+)")


class Positions:
    """Places by path (`("pools", 0, "shape")`). A path that the file lacks gets its nearest section's place."""

    def __init__(self, text: Text, root: Mapping) -> None:
        self.text = text
        self.root = root

    def value(self, path: Path) -> Place:
        """Place of the value at `path`; of the key where the value is left empty."""
        key, node, rest = self._find(path)
        if rest and key is not None:
            return self.text.place(key.start, key.end)
        if isinstance(node, Scalar) and node.start == node.end and key is not None:
            return self.text.place(key.start, key.end)
        return self.text.place(node.start, node.end)

    def key(self, path: Path) -> Place:
        """Place of the key at the end of `path`; of the item where the path ends in a list."""
        key, node, _ = self._find(path)
        if key is not None:
            return self.text.place(key.start, key.end)
        return self.text.place(node.start, node.end)

    def written(self, path: Path) -> Node | None:
        """What the file has at `path`, None where it has nothing."""
        _, node, rest = self._find(path)
        return None if rest else node

    def placed(self, problem: Problem) -> Problem:
        """The problem with the place its `path` names, where it has a path and no place yet."""
        if problem.place is not None or not problem.path:
            return problem
        path: Path = tuple(int(index) if index else name for index, name in PART.findall(problem.path))
        return replace(problem, place=self.value(path))

    def _find(self, path: Path) -> tuple[Scalar | None, Node, Path]:
        """(key, value, what of the path is left) of the deepest thing on `path` that the file has."""
        key: Scalar | None = None
        node: Node = self.root
        for depth, part in enumerate(path):
            if isinstance(node, Mapping) and part in node.items:
                key, node = node.items[str(part)]
            elif isinstance(node, Sequence) and isinstance(part, int) and part < len(node.items):
                key, node = None, node.items[part]
            else:
                return key, node, path[depth:]
        return key, node, ()


def dotted(path: Path) -> str:
    """`pools[0].shape`."""
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).removeprefix(".")
