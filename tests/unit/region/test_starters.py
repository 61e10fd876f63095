"""Files that `aifactory init` writes, and the regions that stand in the repository. Real: loader, rules, plan."""

from __future__ import annotations

from pathlib import Path

import pytest
from aifactory import paths
from aifactory.plan import build
from aifactory.region import loader
from aifactory.region.starters import KINDS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["ab", "local", "a-name-as-long-as-any-may-be-31"])
def test_starter_valid_and_plannable_as_written(kind: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.yaml"
    path.write_text(loader.starter(name, kind))
    loaded = loader.load(path)
    assert (loaded.spec.name, loaded.spec.provider.kind) == (name, kind)
    assert build.plan(loaded.spec).services
    assert "@" not in path.read_text().replace("ops@", "")


def test_starter_explains_itself() -> None:
    for kind in KINDS:
        text = loader.starter("here", kind)
        assert text.startswith("# ")
        assert "docs/region-spec.md" in text
        assert sum("# " in line for line in text.splitlines()) > 10


def test_starter_two_local_regions_stand_beside_each_other(tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.yaml" for name in ("local", "second", "third")]
    for path in files:
        path.write_text(loader.starter(path.stem, "local"))
    assert len(loader.validate(files)) == 3


def test_starter_unknown_kind_refused() -> None:
    with pytest.raises(KeyError):
        loader.starter("here", "gcp")


def test_regions_of_the_repository_are_valid_together() -> None:
    loaded = loader.validate(sorted(paths.REGIONS.glob("[!P]*.yaml")))
    assert {r.spec.provider.kind for r in loaded} >= set(KINDS)
    for region in loaded:
        build.plan(region.spec)


def test_regions_of_the_documentation_are_those_of_the_repository() -> None:
    """docs/region-spec.md shows the example files word for word, so that both stay true."""
    page = (paths.REPO / "docs" / "region-spec.md").read_text()
    for name in ("local", "oslo-lab", "eu-sovereign"):
        assert f"```yaml\n{(paths.REGIONS / f'{name}.yaml').read_text()}```" in page, name
