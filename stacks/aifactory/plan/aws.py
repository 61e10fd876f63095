"""A region in a cloud of the AWS family: network, keys, storage, what each pool's nodes are made of. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

from aifactory import catalog, naming
from aifactory.catalog import Cloud
from aifactory.plan.lookup import refuse
from aifactory.plan.model import (
    AwsDoorPlan,
    AwsPlan,
    AwsPoolPlan,
    BucketPlan,
    CloudPlan,
    Derived,
    EgressPlan,
    FabricPlan,
    FileSystemPlan,
    FrontDoorPlan,
    PoolPlan,
    SubnetPlan,
)
from aifactory.plan.nodes import DOOR_PORT
from aifactory.region.checks.network import PRIVATE
from aifactory.region.spec import AwsProvider, Capacity, Pool, Region

RESERVED = 5
"""Addresses of a subnet that nobody gets. Source: EC2 API, CreateSubnet: the first four and the last (2026-11)."""
NARROWEST = 28
"""Smallest subnet. Source: the same."""
PUBLIC = 26
"""Widest public subnet: it holds a load balancer and a NAT gateway."""
PUBLIC_USERS = 2
LEAST_THROUGHPUT = 125
"""MB/s for each TiB of a persistent SSD file system. Source: FSx API, PerUnitStorageThroughput (2026-11)."""
ANYWHERE = "0.0.0.0/0"
OFF_REGION = "LOC-07"

Net = ipaddress.IPv4Network


def aws(spec: Region, pools: tuple[PoolPlan, ...], fabric: FabricPlan, door: FrontDoorPlan | None) -> AwsPlan | None:
    """The cloud's part of the plan; None for other providers. Raises ProblemError for what cannot be laid out."""
    cloud = spec.provider
    if not isinstance(cloud, AwsProvider):
        return None
    if not cloud.zones:
        raise refuse(
            "PLAN-013", "provider.zones", "Nodes stand in a zone, and the region names none.",
            fix=f"zones: [{cloud.region}a], or another zone that has the shapes",
        )  # fmt: skip
    made = tuple(_pool(spec, cloud, pool, fabric) for pool in pools)
    front = _door(spec, cloud, pools, door)
    nat = Derived(bool(spec.network.egress), _why_nat(spec))
    return AwsPlan(
        cloud=_cloud(spec, cloud),
        zones=cloud.zones,
        subnets=_subnets(spec, cloud, pools, made, nat.value or bool(front and not front.internal.value)),
        nat=nat,
        egress=_egress(spec.network.egress),
        gateway_endpoints=("s3",),
        interface_endpoints=tuple(sorted(spec.network.private_endpoints)),
        flow_logs=spec.network.flow_logs,
        api_from=spec.network.ingress.api,
        ssh_from=cloud.ssh.source,
        key_alias=naming.aws_key_alias(spec.name),
        key_custody=cloud.key_custody,
        role=naming.aws_node_role(spec.name),
        buckets=tuple(
            BucketPlan(s.name, naming.aws_bucket(spec.name, s.name, cloud.account), s.retention_days)
            for s in spec.storage
            if s.kind == "object"
        ),
        file_systems=tuple(_file_systems(spec, made[0].subnet)),
        pools=made,
        door=front,
    )


def _cloud(spec: Region, cloud: AwsProvider) -> CloudPlan:
    source = cloud.credentials
    card = catalog.clouds().get(cloud.partition)
    return CloudPlan(
        key=cloud.partition,
        region=cloud.region,
        account=cloud.account,
        endpoints=tuple(sorted(cloud.endpoints.items())),
        off_region=tuple(_off_region(spec, card)) if card else (),
        profile=source.profile,
        env_prefix=source.env_prefix,
        role_arn=source.role_arn,
    )


def _off_region(spec: Region, card: Cloud) -> Iterator[str]:
    """APIs with one host for the whole partition: in the region's own country, or waived (the rule knows the date)."""
    waived = {w.scope for w in spec.acceptance.waivers if w.check == OFF_REGION}
    for service, country in sorted(card.off_region.items()):
        if country == spec.jurisdiction.country or waived & {service, spec.name}:
            yield service


