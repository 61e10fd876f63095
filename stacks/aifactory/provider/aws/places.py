"""Which node of a pool an instance is, and which nodes go into one call. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from aifactory.provider.aws.instances_api import Instance


def runs(indices: Iterable[int], most: int) -> Iterator[range]:
    """The indices as runs without gaps, in order, `most` in each at most."""
    begin = end = None
    for index in sorted(indices):
        if begin is not None and index == end and index - begin < most:
            end = index + 1
            continue
        if begin is not None and end is not None:
            yield range(begin, end)
        begin, end = index, index + 1
    if begin is not None and end is not None:
        yield range(begin, end)


def placed(
    found: Iterable[Instance], known: Mapping[str, int], count: int
) -> tuple[dict[int, Instance], list[Instance]]:
    """(index → its instance, instances that are no node's) of those alive.

    A node is first + launch index; where a cloud gives no launch index, the batch in the order of its ids. What state
    and journal know goes before. Of two instances for one index the known one stays, else the oldest.
    """
    found = list(found)
    index = {**_by_launch(found), **known}
    nodes: dict[int, Instance] = {}
    surplus: list[Instance] = []
    for one in sorted(found, key=lambda one: (one.id not in known, one.launched or "~", one.id)):
        if not one.alive:
            continue
        at = index.get(one.id)
        if at is None or at >= count or at in nodes:
            surplus.append(one)
        else:
            nodes[at] = one
    return dict(sorted(nodes.items())), sorted(surplus, key=lambda one: index.get(one.id, 1 << 30))


def _by_launch(found: Sequence[Instance]) -> dict[str, int]:
    sizes = Counter(one.batch for one in found)
    numbered = {one.batch for one in found if one.launch_index > 0}
    index: dict[str, int] = {}
    place: Counter[str] = Counter()
    for one in sorted(found, key=lambda one: one.id):
        if one.first is None:
            continue
        told = one.batch in numbered or sizes[one.batch] == 1 or not one.batch
        index[one.id] = one.first + (one.launch_index if told else place[one.batch])
        place[one.batch] += 1
    return index
