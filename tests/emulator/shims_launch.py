"""Launches as EC2 makes them: whole or not at all, after their template, where the type is offered and has room."""

from __future__ import annotations

import threading
import time
from typing import Any

from tests.emulator import world
from tests.emulator.shims_ec2 import left_of, refuse

_asked = threading.local()
ROOT = {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 8, "VolumeType": "gp3", "DeleteOnTermination": True}}


def install() -> None:
    _launch()
    _interfaces()


def _launch() -> None:
    """RunInstances: MinCount to MaxCount as capacity allows, or nothing; the template's interfaces, zone, profile."""
    from moto.ec2.models import EC2Backend
    from moto.ec2.models.instances import InstanceState
    from moto.ec2.models.launch_templates import LaunchTemplateBackend
    from moto.ec2.responses.instances import InstanceResponse

    run, asked, create = (
        EC2Backend.run_instances,
        InstanceResponse.run_instances,
        LaunchTemplateBackend.create_launch_template,
    )
    listed, mutex = EC2Backend.all_reservations, threading.Lock()

    def counted(self: Any) -> Any:
        least = int(self._get_param("MinCount", if_none="1"))
        _asked.call = {"least": least, "most": int(self._get_param("MaxCount", if_none=least))}
        for name in ("Placement", "InstanceMarketOptions", "CapacityReservationSpecification"):
            _asked.call[name] = self._get_param(name, {})
        return asked(self)

    def launched(self: Any, image_id: str, count: int, user_data: Any, names: list[str], **given: Any) -> Any:
        call = getattr(_asked, "call", None) or {"least": count, "most": count}
        data = self._get_template_from_args(given["launch_template"]).data if given.get("launch_template") else {}
        image_id = image_id or data.get("ImageId", "")
        _fill(self, given, data)
        merged = {
            name: {**(data.get(name) or {}), **call.get(name, {})}
            for name in ("Placement", "InstanceMarketOptions", "CapacityReservationSpecification")
        }
        group = merged["Placement"].get("GroupName", "")
        if group and (self.region_name, group) not in world.state.groups:
            refuse("InvalidPlacementGroup.Unknown", f"The placement group '{group}' is unknown.")
        kind = given["instance_type"] if not given["is_instance_type_default"] else data.get("InstanceType")
        zone = (
            self.get_subnet(given["nics"][0]["SubnetId"]).availability_zone if given["nics"] else given.get("placement")
        )
        _offered(self.region_name, kind, zone)
        market = merged["InstanceMarketOptions"].get("MarketType", "")
        given["instance_market_options"] = {}
        target = merged["CapacityReservationSpecification"].get("CapacityReservationTarget", {})
        with mutex:
            number = _granted(self.region_name, call, zone, kind, target.get("CapacityReservationId", ""))
            made = run(self, image_id, number, user_data, names, **given)
            for instance in made.instances:
                instance.lifecycle = market or None
                instance.placement.group_name = group
                instance.capacity_reservation_id = target.get("CapacityReservationId")
                instance.ready_at = time.time() + world.state.pending_s
                if world.state.pending_s:
                    instance._state = InstanceState("pending", 0)
                _profile(self, instance, data)
        return made

    def reservations(self: Any, filters: Any = None) -> Any:
        for made in list(self.reservations.values()):
            for instance in made.instances:
                if instance.state == "pending" and time.time() >= instance.ready_at:
                    instance._state = InstanceState("running", 16)
        return listed(self, filters)

    def template(self: Any, name: str, description: str, data: dict[str, Any], tags: Any) -> Any:
        own = [spec for spec in data.pop("TagSpecifications", []) if spec.get("ResourceType") != "launch-template"]
        if own:
            data["TagSpecifications"] = own
        return create(self, name, description, data, tags)

    InstanceResponse.run_instances, EC2Backend.all_reservations = counted, reservations
    EC2Backend.run_instances, EC2Backend.create_launch_template = launched, template


