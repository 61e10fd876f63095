"""What of a system goes into the engine image, and what is said when it cannot be fetched.

Real: tar, and mmdebstrap against a mirror that is not there.
"""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

import pytest
from aifactory.errors import ProblemError
from aifactory.serving import rootfs


def make_tar(path: Path, *names: str) -> Path:
    with tarfile.open(path, "w") as tar:
        for name in names:
            info = tarfile.TarInfo(name.rstrip("/"))
            info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            tar.addfile(info, io.BytesIO())
    return path


@pytest.mark.parametrize(
    "name",
    [
        "usr/bin/python3.13", "usr/lib/x86_64-linux-gnu/libc.so.6", "usr/lib/python3.13/json/__init__.py",
        "usr/share/doc/libc6/copyright", "usr/share/common-licenses/GPL-3", "etc/ssl/openssl.cnf",
    ],
)  # fmt: skip
def test_members_keep_what_runs_and_its_licences(tmp_path: Path, name: str) -> None:
    assert [info.name for info, _ in rootfs.members(make_tar(tmp_path / "t", "./" + name))] == [name]


@pytest.mark.parametrize(
    "name",
    [
        "usr/bin/dpkg", "usr/bin/perl", "usr/sbin/ldconfig", "usr/share/man/man1/x.1", "usr/share/doc/libc6/NEWS",
        "usr/lib/python3.13/test/support.py", "var/cache/apt/x", "etc/resolv.conf", "etc/hostname",
        "etc/apt/sources.list", "dev/null",
    ],
)  # fmt: skip
def test_members_drop_tools_papers_and_the_builder(tmp_path: Path, name: str) -> None:
    assert list(rootfs.members(make_tar(tmp_path / "t", "./" + name))) == []


def test_members_come_in_order_of_names(tmp_path: Path) -> None:
    tar = make_tar(tmp_path / "t", "./usr/lib/b", "./usr/", "./usr/lib/", "./usr/lib/a")
    assert [info.name for info, _ in rootfs.members(tar)] == ["usr", "usr/lib", "usr/lib/a", "usr/lib/b"]


@pytest.mark.skipif(
    shutil.which("mmdebstrap") is None, reason="mmdebstrap is not installed: apt-get install mmdebstrap"
)
def test_extract_unreachable_mirror_is_said(tmp_path: Path) -> None:
    source = rootfs.Source("trixie", "amd64", "http://127.0.0.1:9/debian")
    with pytest.raises(ProblemError, match="SRV-011") as caught:
        rootfs.extract(("libc6",), source, scratch=tmp_path, progress=lambda _: None, check=lambda: None)
    assert "AIFACTORY_DEBIAN_MIRROR" in str(caught.value)


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("W: Failed to fetch http://m/x  Could not resolve 'm'", "SRV-011"),
        ("E: Could not connect to m:80 (10.0.0.1), connection timed out", "SRV-011"),
        ("tar: ./usr/lib/x: Cannot write: No space left on device", "SRV-012"),
        ("E: Unable to locate package libgomp9", "SRV-013"),
    ],
)
def test_problem_says_what_is_the_matter(line: str, rule: str) -> None:
    assert rule in str(rootfs._problem(["I: running apt-get update...", line, "E: mmdebstrap failed to run"]))


def test_extract_missing_tool_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProblemError, match="apt-get install mmdebstrap"):
        rootfs.extract(
            ("libc6",), rootfs.Source("trixie", "amd64"), scratch=tmp_path, progress=print, check=lambda: None
        )
