"""`make setup`'s script on machines that lack things.

Real: the script under /bin/sh, files, signals. Stand-ins: a checkout of three files, and shell scripts for Python,
pip, apt, dpkg, id, docker. That it works for real is what every run of `make test` begins with.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aifactory import paths

SCRIPT = paths.REPO / "stacks" / "aifactory" / "toolchain" / "bootstrap.sh"

PYTHON = """#!/bin/sh
echo "python $*" >> "$CALLS"
case "$*" in
*"sys.exit(not"*) exit "${BAD_PYTHON:-0}" ;;
*ensurepip*) exit "${NO_VENV:-0}" ;;
-V) echo "Python 3.13.0" ;;
"-m venv"*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; touch "$3/bin/pip"; chmod +x "$3/bin/pip" ;;
*"pip "*"-e ."*) touch .venv/bin/aifactory; chmod +x .venv/bin/aifactory ;;
*"pip "*)
    [ -z "$SLOW_PIP" ] || { touch "$CALLS.slow"; exec sleep "$SLOW_PIP"; }
    [ -z "$PIP_ERROR" ] || { echo "$PIP_ERROR"; exit 1; } ;;
*aifactory.toolchain*) echo "engine: there" ;;
esac
"""


DPKG_QUERY = """shift 2
for p; do case " $MISSING " in *" $p "*) code=1 ;; *) printf '%s=installed ' "$p" ;; esac; done
exit ${code:-0}
"""


@dataclass
class Machine:
    root: Path
    env: dict[str, str] = field(default_factory=dict)

    def program(self, name: str, body: str) -> None:
        path = self.root / "bin" / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> "$CALLS"\n{body}\n')
        path.chmod(0o755)

    def start(self, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self.root / "checkout" / "stacks" / "aifactory" / "toolchain" / "bootstrap.sh")],
            env={**self.env, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def setup(self, **more: str) -> tuple[int, str]:
        process = self.start(**more)
        text, _ = process.communicate(timeout=60)
        return process.returncode, text

    def calls(self, word: str = "") -> list[str]:
        path = self.root / "calls"
        return [line for line in path.read_text().splitlines() if word in line] if path.exists() else []

    def forget_calls(self) -> None:
        (self.root / "calls").unlink(missing_ok=True)

    @property
    def venv(self) -> Path:
        return self.root / "checkout" / ".venv"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A Debian with root, all packages installed, Python 3.13, an empty checkout."""
    folder = tmp_path / "checkout" / "stacks" / "aifactory" / "toolchain"
    folder.mkdir(parents=True)
    shutil.copy(SCRIPT, folder)
    for name in ("requirements.lock", "pyproject.toml"):
        (tmp_path / "checkout" / name).write_text(f"{name}\n")
    (tmp_path / "bin").mkdir()
    env = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "CALLS": str(tmp_path / "calls"), "HOME": str(tmp_path)}
    made = Machine(tmp_path, env)
    (tmp_path / "bin" / "python3.13").write_text(PYTHON)
    (tmp_path / "bin" / "python3.13").chmod(0o755)
    made.program("id", "echo ${FAKE_UID:-0}")
    made.program("docker", "exit 1")
    made.program("dpkg", "true")
    made.program("dpkg-query", DPKG_QUERY)
    made.program("apt-cache", 'case "$2" in netavark) exit "${NO_NETAVARK:-0}";; esac')
    made.program("apt-get", 'echo "apt says no"; exit "${APT_CODE:-0}"')
    if not _debian():
        pytest.skip("the stand-ins are those of Debian: run it there")
    return made


def _debian() -> bool:
    try:
        return "debian" in Path("/etc/os-release").read_text(encoding="utf-8")
    except OSError:
        return False


def test_a_first_run_makes_all_and_a_second_one_nothing(machine: Machine) -> None:
    assert machine.setup()[0] == 0
    assert len(machine.calls("--require-hashes")) == 1
    assert len(machine.calls("-e .")) == 1
    assert machine.calls("apt-get") == []
    machine.forget_calls()

    began = time.monotonic()
    code, text = machine.setup()

    assert (code, text) == (0, "engine: there\n")
    assert machine.calls(" pip ") == []
    assert time.monotonic() - began < 5


