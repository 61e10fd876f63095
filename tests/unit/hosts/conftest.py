"""A fleet that exists nowhere."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from aifactory.hosts.fleet import FleetHost

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP+SWgHkRiLMczQkhML7KhLF43llGm3kIWGALnfI2HbE"


def fleet_host(name: str = "a", **changes: object) -> FleetHost:
    values: dict[str, object] = {
        "id": f"id-{name}", "name": name, "address": "127.0.0.1", "port": 2211, "user": "ops", "host_key": HOST_KEY,
        "pool": "serve", "shape": "local-cpu", "rank": 0, "gpus": 0, "node_address": "10.64.0.16",
    }  # fmt: skip
    return FleetHost(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture
def host() -> Callable[..., FleetHost]:
    return fleet_host
