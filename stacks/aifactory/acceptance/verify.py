"""Everything that is asked of a region before it counts as up."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aifactory.hosts.fleet import FleetHost
from aifactory.hosts.play import SshAccess
from aifactory.serving.client import Client

from . import hosts as host_checks
from . import serving as serving_checks
from .verdict import Verdict


def verify_region(
    *,
    hosts: Sequence[FleetHost],
    ssh: SshAccess,
    endpoint: str | None,
    ca_certificate: str | None,
    client_key: str | None,
    services: Sequence[Mapping[str, Any]],
    units: Mapping[str, Sequence[str]] | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> list[Verdict]:
    """Verdicts of the hosts in rank order, then of the door, then of the services. Blocks for seconds; changes nothing.

    `services` are dicts with at least `name`. `wait` is slept with and may raise to stop.
    """
    verdicts = host_checks.verify(hosts, ssh, units or {})
    names = [str(service["name"]) for service in services]
    if not names:
        return verdicts
    if not endpoint or not client_key:
        missing = "endpoint" if not endpoint else "client key"
        return [*verdicts, *serving_checks.unreachable("front door", names, f"the region has no {missing}")]
    client = Client(endpoint, ca_certificate or "", client_key, timeout_s=120)
    return [*verdicts, *serving_checks.verify(client, names, wait=wait)]
