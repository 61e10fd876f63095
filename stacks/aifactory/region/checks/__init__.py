"""Offline rules: what the shape cannot say. One function a rule, pure, over the spec and the catalogue.

A rule that needs an account or a network is a preflight check; one that needs the plan's arithmetic is the plan's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from aifactory.region.checks import (
    catalogue,
    cloud,
    cost,
    fabric,
    files,
    hosts,
    names,
    network,
    serving,
    software,
    storage,
    tuning,
)
from aifactory.region.checks.finding import Finding
from aifactory.region.spec import Region

Rule = Callable[[Region], Iterable[Finding]]
FilesRule = Callable[[Sequence[Region]], Iterable[tuple[int, Finding]]]

RULES: tuple[tuple[str, Rule], ...] = (
    ("SPEC-011", catalogue.models),
    ("SPEC-012", catalogue.shapes),
    ("SPEC-013", catalogue.driver),
    ("SPEC-014", catalogue.country),
    ("SPEC-015", catalogue.regimes),
    ("SPEC-016", catalogue.partition),
    ("SPEC-017", catalogue.cloud_region),
    ("SPEC-018", catalogue.service_pools),
    ("SPEC-031", names.unique),
    ("SPEC-032", names.addresses_unique),
    ("SPEC-033", names.hosts_not_generated),
    ("SPEC-034", names.pool_not_reserved),
    ("SPEC-035", hosts.nodes_or_hosts),
    ("SPEC-036", hosts.host_keys),
    ("SPEC-037", network.cidr),
    ("SPEC-038", network.room),
    ("SPEC-039", network.passages),
    ("SPEC-040", serving.engines),
    ("SPEC-041", serving.precisions),
    ("SPEC-042", serving.contexts),
    ("SPEC-043", cloud.cloud_keys),
    ("SPEC-044", cloud.zones),
    ("SPEC-045", cloud.capacity),
    ("SPEC-046", hosts.bastion),
    ("SPEC-047", hosts.addresses),
    ("SPEC-048", cloud.credentials),
    ("SPEC-049", cloud.endpoints),
    ("SPEC-050", storage.kinds),
    ("SPEC-051", storage.mounts),
    ("SPEC-052", serving.front_door),
    ("SPEC-053", serving.hostname),
    ("SPEC-054", serving.fabric),
    ("SPEC-055", software.driver),
    ("SPEC-056", serving.power_cap),
    ("SPEC-057", cloud.state),
    ("SPEC-058", software.gpu_software),
    ("SPEC-059", storage.buckets),
    ("SPEC-071", fabric.settings),
    ("SPEC-072", tuning.tuning),
    ("SPEC-073", cost.prices),
    ("SPEC-074", cloud.machines),
    ("SPEC-075", cloud.reserved_labels),
)

ONE_VALUE = frozenset(f"SPEC-{n:03d}" for n in (11, 12, 13, 14, 15, 16, 18, 31, 32, 33, 34, 36, 37, 39, 47, 53, 57))
"""Rules whose findings follow from the value they name, whatever stands beside it."""

FILES_RULES: tuple[tuple[str, FilesRule], ...] = (
    ("SPEC-060", files.same_name),
    ("SPEC-061", files.overlapping),
    ("SPEC-062", files.same_bucket),
    ("SPEC-063", files.same_port),
    ("SPEC-064", files.same_hostname),
    ("SPEC-065", files.same_host),
    ("SPEC-066", files.same_node_name),
)


def region(spec: Region) -> Iterator[tuple[str, Finding]]:
    """(rule, finding) of everything that is wrong with one region."""
    for rule, find in RULES:
        for finding in find(spec):
            yield rule, finding


def regions(specs: Sequence[Region]) -> Iterator[tuple[str, int, Finding]]:
    """(rule, index of the region, finding) of everything that is wrong between regions."""
    for rule, find in FILES_RULES:
        for index, finding in find(specs):
            yield rule, index, finding
