"""Where things live on the machine that runs the toolkit. Functions, so that nothing is read at import."""

from __future__ import annotations

import os
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
"""The checkout: Pulumi.yaml, stacks/, playbooks/, templates/ stand here."""

REGIONS = REPO / "stacks" / "regions"
PLAYBOOKS = REPO / "playbooks"
TEMPLATES = REPO / "templates"


def home() -> Path:
    """Toolkit state of this checkout (engine home, file backend, passphrase, journals).

    `AIFACTORY_HOME`, else `.aifactory/` in the checkout. Losing it loses the regions' state.
    """
    return Path(os.environ.get("AIFACTORY_HOME") or REPO / ".aifactory")


def cache() -> Path:
    """What can be rebuilt (engine binaries, images): `AIFACTORY_CACHE`, else `$XDG_CACHE_HOME/aifactory`."""
    if given := os.environ.get("AIFACTORY_CACHE"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "aifactory"


def region_file(name: str) -> Path:
    return regions_dir() / f"{name}.yaml"


def regions_dir() -> Path:
    """Folder of the region files: `AIFACTORY_REGIONS`, else stacks/regions (tests point elsewhere)."""
    return Path(os.environ.get("AIFACTORY_REGIONS") or REGIONS)


def journals(region: str) -> Path:
    """Folder of the provider's journals of one region (see provider/journal.py)."""
    return home() / "journals" / region
