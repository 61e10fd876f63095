"""The contract of every backend, on local pools and networks. Real: podman, systemd, sshd. Pulumi is the harness."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from aifactory.provider.host.key_material import ssh_key_pair
from aifactory.provider.local import labels
from aifactory.provider.local.network import Network
from aifactory.provider.local.node_pool import NodePool

from tests.provider.contract import Backend, Contract
from tests.provider.local.ground import Ground, find_podman, remove_all, unused_cidr

pytestmark = pytest.mark.containers


class PoolBackend(Backend):
    """Two nodes. Slow = they do not let the login key in yet."""

    def __init__(self, ground: Ground) -> None:
        self.resource = NodePool()
        self.ground = ground
        self._key = ground.public_key
        self._of_another = ssh_key_pair()[1]

    def values(self) -> dict[str, Any]:
        return self.ground.values(2, authorized_key=self._key)

    def changed(self) -> dict[str, Any]:
        nodes = [self.ground.node(0, labels={"rack": "r1"}), self.ground.node(1)]
        return self.values() | {"nodes": nodes}

    def parts(self) -> dict[str, str]:
        """Nodes that have run: one that has not counts for nothing and is made again."""
        found = self.ground.containers().values()
        return {c.name: c.id for c in found if c.state != "created"}

    def kill_part(self) -> str | None:
        for name in self.ground.containers():
            self.ground.podman.remove(name)
            return name
        return None

    def slow(self) -> None:
        self._key = self._of_another

    def quick(self) -> None:
        self._key = self.ground.public_key

    def secret_texts(self) -> list[str]:
        return [line for line in self.ground.private_key.splitlines() if "PRIVATE" not in line]


class TestNodePool(Contract):
    @pytest.fixture
    def backend(self, ground: Ground) -> Backend:
        return PoolBackend(ground)


class NetworkBackend(Backend):
    def __init__(self) -> None:
        self.resource = Network()
        self.podman = find_podman()
        self.cidr = unused_cidr(self.podman)
        self.region = f"t-{self.cidr.split('.')[1]}-{self.cidr.split('.')[2]}"

    def values(self) -> dict[str, Any]:
        return {"region": self.region, "cidr": self.cidr, "engine": "podman"}

    def parts(self) -> dict[str, str]:
        found = self.podman.networks()
        return {n.name: str(n.subnets) for n in found if n.labels.get(labels.REGION) == self.region}

    def kill_part(self) -> str | None:
        for name in self.parts():
            self.podman.remove_network(name)
            return name
        return None

    def slow(self) -> None: ...

    def quick(self) -> None: ...


class TestNetwork(Contract):
    """One command makes it: there is no moment in which a create could be stopped half way."""

    @pytest.fixture
    def backend(self) -> Iterator[Backend]:
        backend = NetworkBackend()
        yield backend
        remove_all(backend.podman, {labels.REGION: backend.region})
        backend.podman.remove_network(f"aifactory-{backend.region}")

    test_update_in_place_keeps_every_object = None  # type: ignore[assignment]
    test_new_generation_replaces_every_object_and_leaves_no_old_one = None  # type: ignore[assignment]
    test_killed_create_is_adopted_under_a_new_nonce = None  # type: ignore[assignment]
    test_killed_update_is_gone_on_with = None  # type: ignore[assignment]
    test_cancelled_create_keeps_what_exists_and_the_next_up_goes_on = None  # type: ignore[assignment]
    test_cancelled_create_can_be_destroyed = None  # type: ignore[assignment]
    test_dead_part_is_seen_and_only_it_is_made_again = None  # type: ignore[assignment]

    def test_removed_network_is_made_again(self, backend: NetworkBackend, driver: Any) -> None:
        driver.up(backend.values())
        backend.kill_part()
        assert driver.would_change(backend.values())
        driver.up(backend.values())
        assert backend.parts() == {f"aifactory-{backend.region}": str((backend.cidr,))}

    def test_forgotten_network_is_adopted(self, backend: NetworkBackend, driver: Any) -> None:
        first = driver.up(backend.values())
        driver._engine.forget()
        second = driver.up(backend.values())
        assert second.outputs.nonce != first.outputs.nonce
        driver.destroy()
        assert backend.parts() == {}
