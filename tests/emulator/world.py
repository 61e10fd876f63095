"""What is in the emulated account: moto's objects and those that moto has no word for, planted by tests or made."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

ACCOUNT = "123456789012"
ENDED = ("terminated", "shutting-down")

# Service quotas of EC2 in vCPUs. Source: AWS General Reference, Amazon EC2 endpoints and quotas; read 2026-11-25.
QUOTAS = {
    "L-1216C47A": "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances",
    "L-DB2E81BA": "Running On-Demand G and VT instances",
    "L-417A185B": "Running On-Demand P instances",
    "L-2C3B7624": "Running On-Demand Trn instances",
}


@dataclass
class State:
    """Everything beside moto's own objects."""

    capacity: dict[str, int] = field(default_factory=dict)
    """`zone/type`, `zone` or `type` → how many instances may run there."""
    console: str = ""
    """Console output of every instance without its own; `{id}` is its id."""
    consoles: dict[str, str] = field(default_factory=dict)
    pending_s: float = 0.0
    """How long an instance is pending, a file system CREATING, an endpoint or gateway pending."""
    quotas: dict[str, float] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)
    groups: dict[tuple[str, str], Any] = field(default_factory=dict)
    """(region, name) → placement group."""
    reservations: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    """(region, id) → capacity reservation."""
    associations: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    """(region, id) → data repository association."""


state = State()


def reset() -> None:
    for _, backend in _backends():
        backend.reset()
    state.__init__()  # type: ignore[misc]


def _backends() -> list[tuple[str, Any]]:
    """(service, backend of one region) for all that were spoken to."""
    from moto.core.base_backend import BackendDict

    return [(found.service_name, one) for found in BackendDict._instances for _, _, one in list(found.iter_backends())]


def ec2(region: str) -> Any:
    from moto.ec2.models import ec2_backends

    return ec2_backends[ACCOUNT][region]


def instances() -> list[Any]:
    """Of every region, the ended ones too."""
    from moto.ec2.models import ec2_backends

    return [
        instance
        for _, _, backend in list(ec2_backends.iter_backends())
        for reservation in list(backend.reservations.values())
        for instance in list(reservation.instances)
    ]


def balancers() -> list[tuple[str, list[str]]]:
    """(name, subnets) of every load balancer."""
    return [
        (balancer.name, [subnet.id for subnet in balancer.subnets])
        for service, backend in _backends()
        if service == "elbv2"
        for balancer in backend.load_balancers.values()
    ]


def terminated(answer: bytes) -> bool:
    """Whether some instance of an earlier RunInstances answer has ended."""
    named = {found.decode() for found in re.findall(rb"<instanceId>(i-\w+)", answer)}
    return any(instance.id in named and instance.state in ENDED for instance in instances())


def set_values(**values: Any) -> None:
    """capacity, console, pending_s, quotas; `instance` with address, console and state."""
    chosen = values.pop("instance", None)
    if chosen:
        instance = next((found for found in instances() if found.id == chosen), None)
        if instance is None:
            raise ValueError(f"there is no instance {chosen}")
        if values.get("address"):
            instance.nics[0].private_ip_address = values["address"]
        if values.get("console") is not None:
            state.consoles[chosen] = values["console"]
        return
    for name, value in values.items():
        if name not in ("capacity", "console", "pending_s", "quotas"):
            raise ValueError(f"nothing is called {name} here")
        if isinstance(value, dict):
            getattr(state, name).update(value)
        else:
            setattr(state, name, value)


def plant(kind: str, region: str, **values: Any) -> None:
    """An image or a capacity reservation, which no call of ours makes."""
    if kind == "reservation":
        state.reservations[region, values["CapacityReservationId"]] = values
    elif kind == "image":
        from moto.ec2.models.amis import Ami

        backend = ec2(region)
        backend.amis[values["ami_id"]] = Ami(backend, owner_id="amazon", public=True, **values)
    else:
        raise ValueError(f"an image or a reservation can be planted, not {kind}")


def inventory() -> dict[str, list[str]]:
    """Every object of the account by `service:kind`, without what a fresh account has and what has ended.

    `kms:key-ending` are keys whose deletion is scheduled: no cloud deletes one at once.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for kind, name in [*_ec2(), *_others()]:
        found[kind].append(name)
    for kind, keyed in (("placement-group", state.groups), ("data-repository-association", state.associations)):
        found[f"{'ec2' if kind[0] == 'p' else 'fsx'}:{kind}"] += [name for _, name in keyed]
    return {kind: sorted(names) for kind, names in sorted(found.items()) if names}


def _ec2() -> list[tuple[str, str]]:
    from moto.ec2.models import ec2_backends

    found: list[tuple[str, str]] = []
    for _, _, backend in list(ec2_backends.iter_backends()):
        default = {vpc.id for vpc in backend.vpcs.values() if vpc.is_default}
        own = [item.id for items in backend.subnets.values() for item in items.values() if item.vpc_id not in default]
        found += [("ec2:vpc", name) for name in backend.vpcs if name not in default]
        found += [("ec2:subnet", name) for name in own]
        for vpc, groups in backend.groups.items():
            found += [("ec2:security-group", g.id) for g in groups.values() if g.name != "default" and vpc]
        tables = backend.route_tables.values()
        found += [
            ("ec2:route-table", table.id)
            for table in tables
            if table.vpc_id not in default and not table.main_association_id
        ]
        found += [
            ("ec2:instance", i.id) for r in backend.reservations.values() for i in r.instances if i.state not in ENDED
        ]
        found += [("ec2:nat-gateway", gw.id) for gw in backend.nat_gateways.values() if gw.state != "deleted"]
        found += [("ec2:vpc-endpoint", e.id) for e in backend.vpc_end_points.values() if e.state != "deleted"]
        found += [("ec2:address", address.allocation_id) for address in backend.addresses]
        found += [("ec2:network-interface", name) for name in backend.enis]
        for kind, keyed in (
            ("internet-gateway", backend.internet_gateways),
            ("volume", backend.volumes),
            ("launch-template", backend.launch_templates),
            ("flow-log", backend.flow_logs),
        ):
            found += [(f"ec2:{kind}", name) for name in keyed]
    return found


def _others() -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for service, backend in _backends():
        if service == "iam":
            found += [("iam:role", r.name) for r in backend.roles.values() if "/aws-service-role/" not in r.arn]
            found += [("iam:instance-profile", profile.name) for profile in backend.instance_profiles.values()]
        elif service == "kms":
            for key in backend.keys.values():
                if not any(alias.startswith("alias/aws/") for alias in key.aliases):
                    found.append(("kms:key" + "-ending" * (key.key_state == "PendingDeletion"), key.id))
            names = [alias for key in backend.keys.values() for alias in key.aliases]
            found += [("kms:alias", alias) for alias in names if not alias.startswith("alias/aws/")]
        elif service == "s3":
            found += [("s3:bucket", name) for name in backend.buckets]
        elif service == "fsx":
            found += [("fsx:file-system", name) for name in backend.file_systems]
        elif service == "elbv2":
            found += [("elbv2:load-balancer", balancer.name) for balancer in backend.load_balancers.values()]
            found += [("elbv2:target-group", group.name) for group in backend.target_groups.values()]
    return found
