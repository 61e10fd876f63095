"""Ansible runs that go wrong, on real nodes: what each host is said to be afterwards, and what is left behind.

Real: everything. The playbooks are the small ones in fixtures/.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from aifactory.hosts import remote, role_input
from aifactory.hosts import run as hosts_run
from aifactory.hosts.play import Play

from tests.roles.conftest import Node, Site, key_pair

pytestmark = [pytest.mark.containers, pytest.mark.timeout(300)]

FIXTURES = Path(__file__).parent / "fixtures"
SECRET = "s3cret-Zx81-that-must-not-leak"

CALLER = """
import json, sys
from pathlib import Path
from aifactory.hosts import run
from aifactory.hosts.fleet import FleetHost

host = FleetHost.from_dict(json.loads(sys.argv[1]))
play = run.Play(sys.argv[2], "drill", (host,), ("host",))
run.run_play(play, run.SshAccess(private_key=Path(sys.argv[3]).read_text()))
"""


@pytest.fixture(autouse=True)
def fixture_roles(monkeypatch: pytest.MonkeyPatch) -> None:
    """The role `probe` of the fixtures is no role of the product: its argument specification is found there."""
    product = role_input._options
    spec = FIXTURES / "roles" / "probe" / "meta" / "argument_specs.yml"
    known = role_input._load(spec, 0)["argument_specs"]["main"]["options"]["probe"]["options"]
    monkeypatch.setattr(role_input, "_options", lambda role: known if role == "probe" else product(role))


@pytest.fixture(scope="module")
def pair(nodes: Callable[..., tuple[Node, ...]]) -> tuple[Node, ...]:
    return nodes("da", "db")


def play(pair: tuple[Node, ...], playbook: str, **more: object) -> Play:
    plain = Play(str(FIXTURES / playbook), "drill", tuple(node.host for node in pair), ("host",))
    return replace(plain, **more)  # type: ignore[arg-type]


def leftovers() -> list[str]:
    """Our processes and private folders of this test process that are still there."""
    processes = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    signs = (f"run-{os.getpid()}-",)
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or "/dev/shm") / f"aifactory-{os.getuid()}"
    folders = [p.name for p in base.glob(f"run-{os.getpid()}-*")]
    return [line for line in processes.splitlines() if any(s in line for s in signs)] + folders


def wait_for(node: Node, path: str) -> None:
    node.sh(f"for i in $(seq 200); do test -e {path} && exit 0; sleep 0.1; done; exit 1")


def test_task_fails_on_one_of_two_hosts_the_other_is_through(site: Site, pair: tuple[Node, ...]) -> None:
    first, second = (node.host.name for node in pair)
    pair[1].sh("touch /run/aifactory-test-fail")
    result = hosts_run.run_play(play(pair, "fail_one.yml"), site.ssh)
    pair[1].sh("rm /run/aifactory-test-fail")
    assert result.hosts[first].status == "changed"  # the marker
    assert result.hosts[second].status == "failed"
    assert result.hosts[second].failed_task == "Trip over the file"
    assert list(result.failed()) == [second]
    again = hosts_run.run_play(play(pair, "fail_one.yml", limit=(second,)), site.ssh)
    assert list(again.hosts) == [second]
    assert again.ok


def test_wrong_host_key_is_unreachable_in_plain_words(site: Site, pair: tuple[Node, ...]) -> None:
    wrong = replace(pair[0].host, host_key=key_pair()[1])
    result = hosts_run.run_play(replace(play(pair, "fail_one.yml"), hosts=(wrong, pair[1].host)), site.ssh)
    outcome = result.hosts[wrong.name]
    assert outcome.status == "unreachable"
    assert "another SSH host key than the fleet says" in (outcome.message or "")
    assert result.hosts[pair[1].host.name].done
    assert remote.execute(wrong, site.ssh, ["true"], timeout_s=20).returncode == remote.UNREACHABLE


def test_wrong_login_key_is_unreachable_in_plain_words(nodes: Callable[..., tuple[Node, ...]]) -> None:
    """A node of its own: sshd turns an address away for a while after failed logins."""
    (node,) = nodes("stranger")
    stranger = hosts_run.SshAccess(private_key=key_pair()[0])
    outcome = hosts_run.run_play(play((node,), "fail_one.yml"), stranger).hosts[node.host.name]
    assert outcome.status == "unreachable"
    assert "does not accept the SSH key for user ops" in (outcome.message or "")


def test_nothing_listens_is_unreachable_in_plain_words(site: Site, pair: tuple[Node, ...]) -> None:
    nobody = replace(pair[0].host, port=1)
    result = hosts_run.run_play(replace(play(pair, "fail_one.yml"), hosts=(nobody,)), site.ssh)
    assert "connection refused" in (result.hosts[nobody.name].message or "")


def test_cancel_stops_soon_and_leaves_nothing(site: Site, pair: tuple[Node, ...]) -> None:
    for node in pair:
        node.sh("rm -f /run/aifactory-test-begun")
    cancel, results = threading.Event(), list[hosts_run.RunResult]()
    thread = threading.Thread(
        target=lambda: results.append(hosts_run.run_play(play(pair, "sleep.yml"), site.ssh, cancelled=cancel.is_set))
    )
    thread.start()
    wait_for(pair[0], "/run/aifactory-test-begun")
    wait_for(pair[1], "/run/aifactory-test-begun")
    time.sleep(1)  # into the sleep itself
    assert leftovers()
    begun = time.monotonic()
    cancel.set()
    thread.join(20)
    assert time.monotonic() - begun < 5
    assert {o.status for o in results[0].hosts.values()} == {"aborted"}
    assert {o.message for o in results[0].hosts.values()} == {"stopped"}
    assert leftovers() == []


def test_deadline_stops_and_says_so(site: Site, pair: tuple[Node, ...]) -> None:
    result = hosts_run.run_play(play(pair, "sleep.yml", timeout_s=4.0), site.ssh)
    assert {o.status for o in result.hosts.values()} == {"aborted"}
    assert {o.message for o in result.hosts.values()} == {"not through within 4 s"}
    assert result.seconds < 10
    assert leftovers() == []


def test_parent_killed_takes_the_run_and_its_secrets_along(site: Site, pair: tuple[Node, ...], tmp_path: Path) -> None:
    """SIGKILL to the process that called run_play: child, ansible, ssh and the private folder are gone soon after."""
    pair[0].sh("rm -f /run/aifactory-test-begun")
    key = tmp_path / "key"
    key.touch(0o600)
    key.write_text(site.private_key)
    argv = [json.dumps(pair[0].host.to_dict()), str(FIXTURES / "sleep.yml"), str(key)]
    caller = subprocess.Popen([sys.executable, "-c", CALLER, *argv])
    wait_for(pair[0], "/run/aifactory-test-begun")
    caller.kill()
    caller.wait()
    sign = f"run-{caller.pid}-"
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or "/dev/shm") / f"aifactory-{os.getuid()}"
    deadline = time.monotonic() + 8
    while True:
        processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        left = [line for line in processes.splitlines() if sign in line] + list(map(str, base.glob(f"{sign}*")))
        if not left:
            break
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


def test_untrusted_text_stays_text_and_secrets_stay_inside(site: Site, pair: tuple[Node, ...], tmp_path: Path) -> None:
    """A template in a tag or a role's variable is not run; a secret is in no argv, environment, event or leftover."""
    pair[0].sh("rm -f /run/aifactory-test-begun /run/aifactory-test-go")
    trap = f"{{{{ lookup('pipe', 'touch {tmp_path}/ran') }}}}"
    host = replace(pair[0].host, labels={"rack": trap}, zone=trap)
    probe = play(
        (pair[0],), "probe.yml", hosts=(host,), layers=("host", "probe"),
        role_vars={"probe": {"text": trap}}, secret_vars={"probe": {"password": SECRET}},
    )  # fmt: skip
    lines, results = list[str](), list[hosts_run.RunResult]()
    thread = threading.Thread(target=lambda: results.append(hosts_run.run_play(probe, site.ssh, progress=lines.append)))
    thread.start()
    try:
        wait_for(pair[0], "/run/aifactory-test-begun")
        shown = _argv_and_environment_of_children()
    finally:
        pair[0].sh("touch /run/aifactory-test-go")
        thread.join(60)
    key_line = site.private_key.splitlines()[2]
    assert "ansible-playbook" in shown
    assert SECRET not in shown
    assert key_line not in shown
    assert results[0].ok, results
    assert pair[0].sh("cat /etc/aifactory-test-text") == f"{trap}|{trap}|{trap}"
    assert pair[0].sh("cat /etc/aifactory-test-secret") == SECRET
    assert not (tmp_path / "ran").exists()
    assert SECRET not in repr(results) + repr(lines)
    assert SECRET not in pair[0].sh("journalctl -o cat; cat /var/lib/aifactory/drill.json")
    assert leftovers() == []


