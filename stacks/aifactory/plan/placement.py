"""Where copies of a service stand: nodes, GPUs, ports. Copies spread out before they share a node."""

from __future__ import annotations

import heapq
from collections import Counter

from aifactory.plan.lookup import refuse
from aifactory.plan.model import NodePlan, PoolPlan, ReplicaPlan
from aifactory.plan.sizing import Split
from aifactory.region.spec import Service

FIRST_PORT = 8000


class Ledger:
    """What is taken on the nodes of one pool: GPU indices, ports, copies. Filled in file order."""

    def __init__(self, pool: PoolPlan) -> None:
        self.pool = pool
        self.free = {n.name: list(range(pool.gpus_per_node)) for n in pool.nodes}
        self.ports: dict[str, set[int]] = {n.name: set() for n in pool.nodes}
        self.copies: Counter[str] = Counter()

    def place(self, service: Service, split: Split, path: str) -> tuple[ReplicaPlan, ...]:
        """All copies of a service. Raises ProblemError PLAN-008 when the pool has too few GPUs left."""
        emptiest = [self._key(n) for n in self.pool.nodes]
        heapq.heapify(emptiest)
        places: list[tuple[tuple[NodePlan, ...], tuple[int, ...]]] = []
        for _ in range(service.replicas):
            nodes = self._nodes(split, emptiest)
            if nodes is None:
                raise self._too_few(service, split, path, len(places))
            places.append((nodes, self._take(nodes, split)))
            for node in nodes:
                heapq.heappush(emptiest, self._key(node))
        ports = self._ports([nodes[0] for nodes, _ in places])
        return tuple(
            ReplicaPlan(
                index=index,
                nodes=tuple(n.name for n in nodes),
                address=nodes[0].address,
                port=port,
                gpu_indices=gpus,
            )
            for index, ((nodes, gpus), port) in enumerate(zip(places, ports, strict=True))
        )

    def _key(self, node: NodePlan) -> tuple[int, int, int, int]:
        """Fewest copies first, then most free GPUs, then lowest rank; the last number finds the node again."""
        return (self.copies[node.name], -len(self.free[node.name]), node.rank, node.index)

    def _nodes(self, split: Split, emptiest: list[tuple[int, int, int, int]]) -> tuple[NodePlan, ...] | None:
        """The emptiest nodes that can take one more copy, in rank order; None when there are too few."""
        chosen: list[NodePlan] = []
        wanted = split.gpus if split.nodes == 1 else self.pool.gpus_per_node  # several nodes: the same GPUs on each
        while len(chosen) < split.nodes and emptiest:
            node = self.pool.nodes[heapq.heappop(emptiest)[3]]
            if len(self.free[node.name]) >= wanted:
                chosen.append(node)
        return tuple(sorted(chosen, key=lambda n: n.rank)) if len(chosen) == split.nodes else None

    def _take(self, nodes: tuple[NodePlan, ...], split: Split) -> tuple[int, ...]:
        """Takes the same GPU indices on every node of the copy; returns them."""
        taken: tuple[int, ...] = ()
        for node in nodes:
            taken = _block(self.free[node.name], split.gpus) or ()
            self.free[node.name] = [g for g in self.free[node.name] if g not in taken]
            self.copies[node.name] += 1
        return taken

    def _ports(self, heads: list[NodePlan]) -> list[int]:
        """One port for the service on all its nodes; a second copy on a node takes the next one, and so on."""
        turn: Counter[str] = Counter()
        turns = []
        for head in heads:
            turns.append(turn[head.name])
            turn[head.name] += 1
        chosen: list[int] = [0] * len(heads)
        for number in sorted(set(turns)):
            mine = [i for i, t in enumerate(turns) if t == number]
            used = set().union(*(self.ports[heads[i].name] for i in mine))
            port = next(p for p in range(FIRST_PORT, FIRST_PORT + len(used) + 1) if p not in used)
            for i in mine:
                chosen[i] = port
                self.ports[heads[i].name].add(port)
        return chosen

    def _too_few(self, service: Service, split: Split, path: str, placed: int) -> Exception:
        need = split.gpus * split.nodes
        have = sum(len(free) for free in self.free.values()) + placed * need
        copies = f"{service.replicas} × {need}" if service.replicas > 1 else f"{need}"
        nearest = (f"replicas: {placed}",) if placed else ()
        more = -(-(service.replicas - placed) * need // self.pool.gpus_per_node)
        return refuse(
            "PLAN-008", f"{path}.replicas",
            f"{service.name} needs {copies} GPUs; pool {self.pool.name} has {have} that no other service takes.",
            nearest=(*nearest, f"{len(self.pool.nodes) + more} nodes in pool {self.pool.name}"),
        )  # fmt: skip


def _block(free: list[int], gpus: int) -> tuple[int, ...] | None:
    """The first aligned run of free GPUs, else any free ones; None when there are too few."""
    if len(free) < gpus:
        return None
    for start in free:
        run = tuple(range(start, start + gpus))
        if gpus and start % gpus == 0 and set(run) <= set(free):
            return run
    return tuple(free[:gpus])