def _why_nat(spec: Region) -> str:
    return "network.egress names what nodes may reach" if spec.network.egress else "network.egress is empty: closed"


def _egress(entries: Iterable[str]) -> tuple[EgressPlan, ...]:
    passages = set()
    for entry in entries:
        host, _, port = entry.rpartition(":")
        try:
            passages.add((f"{ipaddress.IPv4Address(host)}/32", int(port)))
        except ValueError:  # a name, or IPv6, of which the network has none
            passages.add((ANYWHERE, int(port)))
    return tuple(EgressPlan(cidr, port) for cidr, port in sorted(passages))


# -- subnets


def _subnets(
    spec: Region, cloud: AwsProvider, pools: tuple[PoolPlan, ...], made: tuple[AwsPoolPlan, ...], public: bool
) -> tuple[SubnetPlan, ...]:
    """Nodes' subnets in the order of the zones, then the public ones where anything needs them.

    Where each stands follows from network and zones alone, which never change: no subnet moves when a pool grows.
    """
    network = Net(spec.network.cidr)
    slots = 1 << len(cloud.zones).bit_length()
    prefix = network.prefixlen + slots.bit_length() - 1
    open_prefix = max(prefix + slots.bit_length() - 1, PUBLIC)
    if open_prefix > NARROWEST:
        raise refuse(
            "PLAN-014", "provider.zones", f"{network} has no room for subnets in {len(cloud.zones)} zones.",
            allowed=f"subnets of at least /{NARROWEST}", fix="a wider network.cidr, or fewer zones",
        )  # fmt: skip
    first, *others = network.subnets(new_prefix=prefix)
    of = f"of {network} in {slots} parts for {_zones(cloud.zones)} and what is public"
    found = [
        SubnetPlan(
            name=_subnet("nodes", cloud, zone),
            zone=zone,
            public=False,
            cidr=Derived(str(part), f"part {place} {of}"),
            addresses=_taken(spec, zone, part, pools, made),
        )
        for place, (zone, part) in enumerate(zip(cloud.zones, others, strict=False), 1)
    ]
    if public:
        needs = Derived(RESERVED + PUBLIC_USERS, f"load balancer and NAT gateway; {RESERVED} are the cloud's")
        found += [
            SubnetPlan(_subnet("public", cloud, zone), zone, True, Derived(str(part), f"of part 0 {of}"), needs)
            for zone, part in zip(cloud.zones, first.subnets(new_prefix=open_prefix), strict=False)
        ]
    return tuple(found)


def _subnet(purpose: str, cloud: AwsProvider, zone: str) -> str:
    return naming.aws_subnet(purpose, cloud.region, zone)


def _zones(zones: tuple[str, ...]) -> str:
    return f"{len(zones)} zone{'' if len(zones) == 1 else 's'}"


def _taken(
    spec: Region, zone: str, part: Net, pools: tuple[PoolPlan, ...], made: tuple[AwsPoolPlan, ...]
) -> Derived[int]:
    """Addresses that a zone's nodes take: every network interface of every node has one."""
    terms, total = [], RESERVED
    for pool, own in zip(pools, made, strict=True):
        if own.zone == zone:
            each = max(1, own.efa_cards.value)
            total += len(pool.nodes) * each
            terms.append(f"{len(pool.nodes)} × {each} of {pool.name}")
    inside = len(spec.network.private_endpoints)
    if inside:
        total += inside
        terms.append(f"{inside} of endpoints")
    reason = f"{' + '.join([*terms, f'{RESERVED} of the cloud'])}; it has {part.num_addresses:,}"
    if total > part.num_addresses:
        raise refuse(
            "PLAN-014", "network.cidr", f"The nodes in {zone} take {total:,} addresses ({reason} in {part}).",
            fix="a wider network.cidr, or fewer nodes",
        )  # fmt: skip
    return Derived(total, reason)