def _fill(backend: Any, given: dict[str, Any], data: dict[str, Any]) -> None:
    """Interfaces, zone and metadata options of the template, where the call names none."""
    nics = given.get("nics") or data.get("NetworkInterfaces") or []
    if given.get("subnet_id") and nics:
        refuse("InvalidParameterCombination", "Network interfaces and an instance-level subnet ID may not be specified")
    placed = []
    for place, nic in enumerate(nics):
        groups = nic.get("Groups") or nic.get("SecurityGroupIds") or []
        # Moto keeps one interface a device index; every card but the first has index 1. _interfaces puts it right.
        placed.append({**nic, "Groups": list(groups), "DeviceIndex": place, "_device": int(nic.get("DeviceIndex", 0))})
    given["nics"] = placed
    given["placement"] = given.get("placement") or (data.get("Placement") or {}).get("AvailabilityZone")
    given["metadata_options"] = given.get("metadata_options") or data.get("MetadataOptions") or {}
    disks = given.get("block_device_mappings") or data.get("BlockDeviceMappings") or []
    if ROOT["DeviceName"] not in {disk["DeviceName"] for disk in disks}:
        disks = [ROOT, *disks]
    given["block_device_mappings"] = disks


def _offered(region: str, kind: str, zone: str | None) -> None:
    from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS as OFFERED

    rows = OFFERED["availability-zone"].get(region, [])
    where = sorted(row["Location"] for row in rows if row["InstanceType"] == kind)
    if zone and where and zone not in where:
        refuse(
            "Unsupported", f"Your requested instance type ({kind}) is not supported in {zone}; try {', '.join(where)}"
        )


def _granted(region: str, call: dict[str, Any], zone: str | None, kind: str, reservation: str) -> int:
    running = [i for i in world.instances() if i.state not in world.ENDED]
    left = [call["most"]]
    for name, most in world.state.capacity.items():
        here = [
            i for i in running if name in (f"{i.placement.zone}/{i.instance_type}", i.placement.zone, i.instance_type)
        ]
        if name in (f"{zone}/{kind}", zone, kind):
            left.append(most - len(here))
    if reservation:
        row = world.state.reservations.get((region, reservation))
        if row is None:
            refuse("InvalidCapacityReservationId.NotFound", f"The capacity reservation '{reservation}' does not exist.")
        if row and left_of(row) < call["least"]:
            refuse("ReservationCapacityExceeded", f"The requested reservation {reservation} has not enough capacity.")
    if min(left) < call["least"]:
        said = f"We currently do not have sufficient {kind} capacity in the Availability Zone you requested ({zone})."
        refuse("InsufficientInstanceCapacity", said)
    return int(min(left))


def _profile(backend: Any, instance: Any, data: dict[str, Any]) -> None:
    profile = data.get("IamInstanceProfile") or {}
    if profile and instance.id not in backend.iam_instance_profile_associations:
        backend.associate_iam_instance_profile(
            instance.id, iam_instance_profile_name=profile.get("Name"), iam_instance_profile_arn=profile.get("Arn")
        )


def _interfaces() -> None:
    """Interface type and card of each interface, and all of them, not one a device index."""
    from moto.ec2.models.elastic_network_interfaces import Attachment
    from moto.ec2.models.instances import Instance

    prepare, attached = Instance.prep_nics, Attachment.__init__

    def prep(self: Any, nic_spec: list[dict[str, Any]], *args: Any, **given: Any) -> None:
        prepare(self, nic_spec, *args, **given)
        for spec in nic_spec:
            if "_device" in spec and (nic := self.nics.get(spec["DeviceIndex"])) is not None:
                nic.device_index = spec["_device"]
                nic.card = int(spec.get("NetworkCardIndex") or 0)
                nic.interface_type = spec.get("InterfaceType") or "interface"
                nic.delete_on_termination = str(spec.get("DeleteOnTermination", True)).lower() == "true"

    def attach(self: Any, eni: Any) -> None:
        attached(self, eni)
        self.network_card_index = getattr(eni, "card", 0)

    Instance.prep_nics, Attachment.__init__ = prep, attach
