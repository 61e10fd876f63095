"""`service:EngineImage`. Real: the resource, cache, archives, the golden model. Not real: the wheel and the Debian
packages (`builds` of tests/unit/serving/test_image.py gives small ones).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aifactory import catalog
from aifactory.errors import Exit, fail
from aifactory.provider.resource import UNKNOWN, Cancelled, Refused
from aifactory.provider.service.engine_image import EngineImage
from aifactory.serving import golden, image, rootfs

from tests.provider.harness import CheckFailed, Engine
from tests.unit.serving.test_image import builds  # noqa: F401 - fixture, used by every test

MODEL = next(key for key, model in catalog.models().items() if model.sha256 == golden.SHA256)
OTHER = next(key for key, model in catalog.models().items() if model.sha256 is None)


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setenv("AIFACTORY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AIFACTORY_CACHE", str(tmp_path / "cache"))
    return Engine(EngineImage())


def given(**changes: Any) -> dict[str, Any]:
    return {"region": "t-region", "engine": "llama-cpp", "models": (MODEL,), "architecture": "amd64", **changes}


def test_create_makes_image_and_model(engine: Engine) -> None:
    outputs = engine.up(given()).outputs
    built = image.find("llama-cpp", "amd64")
    assert built is not None
    assert (outputs.archive, outputs.image_id) == (Path(built.archive).name, built.image_id)
    assert outputs.model_files == {MODEL: golden.FILE}
    golden.verify(golden.folder() / golden.FILE, golden.SHA256)


def test_create_model_that_is_not_made_here_is_left_to_others(engine: Engine) -> None:
    assert engine.up(given(models=(OTHER,))).outputs.model_files == {}
    assert not golden.folder().exists()


def test_unchanged_builds_nothing(engine: Engine, builds: list[Path]) -> None:  # noqa: F811
    state = engine.up(given())
    assert engine.up(given()) is state
    assert len(builds) == 1


def test_preview_cold_knows_no_id_and_warm_knows_it(engine: Engine) -> None:
    assert engine.preview(given())[1].image_id is UNKNOWN
    assert engine.preview(given())[1].model_files == {MODEL: golden.FILE}
    built = image.build("llama-cpp", architecture="amd64")
    assert engine.preview(given())[1].image_id == built.image_id


@pytest.mark.parametrize("lost", ["archive", "model_files"])
def test_file_that_is_gone_is_made_again(engine: Engine, lost: str) -> None:
    outputs = engine.up(given()).outputs
    (image.folder() / outputs.archive if lost == "archive" else golden.folder() / golden.FILE).unlink()
    diff, _ = engine.preview(given())
    assert diff is not None
    assert diff.output_updates == (lost,)
    engine.up(given())
    assert engine.operations == ["create", "update"]
    assert engine.preview(given())[0].changes is False  # type: ignore[union-attr]


def test_new_recipe_is_an_update(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    before = engine.up(given()).outputs
    monkeypatch.setattr(image, "PACKAGES", (*image.PACKAGES, "more"))
    after = engine.up(given()).outputs
    assert engine.operations == ["create", "update"]
    assert after.archive != before.archive


@pytest.mark.parametrize(
    ("changes", "property_"), [({"engine": "vllm"}, "engine"), ({"models": ("nope",)}, "models[0]")]
)
def test_check_refuses_what_there_is_no_recipe_for(engine: Engine, changes: dict[str, Any], property_: str) -> None:
    with pytest.raises(CheckFailed) as caught:
        engine.up(given(**changes))
    assert [f.property for f in caught.value.failures] == [property_]


def test_build_that_fails_is_refused_with_the_fix(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> Path:
        raise fail("SRV-011", "The Debian mirror cannot be reached.", code=Exit.FAILED, fix="check the network")

    monkeypatch.setattr(rootfs, "extract", broken)
    with pytest.raises(Refused, match="check the network"):
        engine.up(given())
    assert engine.state is None


def test_cancel_stops_the_build(engine: Engine) -> None:
    engine.cancel.set()
    with pytest.raises(Cancelled):
        engine.up(given())
    assert image.find("llama-cpp", "amd64") is None


def test_destroy_leaves_the_cache_to_other_regions(engine: Engine) -> None:
    outputs = engine.up(given()).outputs
    engine.destroy()
    assert (image.folder() / outputs.archive).is_file()
