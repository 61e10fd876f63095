"""What moto 5.2 lacks of EC2, or does otherwise than EC2 (the list: docs of tests/emulator/__init__.py).

Error codes are EC2's. Source: EC2 API reference, error codes; RunInstances, DryRun, client tokens.
"""

from __future__ import annotations

import copy
import uuid
from typing import Any

from tests.emulator import world

ACCELERATED = ("p", "g", "trn", "inf", "dl")


def install() -> None:
    _zones()
    _tags()
    _ended_twice()
    _placement_groups()
    _reservations()
    _in_use()
    _console()
    _endpoint_services()


def _endpoint_services() -> None:
    """The list of services asks every backend of moto, and is empty for ever when one of them cannot be imported: many
    need packages that nothing here uses."""
    from moto import backends
    from moto.ec2.models import vpcs

    def importable(service: str) -> bool:
        try:
            backends.get_backend(service)  # type: ignore[call-overload]
        except ImportError:
            return False
        return True

    vpcs.IMPLEMENTED_ENDPOINT_SERVICES[:] = filter(importable, vpcs.IMPLEMENTED_ENDPOINT_SERVICES)


def _tags() -> None:
    """Tags of one object without a look at those of all others: a read of N instances is not N × N."""
    from moto.ec2.models.core import TaggedEC2Resource
    from moto.ec2.utils import EC2_PREFIX_TO_RESOURCE, get_prefix

    def tags(self: Any) -> list[dict[str, str]]:
        kind = EC2_PREFIX_TO_RESOURCE.get(get_prefix(self.id), "")
        found = dict(self.ec2_backend.tags.get(self.id, {}))
        return [{"resource_id": self.id, "key": k, "value": v, "resource_type": kind} for k, v in found.items()]

    TaggedEC2Resource.get_tags = tags


def _ended_twice() -> None:
    """To end what has ended is no error. Source: EC2 API reference, TerminateInstances: idempotent."""
    from moto.ec2.models.instances import Instance

    end = Instance.terminate

    def terminate(self: Any, *args: Any, **given: Any) -> Any:
        return copy.copy(self._state) if self.state == "terminated" else end(self, *args, **given)

    Instance.terminate = terminate


def refuse(code: str, message: str) -> None:
    from moto.ec2.exceptions import EC2ClientError

    raise EC2ClientError(code, message)


def _zones() -> None:
    """Regions that moto has no zones or types for have three: what us-east-1 has, in a and c; b has no accelerators."""
    from moto.ec2.models.availability_zones_and_regions import RegionsAndZonesBackend, Zone
    from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS as OFFERED

    region = "eusc-de-east-1"
    zones = [Zone(region_name=region, name=f"{region}{z}", zone_id=f"eusce1-az{i}") for i, z in enumerate("abc", 1)]
    RegionsAndZonesBackend.zones.setdefault(region, zones)
    types = sorted({row["InstanceType"] for row in OFFERED["region"]["us-east-1"]})
    OFFERED["region"].setdefault(region, [_offer(kind, region, "region") for kind in types])
    rows = [
        _offer(kind, zone.name, "availability-zone")
        for kind in types
        for zone in zones
        if not (zone.name.endswith("b") and kind.startswith(ACCELERATED))
    ]
    OFFERED["availability-zone"].setdefault(region, rows)


def _offer(kind: str, where: str, by: str) -> dict[str, str]:
    return {"InstanceType": kind, "Location": where, "LocationType": by}


def _placement_groups() -> None:
    from moto.core.responses import ActionResult, EmptyResult
    from moto.ec2.models.core import TaggedEC2Resource
    from moto.ec2.responses import EC2Response
    from moto.ec2.utils import generic_filter

    class Group(TaggedEC2Resource):  # type: ignore[misc]
        def __init__(self, backend: Any, name: str, strategy: str, tags: dict[str, str]) -> None:
            self.ec2_backend, self.group_name, self.strategy, self.state = backend, name, strategy, "available"
            self.id = self.group_id = f"pg-{uuid.uuid4().hex[:17]}"
            self.group_arn = f"arn:{backend.partition}:ec2:{backend.region_name}:{world.ACCOUNT}:placement-group/{name}"
            self.add_tags(tags)

        @property
        def tags(self) -> list[dict[str, str]]:
            return list(self.get_tags())

    def create(self: Any) -> Any:
        name = self._get_param("GroupName")
        if (self.region, name) in world.state.groups:
            refuse("InvalidPlacementGroup.Duplicate", f"The placement group '{name}' already exists.")
        tags = self._parse_tag_specification().get("placement-group", {})
        group = Group(self.ec2_backend, name, self._get_param("Strategy", "cluster"), tags)
        world.state.groups[self.region, name] = group
        return ActionResult({"PlacementGroup": group})

    def describe(self: Any) -> Any:
        here = {name: group for (region, name), group in world.state.groups.items() if region == self.region}
        names, ids = self._get_param("GroupNames", []), self._get_param("GroupIds", [])
        for missing in {*names} - {*here} | {*ids} - {group.id for group in here.values()}:
            refuse("InvalidPlacementGroup.Unknown", f"The placement group '{missing}' is unknown.")
        found = [g for g in here.values() if (not names or g.group_name in names) and (not ids or g.id in ids)]
        return ActionResult({"PlacementGroups": generic_filter(self._filters_from_querystring(), found)})

    def delete(self: Any) -> Any:
        name = self._get_param("GroupName")
        if (self.region, name) not in world.state.groups:
            refuse("InvalidPlacementGroup.Unknown", f"The placement group '{name}' is unknown.")
        if any(i.placement.group_name == name and i.state not in world.ENDED for i in self.ec2_backend.all_instances()):
            refuse("InvalidPlacementGroup.InUse", f"The placement group {name} is in use and may not be deleted.")
        world.state.groups.pop((self.region, name))
        return EmptyResult()

    EC2Response.create_placement_group = create
    EC2Response.describe_placement_groups = describe
    EC2Response.delete_placement_group = delete