# -- pools, storage, door


def _pool(spec: Region, cloud: AwsProvider, plan: PoolPlan, fabric: FabricPlan) -> AwsPoolPlan:
    asked = next((p for p in spec.pools if plan.purpose == "serve" and p.name == plan.name), None)
    zone = plan.nodes[0].zone or ""
    cards = _efa_cards(plan, fabric)
    placement = _placement(asked, cards.value)
    grouped = placement.value != "none"
    capacity = asked.capacity if asked else Capacity()
    return AwsPoolPlan(
        name=plan.name,
        template=naming.aws_launch_template(spec.name, plan.name),
        instance_type=plan.shape,
        image=_image(spec, asked),
        efa_cards=cards,
        placement_group=naming.aws_placement_group(spec.name, plan.name) if grouped else None,
        placement=placement,
        zone=zone,
        subnet=_subnet("nodes", cloud, zone),
        root_volume_gib=asked.root_volume_gib if asked else None,
        data_volume_gib=asked.data_volume_gib if asked else None,
        capacity_kind=capacity.kind,
        capacity_id=capacity.id,
        on_partial=capacity.on_partial,
    )


def _placement(asked: Pool | None, efa_cards: int) -> Derived[str]:
    """Nodes that talk over EFA stand close together unless the file says otherwise.

    However many they are: a node cannot join a group later, so a pool of one that grows would be rebuilt.
    """
    if asked is not None and asked.placement is not None:
        return Derived(asked.placement, "as asked")
    if efa_cards:
        return Derived("cluster", "nodes share an EFA fabric")
    return Derived("none", "no fabric between nodes")


def _efa_cards(pool: PoolPlan, fabric: FabricPlan) -> Derived[int]:
    cards = catalog.shapes()[pool.shape].efa_cards
    if not pool.gpus_per_node:
        return Derived(0, "no GPUs")
    if fabric.kind.value != "efa":
        return Derived(0, f"the fabric is {fabric.kind.value}")
    return Derived(cards, f"EFA cards of a {pool.shape}")


def _image(spec: Region, pool: Pool | None) -> Derived[str | None]:
    if pool is not None:
        return Derived(pool.image, "as asked" if pool.image else "nobody has said which")
    if spec.front_door.image:
        return Derived(spec.front_door.image, "as asked")
    first = spec.pools[0]
    return Derived(first.image, f"the one of pool {first.name}" if first.image else "nobody has said which")


def _file_systems(spec: Region, subnet: str) -> Iterator[FileSystemPlan]:
    for item in spec.storage:
        if item.kind == "lustre" and item.capacity_gib is not None:
            rate = item.throughput_mb_s_per_tib
            yield FileSystemPlan(
                name=item.name,
                label=naming.aws_file_system(spec.name, item.name),
                subnet=subnet,
                capacity_gib=item.capacity_gib,
                throughput_mb_s_per_tib=Derived(rate, "as asked")
                if rate is not None
                else Derived(LEAST_THROUGHPUT, "the least that there is"),
                bucket=item.bucket,
                delete_data=item.delete_data,
            )


def _door(
    spec: Region, cloud: AwsProvider, pools: tuple[PoolPlan, ...], door: FrontDoorPlan | None
) -> AwsDoorPlan | None:
    if door is None:
        return None
    internal = all(any(Net(source).subnet_of(block) for block in PRIVATE) for source in spec.network.ingress.api)
    why = "network.ingress.api has private networks only" if internal else "network.ingress.api has public networks"
    zones = dict.fromkeys(n.zone or "" for pool in pools for n in pool.nodes if n.name in door.nodes)
    return AwsDoorPlan(
        name=naming.aws_load_balancer(spec.name),
        internal=Derived(internal, why),
        subnets=tuple(_subnet("nodes" if internal else "public", cloud, zone) for zone in zones),
        port=door.port.value,
        target_port=DOOR_PORT,
    )
