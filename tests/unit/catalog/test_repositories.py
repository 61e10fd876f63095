"""The table `repositories`. Real: the shipped data, and the names that the playbooks have for distributions."""

from __future__ import annotations

import importlib.util
import re
from typing import Any

import pytest
from aifactory import catalog
from aifactory.catalog import Repository
from aifactory.paths import PLAYBOOKS

ROWS = sorted(catalog.repositories().values(), key=lambda row: row.key)


def distributions() -> dict[str, str]:
    """Folder of every distribution that the playbooks know → its package manager."""
    path = PLAYBOOKS / "module_utils" / "aifactory_vendor.py"
    spec = importlib.util.spec_from_file_location("aifactory_vendor_of_the_catalogue", path)
    assert spec is not None
    assert spec.loader is not None
    vendor: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(vendor)
    named = [("debian", "12"), ("debian", "13"), ("ubuntu", "22.04"), ("ubuntu", "24.04"), ("amzn", "2023")]
    named += [("rhel", "9.6"), ("rhel", "10.0")]
    found = [vendor.Distribution(f"ID={name}\nVERSION_ID={version}\n", "x86_64") for name, version in named]
    return {distro.folder: distro.family for distro in found}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_fingerprints_are_whole_and_of_distributions_that_there_are(row: Repository) -> None:
    for key in (row.fingerprint, *row.fingerprints.values()):
        assert key is None or re.fullmatch(r"[0-9A-F]{40}", key), key
    assert row.fingerprints.keys() | row.key_files.keys() <= distributions().keys()
    assert row.fingerprint not in row.fingerprints.values(), "a key of its own that is not its own"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_folders_are_of_distributions_and_architectures_that_there_are(row: Repository) -> None:
    known = {f"{distribution}/{arch}" for distribution in distributions() for arch in ("x86_64", "sbsa")}
    assert row.folders.keys() <= known
    for here, folder in row.folders.items():
        assert ("x86_64" in folder) == here.endswith("/x86_64"), folder
        assert not folder.startswith("/")


def test_packages_that_take_the_distributions_place_come_from_a_repository_that_the_rhel_family_has() -> None:
    for row in ROWS:
        families = {distributions()[here.partition("/")[0]] for here in row.folders}
        assert not row.replaces or "dnf" in families, row.key


def test_keys_that_nobody_has_said_stay_unknown() -> None:
    """An entry that is None refuses the distribution; leaving it out would try the repository's common key."""
    assert catalog.repositories()["nvidia"].fingerprints["rhel10"] is None
    assert catalog.repositories()["doca"].fingerprints == {"rhel9": None, "rhel10": None}


def test_no_key_stands_in_a_playbook() -> None:
    """What signs packages is a fact with a source; examples in documentation of modules apart."""
    for path in (*PLAYBOOKS.rglob("*.yml"), *PLAYBOOKS.rglob("*.py")):
        text = re.sub(r'^EXAMPLES = r?""".*?^"""', "", path.read_text(encoding="utf-8"), flags=re.S | re.M)
        assert not re.search(r"\b[0-9A-F]{40}\b", text), path


def test_no_role_reads_files_of_another_role() -> None:
    for path in (PLAYBOOKS / "roles").rglob("*.yml"):
        text = path.read_text(encoding="utf-8")
        assert "role_path" not in text, path
        assert not re.search(r"lookup\(.*file", text), path
