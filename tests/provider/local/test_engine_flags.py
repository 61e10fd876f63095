"""Probing for the flags of a container. Real: the cache. Not real: the engine, a function that says no."""

from __future__ import annotations

import resource
from collections.abc import Callable, Sequence

import pytest
from aifactory.provider.local.engine_errors import CannotRun, NotRunning
from aifactory.provider.local.engine_flags import EngineInfo, RunFlags, candidates, detect, probe

PODMAN = EngineInfo("podman", "4.3.1", "6.1", "1", "crun", rootless=False)
DOCKER = EngineInfo("docker", "27.1", "6.1", "2", "runc", rootless=False)


def machine(works: Callable[[str], bool]) -> Callable[[Sequence[str]], None]:
    def try_run(flags: Sequence[str]) -> None:
        text = " ".join(flags)
        if not works(text):
            raise CannotRun("no", f"no to [{text}]")

    return try_run


def test_probe_machine_that_takes_anything_gets_privileged_and_no_more() -> None:
    assert probe(PODMAN, machine(lambda _: True)) == RunFlags((), True)


def test_probe_machine_with_limits_gets_limits() -> None:
    flags = probe(PODMAN, machine(lambda text: "--ulimit nproc" in text))
    assert flags.privileged
    assert flags.base[0] == "--ulimit"


def test_probe_machine_without_crun_cgroups_gets_runc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/runc")
    flags = probe(PODMAN, machine(lambda text: "--runtime runc" in text and "--ulimit" in text))
    assert flags.base[:2] == ("--runtime", "runc")
    assert "--ulimit" in flags.base


def test_probe_machine_that_forbids_privileged_gets_plain_nodes() -> None:
    assert probe(PODMAN, machine(lambda text: "--privileged" not in text)) == RunFlags((), False)


def test_probe_machine_that_runs_nothing_tells_every_answer() -> None:
    with pytest.raises(CannotRun) as failed:
        probe(DOCKER, machine(lambda _: False))
    assert "docker cannot run a container on this machine" in str(failed.value)
    assert "--privileged: no to [--privileged]" in str(failed.value)
    assert "(no flags): no to []" in str(failed.value)


def test_probe_other_failures_are_not_taken_for_a_no() -> None:
    def gone(flags: Sequence[str]) -> None:
        raise NotRunning("stopped meanwhile")

    with pytest.raises(NotRunning):
        probe(DOCKER, gone)


def test_candidates_never_exceed_the_hard_limits() -> None:
    for flags in candidates(PODMAN, nofile_hard=512, nproc_hard=resource.RLIM_INFINITY, has_runc=False):
        assert "--runtime" not in flags
        assert not flags or flags[1] == "nofile=512:512"


def test_candidates_docker_is_never_told_a_runtime() -> None:
    assert not any("--runtime" in flags for flags in candidates(DOCKER, 1024, 1024, has_runc=True))


def test_detect_remembers_until_the_kernel_changes(tmp_path: object) -> None:
    tried: list[Sequence[str]] = []

    def try_run(flags: Sequence[str]) -> None:
        tried.append(flags)

    assert detect(PODMAN, try_run, print) == detect(PODMAN, try_run, print)
    assert len(tried) == 1
    newer = EngineInfo("podman", "4.3.1", "6.2", "1", "crun", rootless=False)
    detect(newer, try_run, print)
    assert len(tried) == 2


def test_detect_again_forgets_and_says_what_it_found() -> None:
    said: list[str] = []
    detect(PODMAN, machine(lambda _: True), said.append)
    assert said == []
    assert detect(PODMAN, machine(lambda t: "--privileged" not in t), said.append, again=True) == RunFlags((), False)
    assert said == ["podman 4.3.1: nodes run with no flags, unprivileged"]
    assert detect(PODMAN, machine(lambda _: False), said.append) == RunFlags((), False)
