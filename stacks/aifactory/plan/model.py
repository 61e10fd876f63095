"""RegionPlan: what a region will be, as frozen data. Contract 2 (`aifactory.plan/1`), golden-tested.

Every number that was computed rather than copied is a `Derived` and keeps its reason, so that
`aifactory plan --explain` can answer for it. Nothing here reads a file, a clock, the network or pulumi.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

VERSION = "aifactory.plan/1"

LATER = "(the load balancer's name)"
"""Stands in a URL for a name that the cloud gives."""

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class Derived(Generic[T_co]):
    """A value and the sentence that says where it came from."""

    value: T_co
    reason: str


@dataclass(frozen=True)
class NodePlan:
    """One node. `name` never changes while the node's place in its pool exists.

    `address` is what other nodes use; None where the provider assigns it. `host_key`, `ssh_address`
    and `ssh_port` are known in advance only for static hosts.
    """

    name: str
    pool: str
    index: int
    rank: int
    shape: str
    gpus: int
    address: str | None = None
    ssh_address: str | None = None
    ssh_port: int = 22
    host_key: str | None = None
    zone: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    publish: tuple[tuple[int, int], ...] = ()
    """local: (port on the machine's loopback, port of the node) pairs to publish."""


@dataclass(frozen=True)
class PoolPlan:
    """Equal nodes in rank order. `layers` are the Ansible layers configured on them, in order."""

    name: str
    shape: str
    generation: int
    purpose: str
    """`serve` (a user's pool) or `front` (the front door's own nodes)."""
    nodes: tuple[NodePlan, ...]
    layers: tuple[str, ...]
    gpu_kind: str | None
    """Key of the gpus catalogue, None without GPUs."""
    gpus_per_node: int
    node_power_w: Derived[int | None]


@dataclass(frozen=True)
class FabricPlan:
    """Network between the GPUs of different nodes."""

    kind: Derived[str]
    nics_per_node: Derived[int | None]
    line_rate_gbit_s: Derived[float | None]
    """Of one NIC."""
    rails: Derived[int | None]
    stack: Derived[str]
    """none | inbox | doca | efa"""
    efa_installer: tuple[str, str, str] | None = None
    """(version, SHA-256, folder) of EFA's installer; folder "" = the maker's."""
    exclude_hcas: tuple[str, ...] = ()
    """RDMA devices that are never compute cards."""
    roce: tuple[tuple[str, int], ...] = ()
    """(dscp | priority | cnp_dscp | traffic_class, value) that the site has otherwise than the catalogue."""


@dataclass(frozen=True)
class StoragePlan:
    name: str
    kind: str
    mount: str | None
    capacity_gib: int | None
    throughput_mb_s: Derived[int | None]


@dataclass(frozen=True)
class ReplicaPlan:
    """One copy of a service: on which nodes (more than one for pipeline parallel; the first answers), which port.

    `gpu_indices` are the GPUs it takes on each of its nodes.
    """

    index: int
    nodes: tuple[str, ...]
    address: str | None
    port: int
    gpu_indices: tuple[int, ...]


@dataclass(frozen=True)
class ServicePlan:
    """A model in service. `model_file` and `model_sha256` name the weights; None = fetched by the engine."""

    name: str
    model: str
    pool: str
    engine: Derived[str]
    precision: Derived[str]
    context_tokens: Derived[int]
    parallel_requests: Derived[int]
    tensor_parallel: Derived[int]
    replicas: tuple[ReplicaPlan, ...]
    model_file: str | None
    model_sha256: str | None
    weights_gib: Derived[float | None]


@dataclass(frozen=True)
class ClientPlan:
    name: str
    key_sha256: str | None
    """None = the region's own client, whose key is generated with it (acceptance, `aifactory ask`)."""
    requests_per_minute: int | None


@dataclass(frozen=True)
class FrontDoorPlan:
    """Where clients come in. `nodes` are names of nodes of pool `front`, or service nodes when it is 0."""

    nodes: tuple[str, ...]
    hostname: str
    """Name or address in the URL that clients use: 127.0.0.1 on local. Empty = the cloud's load balancer has its own,
    known when it is made."""
    server_names: tuple[str, ...]
    """Names and addresses on a certificate of the region's own CA, the hostname first."""
    port: Derived[int]
    """TCP port clients use. On local it is published on 127.0.0.1; nodes listen on 443."""
    clients: tuple[ClientPlan, ...]
    own_ca: bool
    """True: certificate issued by the region's own CA; False: from the stack's secrets."""
    tls_certificate_secret: str | None
    tls_key_secret: str | None

    @property
    def endpoint(self) -> str:
        """The URL that clients use, without the API's `/v1`."""
        name = self.hostname or LATER
        return f"https://{name}" + ("" if self.port.value == 443 else f":{self.port.value}")


@dataclass(frozen=True)
class PowerPlan:
    it_kw: Derived[float | None]
    total_kw: Derived[float | None]
    contract_kw: float | None
    cap_w_per_gpu: int | None
    profile: str | None


@dataclass(frozen=True)
class CostPlan:
    """What the nodes cost, by pool in the order of the pools. None = no price is known: it is never 0."""

    currency: str
    pools: tuple[tuple[str, Derived[float | None]], ...]
    """(pool, an hour of all its nodes)."""
    per_hour: Derived[float | None]
    per_month: Derived[float | None]


@dataclass(frozen=True)
class RepositoryPlan:
    """Where packages of one vendor come from. A fingerprint of None is a key that nobody has said: not trusted."""

    name: str
    url: str
    layout: str
    key_file: str | None
    fingerprint: str | None
    fingerprints: tuple[tuple[str, str | None], ...] = ()
    """(distribution, key) where that is another one; empty for a mirror that names its own key: it signs all."""
    key_files: tuple[tuple[str, str], ...] = ()
    folders: tuple[tuple[str, str], ...] = ()
    """(`distribution/architecture`, folder below the url); empty = the layout says."""
    replaces: tuple[str, ...] = ()
    """Packages that a node of the RHEL family takes from here alone."""


@dataclass(frozen=True)
class TuningPlan:
    """Settings of nodes with GPUs."""

    cpu_governor: str
    """As the kernel calls it, or `unchanged`."""
    hugepages: int
    """Of the kernel's default size; 0 = as they are."""
    imex_channel0: bool


@dataclass(frozen=True)
class DriverPlan:
    """NVIDIA's driver on every node with its GPUs; one full version, from which all that must be equal follows."""

    branch: Derived[str]
    version: Derived[str | None]
    """None = the newest of the branch that the repository has."""
    cuda_major: int | None
    end_of_life: str | None
    """ISO date; None where the maker names none."""
    ended: bool
    modules: str
    """open | proprietary"""


@dataclass(frozen=True)
class CloudPlan:
    """Which cloud, and whose keys open it: they are named here, never carried."""

    key: str
    """Of the clouds catalogue."""
    region: str
    account: str
    endpoints: tuple[tuple[str, str], ...]
    """(service, URL) of the file."""
    off_region: tuple[str, ...]
    """Services whose host stands outside the region and may be used all the same."""
    profile: str | None
    env_prefix: str | None
    role_arn: str | None


@dataclass(frozen=True)
class SubnetPlan:
    """One zone's nodes, or the small public one of a zone for load balancer and NAT."""

    name: str
    zone: str
    public: bool
    cidr: Derived[str]
    addresses: Derived[int]
    """What stands in it takes; at most what it has."""


@dataclass(frozen=True)
class EgressPlan:
    """TCP that may leave the nodes. The cloud's groups know addresses, no names: a name is every address."""

    cidr: str
    port: int


@dataclass(frozen=True)
class BucketPlan:
    name: str
    bucket: str
    """Its name in the cloud."""
    retention_days: int | None


@dataclass(frozen=True)
class FileSystemPlan:
    """A file system for Lustre that the cloud makes."""

    name: str
    label: str
    subnet: str
    capacity_gib: int
    throughput_mb_s_per_tib: Derived[int]
    bucket: str | None
    """Name of the storage whose objects are its files."""
    delete_data: bool


@dataclass(frozen=True)
class AwsPoolPlan:
    """What a pool's nodes are made of. A placement group or capacity id of None = none."""

    name: str
    template: str
    instance_type: str
    image: Derived[str | None]
    efa_cards: Derived[int]
    placement_group: str | None
    placement: Derived[str]
    zone: str
    subnet: str
    root_volume_gib: int | None
    data_volume_gib: int | None
    capacity_kind: str
    capacity_id: str | None
    on_partial: str


@dataclass(frozen=True)
class AwsDoorPlan:
    """The load balancer before the nodes of the front door."""

    name: str
    internal: Derived[bool]
    subnets: tuple[str, ...]
    port: int
    target_port: int


@dataclass(frozen=True)
class AwsPlan:
    """What a region of the AWS family is made of in the cloud, by the names that the cloud sees."""

    cloud: CloudPlan
    zones: tuple[str, ...]
    subnets: tuple[SubnetPlan, ...]
    nat: Derived[bool]
    egress: tuple[EgressPlan, ...]
    gateway_endpoints: tuple[str, ...]
    interface_endpoints: tuple[str, ...]
    flow_logs: str | None
    """Name of the storage that gets the record of every connection."""
    api_from: tuple[str, ...]
    ssh_from: tuple[str, ...]
    key_alias: str
    key_custody: str
    """provider | customer: who makes the key's material."""
    role: str
    buckets: tuple[BucketPlan, ...]
    file_systems: tuple[FileSystemPlan, ...]
    pools: tuple[AwsPoolPlan, ...]
    door: AwsDoorPlan | None
    """None when the region serves nothing."""


@dataclass(frozen=True)
class RegionPlan:
    version: str
    region: str
    spec_digest: str
    """SHA-256 over the canonical JSON of the spec with all defaults filled in."""
    country: str
    provider: str
    container_engine: str
    """local: auto | podman | docker; empty elsewhere."""
    cidr: str
    ssh_user: str
    ssh_private_key: str | None
    """static: path of the key; None = generated with the region."""
    ssh_bastion: str | None
    ssh_bastion_host_key: str | None
    node_container_engine: str
    driver: DriverPlan | None
    """None where no pool has NVIDIA GPUs."""
    rocm_version: str | None
    """AMD's ROCm on every node with its GPUs; None where the file names none."""
    repositories: tuple[RepositoryPlan, ...]
    """Of the vendors of the region's GPUs and fabric; empty without GPUs."""
    tuning: TuningPlan
    pools: tuple[PoolPlan, ...]
    """The user's pools in file order, then `front` where the front door has own nodes."""
    fabric: FabricPlan
    storage: tuple[StoragePlan, ...]
    services: tuple[ServicePlan, ...]
    front_door: FrontDoorPlan | None
    """None when the region serves nothing."""
    power: PowerPlan
    cost: CostPlan | None
    """None where nodes are not bought by the hour and the file names no price."""
    acceptance_level: Derived[str]
    aws: AwsPlan | None
    """None for other providers."""
    defaults_taken: tuple[tuple[str, str], ...]
    """(key path, value) for every default used, for `plan --explain`."""
