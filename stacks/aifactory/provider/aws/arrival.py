"""From an instance that was asked for to a node: it runs, its host key is known, it lets its user in.

All nodes are asked in rounds, so that one that never comes keeps nobody waiting: a round costs one paged read, one
console output for each node without a key, one login for each with one.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from aifactory.hosts.fleet import FleetHost
from aifactory.hosts.play import SshAccess
from aifactory.provider import reach
from aifactory.provider.aws import boot, instances_api, parallel
from aifactory.provider.aws.failures import CloudError
from aifactory.provider.aws.gang import Gang
from aifactory.provider.static import login

AT_ONCE = 16
"""Console outputs, or logins, at the same time."""
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0
"""Between rounds. A console lags the machine by a minute or more, so there is no hurry."""


class Arrival:
    """The nodes of one gang that are not ready yet. `reasons` is index → why it will not be."""

    def __init__(self, gang: Gang) -> None:
        self.gang, self.ctx, self.news = gang, gang.ctx, gang.news
        self.reasons: dict[int, str] = {}
        self._ids: dict[int, str] = {}
        self._last: dict[int, str] = {}
        self._login_at: dict[int, float] = {}

    def wait(self, indices: Iterable[int]) -> dict[int, str]:
        """Index → reason of the nodes that are not ready in time. Raises CloudError, Cancelled."""
        waiting = set(indices)
        wanted = frozenset(waiting)
        deadline, pause = time.monotonic() + self.news.ready_timeout_s, FIRST_PAUSE_S
        while waiting:
            waiting -= self._round(waiting) | self.reasons.keys()
            self._say(waiting)
            if not waiting:
                break
            if time.monotonic() > deadline:
                self._late(waiting)
                break
            self.ctx.wait(pause)
            pause = min(LONGEST_PAUSE_S, pause * 1.5)
        return {index: why for index, why in self.reasons.items() if index in wanted}

    def is_ready(self, index: int) -> bool:
        """Whether the journal, and what was seen last, say that nothing is left to be waited for."""
        one = self.gang.nodes.get(index)
        return one is not None and one.state == "running" and self.gang.note(one.id).get("ready") is True

    # -- one round

    def _round(self, waiting: set[int]) -> set[int]:
        """Those that are ready now."""
        self._ids |= {i: self.gang.nodes[i].id for i in waiting if i in self.gang.nodes}
        self.gang.look()
        self._gone(waiting)
        self._start(waiting)
        here = {i: self.gang.nodes[i] for i in waiting if i in self.gang.nodes}
        runs = sorted(i for i, one in here.items() if one.state == "running" and one.address)
        self._last |= {i: f"it is {one.state}" for i, one in here.items() if i not in runs}
        known = self._keys(runs)
        ready = known if self.news.host_keys == "none" or not self.news.ssh_private_key else self._log_in(known)
        self.gang.write({here[i].id: {"ready": True} for i in ready})
        return set(ready)

    def _gone(self, waiting: set[int]) -> None:
        """Nodes that ended while they were waited for."""
        ended = {self._ids[i]: i for i in waiting if i in self._ids and i not in self.gang.nodes}
        if ended:
            fates = self.gang.fates(ended)
            for name, index in ended.items():
                self.reasons[index] = f"ended by itself: {fates.get(name) or 'EC2 does not say why'}; run up again"

    def _start(self, waiting: set[int]) -> None:
        asleep = {i: one.id for i in waiting if (one := self.gang.nodes.get(i)) and one.state == "stopped"}
        if not asleep:
            return
        try:
            self.gang.write({name: {"ready": False} for name in asleep.values()})
            instances_api.start(self.gang.api, asleep.values())
        except CloudError as error:
            self.reasons |= dict.fromkeys(asleep, f"stopped, and cannot be started: {error}")

    def _keys(self, runs: list[int]) -> list[int]:
        """Those whose host key is known, or is not asked for."""
        if self.news.host_keys == "none":
            return runs
        ids = {i: self.gang.nodes[i].id for i in runs}
        unknown = [i for i in runs if not self.gang.note(ids[i])["key"]]
        found: dict[str, dict[str, str]] = {}
        for done in parallel.each(self.ctx, unknown, lambda i: self._key(ids[i]), workers=AT_ONCE):
            if isinstance(done.error, ValueError):
                self.reasons[done.item] = f"not trusted: {done.error}; terminate it and run up again"
            elif done.error is not None:
                raise done.error
            elif done.result:
                found[ids[done.item]] = {"key": done.result}
            else:
                self._last[done.item] = "it runs, and its console shows no ed25519 host key"
        if found:
            self.gang.write(found)
        return [i for i in runs if self.gang.note(ids[i])["key"]]

    def _key(self, instance_id: str) -> str | None:
        return boot.host_key(instances_api.console(self.gang.api, instance_id))

    def _log_in(self, indices: list[int]) -> list[int]:
        """Those that let their user in; each is asked every few seconds at most (reach.LOGIN_PAUSES_S)."""
        now = time.monotonic()
        due = [i for i in indices if now - self._login_at.get(i, -1e9) >= reach.LOGIN_PAUSES_S[-1]]
        if not due:
            return []
        hosts = {i: self.gang.host(i) for i in due}
        access = SshAccess(
            private_key=self.news.ssh_private_key,
            bastion=self.news.bastion or None,
            bastion_host_key=self.news.bastion_host_key or None,
        )
        ready = []
        with login.opened(hosts.values(), access) as logins:
            asked = parallel.each(self.ctx, due, lambda i: self._refusal(logins, i, hosts[i]), workers=AT_ONCE)
        for done in asked:
            if done.error is not None:
                raise done.error
            if done.result is None:
                ready.append(done.item)
            elif done.result.obstacle == "host_key":
                self.reasons[done.item] = done.result.reason
            else:
                self._last[done.item] = done.result.reason
        return ready

    def _refusal(self, logins: login.Logins, index: int, host: FleetHost) -> login.Refusal | None:
        if not self.news.bastion and (why := reach.silence(host)):
            return login.Refusal("unreachable", why)
        self._login_at[index] = time.monotonic()
        return reach.refusal(logins, host)

    # -- saying

    def _late(self, waiting: set[int]) -> None:
        within = f"not ready within {self.news.ready_timeout_s} s"
        for index in waiting:
            why = self._last.get(index, "EC2 does not show it")
            if "host key" in why:
                why += (
                    " (aws ec2 get-console-output --latest): the image must run cloud-init with keys_to_console; "
                    "terminate the node and run up again"
                )
            self.reasons[index] = f"{within}: {why}"

    def _say(self, waiting: set[int]) -> None:
        nodes = self.news.nodes
        booting = sum(1 for i in waiting if (one := self.gang.nodes.get(i)) is None or one.state != "running")
        more = f", {booting} start" if booting else ""
        if self.news.host_keys == "console" and (shy := len(waiting) - booting):
            more += f", {shy} without host key or login yet"
        self.ctx.progress(f"{len(nodes) - len(waiting)}/{len(nodes)} nodes ready{more}")
