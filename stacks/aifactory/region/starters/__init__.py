"""The commented files that `aifactory init` writes, one a provider kind; each is valid as it is written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

KINDS = ("local", "static", "aws")
FOLDER = Path(__file__).parent


def starter(name: str, kind: str) -> str:
    """The first file of region `name`. Raises KeyError for a kind that is not one of KINDS."""
    if kind not in KINDS:
        raise KeyError(kind)
    cidr, port = _local_network(name)
    words = {"@NAME@": name, "@CIDR@": cidr, "@PORT@": str(port)}
    template = (FOLDER / f"{kind}.yaml").read_text(encoding="utf-8")
    return "".join(_filled(line, words) for line in template.splitlines(keepends=True))


def _filled(line: str, words: Mapping[str, str]) -> str:
    """The line with its words, its comment in the column where it stood."""
    code, mark, comment = line.partition("  # ")
    width = len(code)
    for word, value in words.items():
        code, comment = code.replace(word, value), comment.replace(word, value)
    return f"{code.rstrip().ljust(width)}{mark}{comment}" if mark and code.strip() else code + mark + comment


def _local_network(name: str) -> tuple[str, int]:
    """Network and port that follow from the name, so that two local regions can most likely stand side by side.

    10.65 to 10.87: beside the default region's 10.64, below podman's own 10.88.
    """
    if name == "local":
        return "10.64.0.0/16", 8443
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4])
    return f"10.{65 + number % 23}.{16 * (number // 23 % 16)}.0/20", 8444 + number // 368 % 500
