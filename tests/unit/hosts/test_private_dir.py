"""The run's own folder. Real: the file system and /proc."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from aifactory.hosts.private_dir import private_dir

HOLDER = """
from aifactory.hosts.private_dir import private_dir

with private_dir() as folder:
    print(folder, flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / f"aifactory-{os.getuid()}"


def test_folder_is_ours_alone_and_goes(base: Path) -> None:
    with private_dir() as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(base.stat().st_mode) == 0o700
        (folder / "identity").write_text("secret")
    assert not folder.exists()


def test_folder_goes_when_the_run_raises() -> None:
    with pytest.raises(RuntimeError), private_dir() as folder:
        raise RuntimeError
    assert not folder.exists()


def test_two_runs_have_two_folders() -> None:
    with private_dir() as one, private_dir() as two:
        assert one != two


def test_next_run_removes_what_a_killed_one_left_and_nothing_else(base: Path) -> None:
    killed = subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert killed.stdout
    left = Path(killed.stdout.readline().strip())
    with private_dir():
        assert left.exists()  # its owner lives
    killed.kill()
    killed.communicate()
    with private_dir() as mine:
        assert not left.exists()
        with private_dir():
            assert mine.exists()


def test_folder_of_somebody_else_is_refused(base: Path) -> None:
    base.mkdir(mode=0o755)
    base.chmod(0o755)
    with pytest.raises(PermissionError, match="remove it"), private_dir():
        pass