def _reservations() -> None:
    from moto.core.responses import ActionResult
    from moto.ec2.responses import EC2Response

    def describe(self: Any) -> Any:
        ids = self._get_param("CapacityReservationIds", [])
        here = {name: row for (region, name), row in world.state.reservations.items() if region == self.region}
        for missing in {*ids} - {*here}:
            refuse("InvalidCapacityReservationId.NotFound", f"The capacity reservation '{missing}' does not exist.")
        found = [row | {"AvailableInstanceCount": left_of(row)} for row in here.values()]
        return ActionResult(
            {"CapacityReservations": [r for r in found if not ids or r["CapacityReservationId"] in ids]}
        )

    EC2Response.describe_capacity_reservations = describe


def left_of(row: dict[str, Any]) -> int:
    used = sum(
        getattr(instance, "capacity_reservation_id", "") == row["CapacityReservationId"]
        for instance in world.instances()
        if instance.state not in world.ENDED
    )
    return int(row.get("AvailableInstanceCount", row["TotalInstanceCount"])) - used


def _in_use() -> None:
    """What something still needs cannot be deleted: groups, subnets, an internet gateway with addresses behind it."""
    from moto.ec2.models import EC2Backend

    group, subnet = EC2Backend._delete_security_group, EC2Backend.delete_subnet
    detach, release, nat = EC2Backend.detach_internet_gateway, EC2Backend.release_address, EC2Backend.delete_nat_gateway

    def of_group(self: Any, vpc_id: str | None, group_id: str) -> Any:
        used = [eni.id for eni in self.enis.values() if group_id in {g.id for g in eni.group_set}]
        for other in self.groups.get(vpc_id, {}).values():
            rules = [*other.ingress_rules, *other.egress_rules] if other.id != group_id else []
            used += [other.id for rule in rules if rule.source_group.get("GroupId") == group_id]
        if used:
            refuse("DependencyViolation", f"resource {group_id} has a dependent object ({used[0]})")
        return group(self, vpc_id, group_id)

    def of_subnet(self: Any, subnet_id: str) -> Any:
        used = [eni.id for eni in self.enis.values() if eni.subnet.id == subnet_id]
        used += [gw.id for gw in self.nat_gateways.values() if gw.subnet_id == subnet_id and gw.state != "deleted"]
        used += [name for name, subnets in world.balancers() if subnet_id in subnets]
        if used:
            refuse(
                "DependencyViolation", f"The subnet '{subnet_id}' has dependencies ({used[0]}) and cannot be deleted."
            )
        return subnet(self, subnet_id)

    def of_gateway(self: Any, internet_gateway_id: str, vpc_id: str) -> Any:
        used = [gw.id for gw in self.nat_gateways.values() if gw.vpc_id == vpc_id and gw.state != "deleted"]
        if used:
            refuse("DependencyViolation", f"Network {vpc_id} has some mapped public address(es) ({used[0]}).")
        return detach(self, internet_gateway_id, vpc_id)

    def of_address(self: Any, address: str | None = None, allocation_id: str | None = None) -> Any:
        held = [found for found in self.addresses if found.allocation_id == allocation_id and found.association_id]
        if held:
            refuse("InvalidIPAddress.InUse", f"Address {held[0].public_ip} is in use.")
        return release(self, address, allocation_id)

    def nat_gone(self: Any, nat_gateway_id: str) -> Any:
        gone = nat(self, nat_gateway_id)
        for address in self.addresses:
            if address.eni is gone._eni:
                address.eni = address.association_id = None
        self.enis.pop(gone._eni.id, None)
        return gone

    EC2Backend._delete_security_group, EC2Backend.delete_subnet = of_group, of_subnet
    EC2Backend.detach_internet_gateway, EC2Backend.release_address = of_gateway, of_address
    EC2Backend.delete_nat_gateway = nat_gone


def _console() -> None:
    from moto.core.responses import ActionResult
    from moto.core.types import Base64EncodedString
    from moto.core.utils import utcnow
    from moto.ec2.responses import EC2Response

    def output(self: Any) -> Any:
        instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
        text = world.state.consoles.get(instance.id, world.state.console.replace("{id}", instance.id))
        found = {"InstanceId": instance.id, "Timestamp": utcnow()}
        return ActionResult(found | ({"Output": Base64EncodedString.from_raw_string(text)} if text else {}))

    EC2Response.get_console_output = output
