"""Checks of nodes on what a node answers. Not real: SSH and systemd (tests/roles/test_inference.py has both)."""

from __future__ import annotations

from collections.abc import Sequence
from subprocess import CompletedProcess

import pytest
from aifactory.acceptance import hosts
from aifactory.acceptance.verdict import Verdict
from aifactory.hosts.fleet import FleetHost
from aifactory.hosts.play import SshAccess

from tests.unit.hosts.conftest import fleet_host

UNIT = "aifactory-chat-0.service"


def verify(answer: str, code: int = 0, stderr: str = "", units: Sequence[str] = (UNIT,)) -> dict[str, Verdict]:
    def run(host: FleetHost, ssh: SshAccess, argv: Sequence[str]) -> CompletedProcess[str]:
        assert list(argv[4:]) == list(units)
        return CompletedProcess(list(argv), code, answer, stderr)

    found = hosts.verify([fleet_host("t-a")], SshAccess(), {"t-a": units}, run=run)
    return {verdict.check: verdict for verdict in found}


def answer(state: str = "running", unit: str | None = None, failed: str = "") -> str:
    unit = unit or "ActiveState=active SubState=running NRestarts=0 ActiveEnterTimestampMonotonic=1000000"
    return f"state {state}\nfailed {failed}\nuptime 100.0\nunit {UNIT} {unit}\n"


def test_all_well_passes() -> None:
    found = verify(answer())
    assert {check: v.verdict for check, v in found.items()} == {
        "host.ssh": "pass", "host.system": "pass", "host.units": "pass",
    }  # fmt: skip
    assert found["host.units"].measured == "1 of 1 running, 0 restarts"


def test_host_without_units_has_no_verdict_on_them() -> None:
    assert set(verify("state running\nfailed \nuptime 1\n", units=())) == {"host.ssh", "host.system"}


def test_no_ssh_fails_once_and_proves_nothing_else() -> None:
    found = verify("", 255, "noise\nHost key verification failed.")
    assert (found["host.ssh"].verdict, found["host.ssh"].detail) == ("fail", "Host key verification failed.")
    assert (found["host.system"].verdict, found["host.units"].verdict) == ("not_proved", "not_proved")


def test_command_that_did_not_end_proves_nothing() -> None:
    found = verify(answer(), 124, "not through within 30 s")
    assert {v.verdict for v in found.values()} == {"fail", "not_proved"}


def test_degraded_system_names_what_failed() -> None:
    found = verify(answer("degraded", failed="nfs.service x.mount "))["host.system"]
    assert (found.verdict, found.measured, found.detail) == ("fail", "degraded", "failed: nfs.service x.mount")


@pytest.mark.parametrize(
    ("unit", "detail"),
    [
        ("ActiveState=failed SubState=failed NRestarts=5 ActiveEnterTimestampMonotonic=0", "failed (failed)"),
        ("ActiveState=activating SubState=auto-restart NRestarts=5 ActiveEnterTimestampMonotonic=0", "auto-restart"),
        ("ActiveState=active SubState=exited NRestarts=0 ActiveEnterTimestampMonotonic=0", "active (exited)"),
        (
            "ActiveState=active SubState=running NRestarts=3 ActiveEnterTimestampMonotonic=95000000",
            "3 times, up for 5 s",
        ),
        ("", "no answer from systemd"),
    ],
)
def test_unit_that_does_not_stay_up_fails(unit: str, detail: str) -> None:
    found = verify(answer(unit=unit or " "))["host.units"]
    assert found.verdict == "fail"
    assert detail in found.detail


def test_unit_that_restarted_long_ago_passes_and_is_counted() -> None:
    unit = "ActiveState=active SubState=running NRestarts=1 ActiveEnterTimestampMonotonic=20000000"
    found = verify(answer(unit=unit))["host.units"]
    assert (found.verdict, found.measured) == ("pass", "1 of 1 running, 1 restarts")


def test_no_hosts_no_verdicts() -> None:
    assert hosts.verify([], SshAccess(), {}) == []
