"""Waits until nodes let their user in, with the host key that was put into them checked."""

from __future__ import annotations

import time

from aifactory.hosts.fleet import FleetHost
from aifactory.provider import reach
from aifactory.provider.local.driver import ContainerEngine
from aifactory.provider.local.engine_errors import EngineError
from aifactory.provider.local.gang import NodeFailed
from aifactory.provider.resource import Context
from aifactory.provider.static.login import Logins

PAUSE_S = 0.1
"""Between looks at a port on which nothing listens yet."""


def until_in(ctx: Context, engine: ContainerEngine, logins: Logins, host: FleetHost, *, timeout_s: float) -> None:
    """Returns when `host` lets its user in. Raises NodeFailed at the deadline or on a wrong host key, Cancelled.

    Without a key of our own a refused login counts: the host key was checked before it was refused.
    """
    deadline = time.monotonic() + timeout_s
    heard, why, denied, tries = False, "", "", 0
    while True:
        ctx.check_cancelled()
        why = "" if heard else reach.silence(host)
        if not why:
            heard, tries = True, tries + 1
            refusal = reach.refusal(logins, host, deadline - time.monotonic())
            if refusal is None:
                return
            if refusal.obstacle == "host_key":
                raise NodeFailed(refusal.reason)
            why = refusal.reason
            denied = why if refusal.obstacle == "login" else denied
        if time.monotonic() > deadline:
            raise NodeFailed(_diagnosis(engine, host, timeout_s, denied or why))
        pauses = reach.LOGIN_PAUSES_S
        ctx.wait(pauses[min(tries, len(pauses)) - 1] if heard else PAUSE_S)


def _diagnosis(engine: ContainerEngine, host: FleetHost, timeout_s: float, why: str) -> str:
    return (
        f"unreachable: {host.name} did not let {host.user} in within {timeout_s:.0f} s ({why}); "
        f"{_state(engine, host.name)}. Look: {engine.name} exec {host.name} journalctl -b -u ssh. "
        "Rebuild it: raise the pool's generation"
    )


def _state(engine: ContainerEngine, name: str) -> str:
    try:
        container = engine.container(name)
        if container is None:
            return "its container is gone"
        if container.state != "running":
            return f"its container is {container.state}{f' ({container.error})' if container.error else ''}"
        unit = engine.execute(name, "systemctl", "is-active", "ssh").stdout.decode(errors="replace").strip()
        return f"its container runs, its ssh unit is {unit or 'unknown'}"
    except EngineError as error:
        return f"{engine.name} does not tell more: {error}"