def test_a_new_lock_installs_again_but_keeps_the_venv(machine: Machine) -> None:
    machine.setup()
    (machine.venv / "kept").touch()
    machine.forget_calls()
    (machine.root / "checkout" / "requirements.lock").write_text("other\n")
    machine.setup()
    assert len(machine.calls("--require-hashes")) == 1
    assert machine.calls("-e .") == []
    assert (machine.venv / "kept").exists()


def test_an_interrupted_installation_is_not_trusted(machine: Machine) -> None:
    process = machine.start(SLOW_PIP="60")
    _wait(machine.root / "calls.slow")
    (machine.venv / "half").touch()
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 143

    assert machine.setup()[0] == 0
    assert not (machine.venv / "half").exists(), "made anew"
    assert not (machine.venv / ".unfinished").exists()


def test_ctrl_c_ends_pip_and_says_that_it_can_go_on(machine: Machine) -> None:
    process = machine.start(SLOW_PIP="60")
    _wait(machine.root / "calls.slow")
    os.killpg(process.pid, signal.SIGINT)
    text, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "goes on from here" in text


def test_a_failing_pip_shows_its_own_words_and_a_way_out(machine: Machine) -> None:
    code, text = machine.setup(PIP_ERROR="no matching hash")
    assert code == 4
    assert "no matching hash" in text
    assert "pip config list" in text


@pytest.mark.parametrize("lack", [{"BAD_PYTHON": "1"}, {"NO_VENV": "1"}])
def test_without_a_fitting_python_it_says_what_to_install(machine: Machine, lack: dict[str, str]) -> None:
    for name in ("python3.12", "python3.11", "python3"):
        machine.program(name, "exit 1")
    code, text = machine.setup(**lack)
    assert code == 3
    assert "Python 3.11, 3.12 or 3.13" in text
    assert "apt-get install python3 python3-venv" in text


def test_root_on_debian_installs_only_what_is_missing(machine: Machine) -> None:
    assert machine.setup(MISSING="podman zstd")[0] == 0
    installs = [line for line in machine.calls("apt-get") if " install " in line]
    assert len(installs) == 1
    assert installs[0].endswith("--no-install-recommends zstd podman")


def test_a_package_that_this_release_lacks_is_left_out(machine: Machine) -> None:
    assert machine.setup(MISSING="podman netavark", NO_NETAVARK="1")[0] == 0
    assert machine.calls("apt-get")[-1].endswith("--no-install-recommends podman")


def test_a_running_docker_needs_no_podman(machine: Machine) -> None:
    machine.program("docker", "exit 0")
    assert machine.setup(MISSING="podman runc netavark zstd")[0] == 0
    assert machine.calls("apt-get")[-1].endswith("--no-install-recommends zstd")


def test_apt_that_cannot_be_reached_stops_with_its_words_and_the_command(machine: Machine) -> None:
    code, text = machine.setup(MISSING="podman", APT_CODE="100")
    assert code == 3
    assert "apt says no" in text
    assert "apt-get update && apt-get install --no-install-recommends podman" in text
    assert not machine.venv.exists(), "nothing else was begun"


def test_without_root_it_says_what_to_install_and_goes_on(machine: Machine) -> None:
    code, text = machine.setup(MISSING="podman", FAKE_UID="1000")
    assert code == 0
    assert "sudo apt-get install --no-install-recommends podman" in text
    assert machine.calls("apt-get") == []


def test_dpkg_that_was_interrupted_is_mended_first(machine: Machine) -> None:
    machine.program("dpkg", 'case "$1" in --audit) echo "half configured";; esac')
    assert machine.setup(MISSING="podman")[0] == 0
    assert machine.calls("dpkg --configure -a")


def test_two_at_once_run_one_after_the_other(machine: Machine) -> None:
    first = machine.start(SLOW_PIP="2")
    _wait(machine.root / "calls.slow")
    code, text = machine.setup()
    assert code == 0
    assert "another make setup is running" in text
    first.communicate(timeout=20)
    assert first.returncode == 0
    assert len(machine.calls("--require-hashes")) == 1


def _wait(path: Path) -> None:
    until = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.02)
