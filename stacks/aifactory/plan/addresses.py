"""Addresses of local nodes: a block of the region's network for each pool, so that no node moves when a pool grows."""

from __future__ import annotations

import ipaddress

from aifactory.plan.lookup import refuse
from aifactory.region.spec import LocalProvider, Region

FRONT = 2
"""Offset of the front door's first own node, after network and gateway; it has at most 16."""
POOLS = 32
"""Offset of the first pool's block."""
BLOCKS = 8
"""Pools a local region may have."""


class Addresses:
    """Hands out addresses by a node's place alone: the pool's place in the file and the node's in its pool.

    None for every node where the provider assigns addresses.
    """

    def __init__(self, spec: Region) -> None:
        self._network = ipaddress.IPv4Network(spec.network.cidr) if isinstance(spec.provider, LocalProvider) else None
        size = self._network.num_addresses if self._network else 0
        share = max((size - POOLS - 1) // BLOCKS, 1)
        self._block = 1 << (share.bit_length() - 1)

    def front(self, index: int) -> str | None:
        """Address of the front door's node of that index."""
        return str(self._network[FRONT + index]) if self._network else None

    def check(self, pool: int, nodes: int) -> None:
        """Raises ProblemError PLAN-002 when the network has no room for that many nodes of the pool at that place."""
        if self._network is None:
            return
        if pool >= BLOCKS:
            raise refuse("PLAN-002", f"pools[{pool}]", f"A local region has at most {BLOCKS} pools.")
        if nodes > self._block:
            raise refuse(
                "PLAN-002",
                f"pools[{pool}].nodes",
                f"{self._network} has room for {self._block} nodes in each of {BLOCKS} pools, fewer than {nodes}.",
                nearest=(str(self._block),),
                fix="or give network.cidr a wider network",
            )

    def pool(self, pool: int, index: int) -> str | None:
        """Address of node `index` of the pool at place `pool` of the file."""
        return str(self._network[POOLS + pool * self._block + index]) if self._network else None