def test_variable_that_a_role_does_not_know_is_named_without_its_value(site: Site, pair: tuple[Node, ...]) -> None:
    probe = play(pair, "probe.yml", layers=("host", "probe"), role_vars={"probe": {"text": "x", "extra": SECRET}})
    with pytest.raises(ValueError, match=r"probe: unknown extra") as caught:
        hosts_run.run_play(probe, site.ssh)
    assert SECRET not in str(caught.value)


def test_broken_playbook_is_not_a_hosts_fault(site: Site, pair: tuple[Node, ...], tmp_path: Path) -> None:
    (tmp_path / "broken.yml").write_text("- hosts: host\n  tasks: [{no_such_module_at_all: {}}]\n")
    with pytest.raises(hosts_run.RunError, match="no_such_module_at_all"):
        hosts_run.run_play(play(pair, str(tmp_path / "broken.yml")), site.ssh)


def test_node_killed_during_the_run_is_unreachable_and_the_other_gets_through(
    site: Site, nodes: Callable[..., tuple[Node, ...]], pair: tuple[Node, ...]
) -> None:
    """SSH notices within half a minute: a node that is gone answers nothing, not even that it is gone."""
    (victim,) = nodes("victim")
    pair[0].sh("touch /run/aifactory-test-go")
    results = list[hosts_run.RunResult]()
    two = play((pair[0], victim), "wait.yml")
    thread = threading.Thread(target=lambda: results.append(hosts_run.run_play(two, site.ssh)))
    thread.start()
    wait_for(victim, "/run/aifactory-test-begun")
    victim.engine.remove(victim.name)
    thread.join(60)
    assert results[0].hosts[victim.host.name].status == "unreachable"
    assert results[0].hosts[pair[0].host.name].done
    assert leftovers() == []


def _argv_and_environment_of_children() -> str:
    """Command lines and environments of everything below this process."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, tail = stat.read_text().rpartition(")")
        except OSError:
            continue
        parents[int(head.split()[0])] = int(tail.split()[1])
    below, grew = {os.getpid()}, True
    while grew:
        new = {pid for pid, parent in parents.items() if parent in below} - below
        below |= new
        grew = bool(new)
    text = ""
    for pid in below - {os.getpid()}:
        for name in ("cmdline", "environ"):
            try:
                text += Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace") + "\n"
            except OSError:
                continue
    return text
