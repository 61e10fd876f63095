"""Where the archives of modules are kept. Real: files in a temporary cache, the content of playbooks/."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from aifactory.hosts import digest, module_cache


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIFACTORY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "modules"


def test_folder_is_made_for_this_user_alone_and_found_again(base: Path) -> None:
    folder = module_cache.folder()
    assert folder is not None
    assert folder.parent == base
    assert [path.stat().st_mode & 0o777 for path in (base, folder)] == [0o700, 0o700]
    assert module_cache.folder() == folder


def test_other_modules_have_another_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    before = module_cache.folder()
    monkeypatch.setattr(digest, "modules", lambda: "0" * 64)
    assert module_cache.folder() not in (None, before)


@pytest.mark.parametrize("which", ["base", "folder"])
def test_folder_that_others_can_write_is_not_used(base: Path, which: str) -> None:
    folder = module_cache.folder()
    assert folder is not None
    (base if which == "base" else folder).chmod(0o770)
    assert module_cache.folder() is None


def test_link_is_not_followed(base: Path, tmp_path: Path) -> None:
    folder = module_cache.folder()
    assert folder is not None
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert module_cache.folder() is None


def test_cache_that_cannot_be_made_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AIFACTORY_CACHE", str(tmp_path / "file"))
    assert module_cache.folder() is None


def test_folder_that_no_run_used_for_a_week_goes(base: Path) -> None:
    module_cache.folder()
    ages = {"old": module_cache.KEPT_S + 60, "young": module_cache.KEPT_S - 60}
    for name, age in ages.items():
        (base / name).mkdir()
        os.utime(base / name, (time.time() - age,) * 2)
    folder = module_cache.folder()
    assert folder is not None
    assert {path.name for path in base.iterdir()} == {"young", folder.name}


def test_digest_sees_every_module_and_what_it_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    books = tmp_path / "playbooks"
    for name in ("library/a.py", "module_utils/b.py", "roles/r/library/c.py", "roles/r/tasks/main.yml"):
        (books / name).parent.mkdir(parents=True, exist_ok=True)
        (books / name).write_text("1")
    monkeypatch.setattr("aifactory.paths.PLAYBOOKS", books)
    seen = [digest.modules()]
    for name in ("library/a.py", "module_utils/b.py", "roles/r/library/c.py"):
        (books / name).write_text("2")
        seen.append(digest.modules())
    assert len(set(seen)) == 4
    (books / "roles/r/tasks/main.yml").write_text("2")
    assert digest.modules() == seen[-1]
