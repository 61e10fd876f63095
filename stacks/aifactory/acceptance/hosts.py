"""Checks of nodes: SSH with the right host key, systemd content, the units that serve running and staying up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from subprocess import CompletedProcess

from aifactory.hosts import remote
from aifactory.hosts.fleet import FleetHost
from aifactory.hosts.play import SshAccess

from .verdict import Verdict, judged, unmeasured

AT_ONCE = 32
TIMEOUT_S = 30.0
SETTLED_S = 30.0
"""A unit that was restarted must have run this long to count as up."""

_SCRIPT = """\
echo "state $(systemctl is-system-running --wait)"
echo "failed $(systemctl list-units --state=failed --plain --no-legend | cut -d' ' -f1 | tr '\\n' ' ')"
echo "uptime $(cut -d' ' -f1 /proc/uptime)"
keys=ActiveState,SubState,NRestarts,ActiveEnterTimestampMonotonic
for unit in "$@"; do
  echo "unit $unit $(systemctl show --property=$keys "$unit" | tr '\\n' ' ')"
done
"""

Execute = Callable[[FleetHost, SshAccess, Sequence[str]], CompletedProcess[str]]


def execute(host: FleetHost, ssh: SshAccess, argv: Sequence[str]) -> CompletedProcess[str]:
    return remote.execute(host, ssh, argv, timeout_s=TIMEOUT_S)


def verify(
    hosts: Sequence[FleetHost], ssh: SshAccess, units: Mapping[str, Sequence[str]], *, run: Execute = execute
) -> list[Verdict]:
    """Verdicts `host.ssh`, `host.system` and, where units are expected, `host.units` of every host. One SSH each."""
    if not hosts:
        return []
    with ThreadPoolExecutor(min(len(hosts), AT_ONCE)) as pool:
        each = pool.map(lambda host: list(_host(host, ssh, units.get(host.name, ()), run)), hosts)
    return [verdict for verdicts in each for verdict in verdicts]


def _host(host: FleetHost, ssh: SshAccess, units: Sequence[str], run: Execute) -> Iterator[Verdict]:
    done = run(host, ssh, ["sh", "-c", _SCRIPT, "sh", *units])
    reached = done.returncode == 0
    reason = "" if reached else (done.stderr.strip().splitlines() or ["no message"])[-1]
    answer = "answers" if reached else "no answer"
    yield judged("host.ssh", host.name, reached, answer, "answers with its host key", detail=reason)
    facts = _parsed(done.stdout)
    if not reached or "state" not in facts:
        yield unmeasured("host.system", host.name, "running", "no SSH connection")
        if units:
            yield unmeasured("host.units", host.name, "all running", "no SSH connection")
        return
    state, failed = facts["state"], facts["failed"].strip()
    yield judged("host.system", host.name, state == "running", state, "running", detail=failed and f"failed: {failed}")
    if units:
        yield _units(host, units, facts)


def _units(host: FleetHost, units: Sequence[str], facts: Mapping[str, str]) -> Verdict:
    """All of them run; one that systemd restarted counts once it has stayed up for SETTLED_S."""
    running, restarts, bad = 0, 0, []
    for unit in units:
        seen = dict(word.partition("=")[::2] for word in facts.get(f"unit {unit}", "").split())
        if "ActiveState" not in seen:
            bad.append(f"{unit}: no answer from systemd")
            continue
        again = int(seen.get("NRestarts", 0))
        restarts += again
        up_s = float(facts["uptime"]) - int(seen["ActiveEnterTimestampMonotonic"]) / 1e6
        if (seen["ActiveState"], seen["SubState"]) != ("active", "running"):
            bad.append(f"{unit}: {seen['ActiveState']} ({seen['SubState']})")
        elif again and up_s < SETTLED_S:
            bad.append(f"{unit}: restarted {again} times, up for {up_s:.0f} s")
        else:
            running += 1
    measured = f"{running} of {len(units)} running, {restarts} restarts"
    return judged("host.units", host.name, not bad, measured, "all running", detail="; ".join(bad))


def _parsed(text: str) -> dict[str, str]:
    """First word (`unit NAME` for units) → the rest of the line."""
    facts = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == "unit":
            unit, _, value = value.partition(" ")
            name = f"unit {unit}"
        facts[name] = value
    return facts
