"""The rules: each a function from facts to what speaks against them. Ids as in docs/sovereignty.md.

A rule asks what the region's data ask for. A fact that is unknown speaks against every rule that needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from aifactory.sovereignty.facts import Fact, Facts, Resource

PROTECTED = ("personal", "secret")
CUSTODY = {"public": 0, "internal": 0, "personal": 1, "secret": 3}
"""Least rung of the custody ladder by class of data. Choice of this project, docs/sovereignty.md."""


@dataclass(frozen=True)
class Against:
    """One thing that speaks against a rule: what, what was found, what is allowed, how to mend it."""

    scope: str
    found: str
    allowed: str
    fix: str
    path: str = ""
    level: str = "planned"


Rule = Callable[[Facts], Iterator[Against]]


def protected(facts: Facts) -> bool:
    return any(c in PROTECTED for c in facts.data_classes)


def loc_01(facts: Facts) -> Iterator[Against]:
    """Everything stands in the region's country."""
    for r in facts.resources:
        yield from _in_country(facts, r.name, r.where, r.path, "stands in")


def loc_02(facts: Facts) -> Iterator[Against]:
    """Partition, host names and account are those of the file."""
    if facts.partition.value != "same":
        yield Against(
            facts.region, str(facts.partition), "one partition and account", "provider.partition and its credentials",
            "provider.partition", facts.partition.level,
        )  # fmt: skip


def loc_03(facts: Facts) -> Iterator[Against]:
    """Copies stand in the region's country too."""
    for r in facts.resources:
        for copy in r.copies:
            yield from _in_country(facts, r.name, copy, r.path, "has a copy in")


def loc_04(facts: Facts) -> Iterator[Against]:
    """A bucket is where it was declared. Planned buckets are; the live check reads their location."""
    for r in facts.resources:
        if r.kind == "storage" and r.where.level == "observed" and r.where.value != facts.country:
            yield from _in_country(facts, r.name, r.where, r.path, "is really in")


def loc_05(facts: Facts) -> Iterator[Against]:
    """Every API host that is asked is in the region's country and on its list."""
    waivable = {service for service, _ in facts.off_region}
    for service, host, country in facts.hosts:
        if service not in waivable:
            yield from _in_country(facts, service, country, f"provider.endpoints.{service}", f"{host} is in")


def loc_06(facts: Facts) -> Iterator[Against]:
    """No API host is guessed."""
    for service in facts.look_alikes:
        yield Against(
            service, "no endpoint, and the region's id would pass for one of commercial AWS", "an explicit endpoint",
            f"provider.endpoints: {{{service}: https://…}}", "provider.endpoints",
        )  # fmt: skip


def loc_07(facts: Facts) -> Iterator[Against]:
    """APIs with one host for the whole partition are named and waived."""
    for service, country in facts.off_region:
        if country != facts.country:
            yield Against(
                service, f"its one host for the whole partition stands in {country}", facts.country,
                "a waiver, or a partition that has it inside the region", "provider.partition",
            )  # fmt: skip


def key_01(facts: Facts) -> Iterator[Against]:
    """What holds protected data is encrypted with a key that somebody named."""
    if not protected(facts):
        return
    for r in _holders(facts):
        if r.key.value in (None, "none"):
            yield Against(
                r.name, f"key {r.key}", "encrypted with the region's key", "another kind of storage, or a waiver",
                r.path, r.key.level,
            )  # fmt: skip


def key_02(facts: Facts) -> Iterator[Against]:
    """Keys are held by whom the data's class asks for."""
    least = max((CUSTODY[c] for c in facts.data_classes), default=0)
    for r in _holders(facts):
        rung = r.key.value
        if rung is not None and rung.isdigit() and int(rung) < least:
            yield Against(
                r.name, f"custody {rung} of its key", f"{least} or more for {', '.join(facts.data_classes)}",
                "an external key store, or another class of data", r.path, r.key.level,
            )  # fmt: skip


def key_03(facts: Facts) -> Iterator[Against]:
    """The keeper of the state's secrets is in the region's country."""
    for r in facts.resources:
        if r.kind == "secrets":
            yield from _in_country(facts, r.name, r.where, r.path, "is kept in")


def net_01(facts: Facts) -> Iterator[Against]:
    """What leaves is closed, or listed by address and port."""
    if not protected(facts):
        return
    for r in facts.resources:
        if r.kind == "nodes" and r.leaves.value not in ("nothing", "listed"):
            found = "what leaves is unknown" if r.leaves.value is None else (
                "ports open to every address: the cloud's groups know addresses and ports, no names")  # fmt: skip
            yield Against(
                r.name, found, "closed, or addresses and ports", "network.egress with addresses (a proxy, a mirror)",
                "network.egress", r.leaves.level,
            )  # fmt: skip


def net_02(facts: Facts) -> Iterator[Against]:
    """Nothing but the front door is reached from everywhere."""
    for what in facts.open_to_all:
        yield Against(what, "open to everybody", "named addresses", "provider.ssh.source", "provider.ssh")


def ops_03(facts: Facts) -> Iterator[Against]:
    """No other account, partition or identity provider is trusted."""
    for what, whom in facts.trusts:
        yield Against(what, f"trusts {whom}", "the region's own account", "an identity of that account", what)


RULES: dict[str, Rule] = {
    "LOC-01": loc_01,
    "LOC-02": loc_02,
    "LOC-03": loc_03,
    "LOC-04": loc_04,
    "LOC-05": loc_05,
    "LOC-06": loc_06,
    "LOC-07": loc_07,
    "KEY-01": key_01,
    "KEY-02": key_02,
    "KEY-03": key_03,
    "NET-01": net_01,
    "NET-02": net_02,
    "OPS-03": ops_03,
}


def _holders(facts: Facts) -> Iterator[Resource]:
    yield from (r for r in facts.resources if r.kind in ("nodes", "storage"))


def _in_country(facts: Facts, scope: str, where: Fact, path: str, verb: str) -> Iterator[Against]:
    if where.value == facts.country:
        return
    fix = "another provider.region, or jurisdiction.country as it really is"
    found = f"{verb} {where}" if where.value else "nobody knows where it is"
    yield Against(scope, found, facts.country, fix, path, where.level)
