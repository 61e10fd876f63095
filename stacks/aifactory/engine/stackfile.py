"""Pulumi.<region>.yaml: where it is, the deployment id in it. The engine writes it; we read one line."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from aifactory import paths

KEY = "aifactory:deployment"
_LINE = re.compile(r"""^\s+['"]?aifactory:deployment['"]?:\s*['"]?(?P<id>[^'"\s]+)""", re.MULTILINE)


def path(region: str) -> Path:
    """Beside the region's file, wherever the region files are."""
    return paths.regions_dir() / f"Pulumi.{region}.yaml"


def default_path(project: Path, region: str) -> Path:
    """Where the engine itself puts it: `stackConfigDir` of Pulumi.yaml."""
    match = re.search(r"^stackConfigDir:\s*(\S+)", (project / "Pulumi.yaml").read_text(encoding="utf-8"), re.MULTILINE)
    return project / (match.group(1) if match else ".") / f"Pulumi.{region}.yaml"


def project_name(project: Path) -> str:
    match = re.search(r"^name:\s*(\S+)", (project / "Pulumi.yaml").read_text(encoding="utf-8"), re.MULTILINE)
    return match.group(1) if match else "aifactory"


def deployment(region: str) -> str | None:
    """The deployment id in the file, None when it is not there."""
    try:
        match = _LINE.search(path(region).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return match.group("id") if match else None


def move_beside_region(project: Path, region: str) -> None:
    """`pulumi stack init` knows no --config-file: where the regions are elsewhere, its file is moved there."""
    made, wanted = default_path(project, region), path(region)
    if not made.exists() or made.resolve() == wanted.resolve():
        return
    wanted.parent.mkdir(parents=True, exist_ok=True)
    if wanted.exists():
        made.unlink()
    else:
        shutil.move(made, wanted)
