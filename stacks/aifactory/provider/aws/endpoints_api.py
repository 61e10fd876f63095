"""VPC endpoints: what they are called in a region, made and mended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aifactory.provider.aws.api import Api
from aifactory.provider.aws.failures import CloudError
from aifactory.provider.aws.network_world import Endpoint
from aifactory.provider.resource import Refused

GATEWAY, INTERFACE = "Gateway", "Interface"
SHOWN = 8
"""Names in a message."""


@dataclass(frozen=True)
class Offer:
    """A service that an endpoint can lead to. Its name differs from partition to partition, so it is asked for."""

    name: str
    kinds: frozenset[str]
    zones: frozenset[str]


def offers(api: Api) -> tuple[Offer, ...]:
    listed = api.pages("ec2", "DescribeVpcEndpointServices", "ServiceDetails")
    return tuple(
        Offer(
            str(item["ServiceName"]),
            frozenset(str(kind["ServiceType"]) for kind in item.get("ServiceType") or ()),
            frozenset(map(str, item.get("AvailabilityZones") or ())),
        )
        for item in listed
        if item.get("Owner", "amazon") == "amazon"
    )


def offer(found: Iterable[Offer], region: str, service: str, kind: str) -> Offer:
    """The service of that short name. Raises Refused, with what there is, where the region has none."""
    fitting = [o for o in found if kind in o.kinds]
    named = [o for o in fitting if o.name.endswith(f".{region}.{service}")]
    if not named:
        from aifactory import catalog

        names = sorted(o.name.partition(f".{region}.")[2] or o.name for o in fitting)
        near = catalog.nearest(service, names) or tuple(names[:SHOWN])
        raise Refused(
            f"network.private_endpoints: {region} has no {kind.lower()} endpoint for {service}; "
            f"nearest: {', '.join(near) or 'there is none at all'}"
        )
    return min(named, key=lambda o: len(o.name))


def prefix_list(api: Api, region: str, service: str) -> str:
    """Id of the list of a service's addresses in the region. Raises CloudError where there is none."""
    found = [
        str(item["PrefixListId"])
        for item in api.pages("ec2", "DescribePrefixLists", "PrefixLists")
        if str(item["PrefixListName"]).endswith(f".{region}.{service}")
    ]
    if not found:
        raise CloudError("DescribePrefixLists", "NotFound", f"{region} lists no addresses of {service}", kind="other")
    return min(found)


def mend(api: Api, endpoint: Endpoint, wanted: Mapping[str, frozenset[str]]) -> None:
    """Adds and removes what differs; `wanted`: RouteTable, Subnet, SecurityGroup → ids, as far as they matter."""
    found = {"RouteTable": endpoint.tables, "Subnet": endpoint.subnets, "SecurityGroup": endpoint.groups}
    changes: dict[str, Any] = {}
    for key, ids in wanted.items():
        changes |= {f"Add{key}Ids": sorted(ids - found[key])} if ids - found[key] else {}
        changes |= {f"Remove{key}Ids": sorted(found[key] - ids)} if found[key] - ids else {}
    if changes:
        api.call("ec2", "ModifyVpcEndpoint", just_made=True, VpcEndpointId=endpoint.id, **changes)
