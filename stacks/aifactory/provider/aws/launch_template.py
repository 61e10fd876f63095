"""`aifactory:aws:LaunchTemplate`: what the nodes of one pool are made of.

A change makes a new version of it. Nodes that exist keep theirs; a version that was made is never changed or removed.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from aifactory import catalog, naming
from aifactory.provider import tokens
from aifactory.provider.aws import boot, capacity, owned, tags
from aifactory.provider.aws.api import Api
from aifactory.provider.aws.boot import Boot
from aifactory.provider.aws.capacity import RESERVED, CapacityKind
from aifactory.provider.aws.cloud import CloudInput
from aifactory.provider.aws.owned import Owned, Work
from aifactory.provider.journal import Journal
from aifactory.provider.resource import UNKNOWN, CheckFailure, Context, Refused, prop

DATA_DEVICE = "/dev/sdf"
"""Where the data volume is asked for; Nitro shows it under another name (templates/boot/user-data.yaml.j2).
Source: Amazon EC2 User Guide, device names: /dev/sd[f-p] are recommended for volumes."""
IMAGE_RE = re.compile(r"ami-[0-9a-f]{8}([0-9a-f]{9})?")


@dataclass(frozen=True)
class LaunchTemplateInputs:
    region: str = prop(doc="Region name.", replaces=True)
    cloud: CloudInput = prop(doc="Where its API is.")
    name: str = prop(doc="Name, unique in the account and region; nodes' host names begin with it.", replaces=True)
    image: str = prop(doc="Machine image, `ami-…`.")
    instance_type: str = prop(doc="Instance type.")
    efa_cards: int = prop(doc="Network cards that get an EFA interface; 0: one plain interface.")
    zone: str = prop(doc="Availability zone.")
    subnet_id: str = prop(doc="Subnet of every interface, in that zone.")
    security_groups: tuple[str, ...] = prop(doc="Of every interface.")
    user: str = prop(doc="Login that is made at the first boot.")
    authorized_key: str = prop(doc="SSH public key that may log in as that user.")
    instance_profile: str = prop("", doc="Name of the instance profile.")
    key_arn: str = prop("", doc="KMS key of the volumes; the account's own for EBS without it.")
    root_volume_gib: int | None = prop(None, doc="Size of the root volume; the image's own without it.")
    data_volume_gib: int | None = prop(None, doc="A second volume, for images and models; it ends with its node.")
    placement_group: str = prop("", doc="Name of the placement group.")
    capacity_kind: CapacityKind = prop("on_demand", doc="How instances are asked for.")
    capacity_id: str = prop("", doc="Reservation or capacity block.")
    token: str = prop("", doc="Identity of the resource.", check=True)


@dataclass(frozen=True)
class LaunchTemplateOutputs:
    template_id: str = prop(doc="Id of the cloud.")
    template_version: int = prop(doc="The version that these inputs made.")
    user_data_sha256: str = prop(doc="What new nodes are told at their first boot.")
    nonce: str = prop(doc="Fence of delete and update.")


class LaunchTemplate(Owned[LaunchTemplateInputs, LaunchTemplateOutputs]):
    """One object with versions. Create and update read the image once: its root device has a name of its own."""

    token = tokens.AWS_LAUNCH_TEMPLATE
    Inputs = LaunchTemplateInputs
    Outputs = LaunchTemplateOutputs
    name_stays = True

    def id_of(self, news: LaunchTemplateInputs) -> str:
        return news.name

    def check(
        self, ctx: Context, news: LaunchTemplateInputs, olds: LaunchTemplateInputs | None
    ) -> tuple[LaunchTemplateInputs, list[CheckFailure]]:
        return news, list(_failures(news))

    def preview(
        self, ctx: Context, news: LaunchTemplateInputs, outs: LaunchTemplateOutputs | None
    ) -> LaunchTemplateOutputs:
        """What is told at the first boot is known beforehand; the version is not."""
        told = UNKNOWN if UNKNOWN in (news.user, news.authorized_key) else boot.sha256(_user_data(news))
        if outs is None:
            return LaunchTemplateOutputs(UNKNOWN, UNKNOWN, told, UNKNOWN)
        return replace(outs, template_version=UNKNOWN, user_data_sha256=told)

    def changed(self, api: Api, olds: LaunchTemplateInputs, outs: LaunchTemplateOutputs) -> tuple[str, ...]:
        """One read. A newer toolkit that says something else at the first boot makes a new version too."""
        if _version(api, outs.template_id, str(outs.template_version)) is None:
            return ("template_version",)
        return () if boot.sha256(_user_data(olds)) == outs.user_data_sha256 else ("user_data_sha256",)

    def found(self, api: Api, olds: LaunchTemplateInputs, outs: LaunchTemplateOutputs) -> LaunchTemplateOutputs | None:
        return None if _version(api, outs.template_id, str(outs.template_version)) is None else outs

    def make(self, work: Work[LaunchTemplateOutputs], news: LaunchTemplateInputs) -> LaunchTemplateOutputs:
        text = _user_data(news)
        root = root_of(work.api, news.image)
        if news.root_volume_gib and news.root_volume_gib < root.gib:
            raise Refused(f"root_volume_gib: {news.root_volume_gib}; image {news.image} needs {root.gib}")
        data = template_data(news, root, text)
        digest = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:32]
        template = self._template(work, news, data, digest)
        outs = LaunchTemplateOutputs(str(template["LaunchTemplateId"]), 0, boot.sha256(text), work.nonce)
        work.exists(outs)
        return replace(outs, template_version=_latest(work, outs.template_id, data, digest))

    def _template(
        self, work: Work[LaunchTemplateOutputs], news: LaunchTemplateInputs, data: dict[str, Any], digest: str
    ) -> dict[str, Any]:
        def seen() -> dict[str, Any] | None:
            template = _template(work.api, news.name)
            if template is not None:
                owned.claim(f"launch template {news.name}", tags.read(template.get("Tags")), work.tags)
            return template

        template = work.api.create(
            "ec2",
            "CreateLaunchTemplate",
            seen,
            lambda answer: dict(answer["LaunchTemplate"]),
            ClientToken=uuid.uuid4().hex,  # of this call and its repetitions: a run after a kill finds the name
            LaunchTemplateName=news.name,
            VersionDescription=digest,
            LaunchTemplateData=data,
            TagSpecifications=tags.specification("launch-template", work.tags),
        )
        if tags.read(template.get("Tags")).get(tags.TOKEN) != news.token:
            work.api.call("ec2", "CreateTags", Resources=[template["LaunchTemplateId"]], Tags=tags.pairs(work.tags))
        return template

    def remove(self, api: Api, journal: Journal, olds: LaunchTemplateInputs, outs: LaunchTemplateOutputs) -> None:
        """The template with all its versions; instances that were made of it stay."""
        template, mine = _template(api, olds.name), tags.of(api.ctx, olds.region, olds.token)
        if template is not None and owned.is_ours(tags.read(template.get("Tags")), mine):
            owned.removed(api, "ec2", "DeleteLaunchTemplate", LaunchTemplateId=template["LaunchTemplateId"])


def template_data(news: LaunchTemplateInputs, root: Root, user_data: str) -> dict[str, Any]:
    """The contents of a version: LaunchTemplateData, as the API takes it."""
    data: dict[str, Any] = {
        "ImageId": news.image,
        "InstanceType": news.instance_type,
        "NetworkInterfaces": list(_interfaces(news)),
        "BlockDeviceMappings": list(_volumes(news, root)),
        "Placement": {"AvailabilityZone": news.zone},
        # Tags in the metadata tell a node its place in the pool (templates/boot/user-data.yaml.j2).
        "MetadataOptions": {
            "HttpEndpoint": "enabled",
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": 1,
            "InstanceMetadataTags": "enabled",
        },
        "UserData": boot.encoded(user_data),
        **capacity.options(news.capacity_kind, news.capacity_id),
    }
    if news.placement_group:
        data["Placement"]["GroupName"] = news.placement_group
    if news.instance_profile:
        data["IamInstanceProfile"] = {"Name": news.instance_profile}
    return data


def _interfaces(news: LaunchTemplateInputs) -> Iterator[dict[str, Any]]:
    """One interface a card. Where there are more cards than EFA takes, the first one is for IP alone.

    Source: Amazon EC2 User Guide, Maximize network bandwidth on instances with multiple network cards (docs.aws.eu
    and the section P6-B300), read 2026-11-25.
    """
    shape = catalog.shapes().get(news.instance_type)
    ip_first = bool(news.efa_cards and shape and shape.nics and shape.nics > shape.efa_cards >= news.efa_cards > 1)
    rows = [(0, 0, "interface" if ip_first or not news.efa_cards else "efa")]
    rows += [(card, 0 if ip_first else 1, "efa-only" if ip_first else "efa") for card in _others(news, ip_first)]
    for card, device, kind in rows:
        yield {
            "NetworkCardIndex": card,
            "DeviceIndex": device,
            "InterfaceType": kind,
            "SubnetId": news.subnet_id,
            "Groups": list(news.security_groups),
            "DeleteOnTermination": True,
        }


def _others(news: LaunchTemplateInputs, ip_first: bool) -> range:
    return range(1, news.efa_cards + 1 if ip_first else news.efa_cards)


def _volumes(news: LaunchTemplateInputs, root: Root) -> Iterator[dict[str, Any]]:
    """Both encrypted, both gone with the node: what must last is in buckets and file systems."""
    sizes = {root.device: news.root_volume_gib or root.gib}
    if news.data_volume_gib:
        sizes[DATA_DEVICE] = news.data_volume_gib
    for device, gib in sizes.items():
        disk: dict[str, Any] = {"Encrypted": True, "VolumeType": "gp3", "DeleteOnTermination": True}
        if gib:
            disk["VolumeSize"] = gib
        if news.key_arn:
            disk["KmsKeyId"] = news.key_arn
        yield {"DeviceName": device, "Ebs": disk}


@dataclass(frozen=True)
class Root:
    """The root device of an image: /dev/sda1, /dev/xvda. `gib` is the least that it takes; 0 where that is unknown."""

    device: str
    gib: int


def root_of(api: Api, image: str) -> Root:
    """One read. Raises Refused where there is no such image."""
    answer = owned.absent_is_none(lambda: api.call("ec2", "DescribeImages", ImageIds=[image]))
    images = (answer or {}).get("Images") or [{}]
    device = images[0].get("RootDeviceName")
    if not device:
        raise Refused(f"image {image} is not in {api.cloud.region}, or not for account {api.cloud.account}")
    disks = {disk.get("DeviceName"): disk.get("Ebs") or {} for disk in images[0].get("BlockDeviceMappings") or ()}
    return Root(str(device), int(disks.get(device, {}).get("VolumeSize") or 0))


def _latest(work: Work[LaunchTemplateOutputs], template_id: str, data: dict[str, Any], digest: str) -> int:
    """The newest version where it has these contents, else one that is made now."""
    newest = work.api.until(lambda: _version(work.api, template_id, "$Latest"), f"launch template {template_id}")
    if newest.get("VersionDescription") == digest:
        return int(newest["VersionNumber"])
    answer = work.api.call(
        "ec2",
        "CreateLaunchTemplateVersion",
        ClientToken=uuid.uuid4().hex,  # a run after a kill finds the digest
        LaunchTemplateId=template_id,
        VersionDescription=digest,
        LaunchTemplateData=data,
    )
    return int(answer["LaunchTemplateVersion"]["VersionNumber"])


def _template(api: Api, name: str) -> dict[str, Any] | None:
    """The template of that name, ours or not."""
    answer = owned.absent_is_none(lambda: api.call("ec2", "DescribeLaunchTemplates", LaunchTemplateNames=[name]))
    found = (answer or {}).get("LaunchTemplates") or ()
    return dict(found[0]) if found else None


def _version(api: Api, template_id: str, version: str) -> dict[str, Any] | None:
    answer = owned.absent_is_none(
        lambda: api.call("ec2", "DescribeLaunchTemplateVersions", LaunchTemplateId=template_id, Versions=[version])
    )
    found = (answer or {}).get("LaunchTemplateVersions") or ()
    return dict(found[0]) if found else None


def _user_data(news: LaunchTemplateInputs) -> str:
    return boot.user_data(Boot(news.name, news.user, news.authorized_key, bool(news.data_volume_gib)))


def _failures(news: LaunchTemplateInputs) -> Iterator[CheckFailure]:
    if news.name is not UNKNOWN and not naming.HOST_RE.fullmatch(news.name):
        yield CheckFailure("name", f"{news.name} cannot begin a host name")
    for field, rule, what in (
        ("image", IMAGE_RE, "an image id, ami-…"),
        ("user", boot.USER_RE, "a login name"),
        ("authorized_key", boot.PUBLIC_KEY_RE, "an SSH public key, one line"),
    ):
        value = getattr(news, field)
        if value is not UNKNOWN and not rule.fullmatch(value):
            yield CheckFailure(field, f"is not {what}")
    for field in ("root_volume_gib", "data_volume_gib"):
        if (gib := getattr(news, field)) not in (None, UNKNOWN) and gib < 1:
            yield CheckFailure(field, "is at least 1")
    shape = catalog.shapes().get(news.instance_type)
    if UNKNOWN not in (news.efa_cards, news.instance_type) and shape and news.efa_cards > shape.efa_cards:
        yield CheckFailure("efa_cards", f"a {news.instance_type} has {shape.efa_cards} cards for EFA")
    if news.capacity_kind in RESERVED and not news.capacity_id:
        yield CheckFailure("capacity_id", f"capacity_kind {news.capacity_kind} needs the id of one")
