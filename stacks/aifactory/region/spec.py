"""The region file's shape, version 1: frozen pydantic models, strict, unknown keys refused.

Meaning and defaults: docs/region-spec.md. Shape only: rules that need the catalogue or two fields of
different sections live in `region.checks`; nothing here reads a file, a clock or the network.
`change` in a field's metadata says what a change does to a running region (see `region.changes`).
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """Base of all sections: strict, frozen, unknown keys are errors."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


Change = Literal[
    "refused", "in_place", "rolling", "replaces_nodes", "replaces_pool", "blue_green", "gate", "policy", "add_or_drain"
]


def field(default: Any = ..., *, change: Change, doc: str, **kwargs: Any) -> Any:
    """A pydantic field that carries what a change to it does and one line of documentation."""
    return Field(default, description=doc, json_schema_extra={"change": change}, **kwargs)


RegionName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{1,30}$")]
PoolName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,15}$")]
HostName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
CountryCode = Annotated[str, Field(pattern=r"^[A-Z]{2}$")]
Cidr = Annotated[str, Field(pattern=r"^[0-9]{1,3}(\.[0-9]{1,3}){3}/[0-9]{1,2}$")]
HostPort = Annotated[str, Field(pattern=r"^[A-Za-z0-9.*-]+:[0-9]{1,5}$")]
ServiceName = Annotated[str, Field(pattern=r"^[a-z0-9]+([.-][a-z0-9]+)*$")]
SecretRef = Annotated[str, Field(pattern=r"^secret:[a-z][a-z0-9_]*$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
HcaName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Labels = dict[str, str]


class Platform(Section):
    kind: Literal["hosts", "kubernetes"] = field("hosts", change="refused", doc="What runs the services.")


class Jurisdiction(Section):
    country: CountryCode = field(change="policy", doc="ISO 3166-1 alpha-2 country whose law applies.")
    regimes: tuple[str, ...] = field((), change="policy", doc="Ids of the jurisdictions catalogue.")
    data_classes: tuple[Literal["public", "internal", "personal", "secret"], ...] = field(
        ("internal",), change="policy", doc="Classes of data the region may hold."
    )


class Ssh(Section):
    user: str = field(change="in_place", doc="Login that may use sudo without a password.", min_length=1)
    private_key: str | None = field(None, change="in_place", doc="Path of the private key; none = the agent's keys.")
    bastion: str | None = field(None, change="in_place", doc="Jump host, `[user@]host[:port]`.")
    bastion_host_key: str | None = field(
        None, change="in_place", doc="The jump host's public key; required with bastion before `up`."
    )


class LocalProvider(Section):
    kind: Literal["local"] = field(change="refused", doc="Containers with systemd and sshd on this machine.")
    engine: Literal["auto", "podman", "docker"] = field(
        "auto", change="refused", doc="Container engine; auto = podman, then docker."
    )


class StaticProvider(Section):
    kind: Literal["static"] = field(change="refused", doc="Hosts that exist.")
    ssh: Ssh = field(change="in_place", doc="How to reach the hosts.")


class Credentials(Section):
    profile: str | None = field(None, change="in_place", doc="Named profile of the credentials file.")
    role_arn: str | None = field(None, change="in_place", doc="Role to assume.")
    env_prefix: str | None = field(
        None, change="in_place", doc="Prefix of the environment variables that hold the keys."
    )


class AwsSsh(Section):
    source: tuple[Cidr, ...] = field((), change="in_place", doc="Who may reach the nodes' SSH: jump host, controller.")
    bastion: str | None = field(None, change="in_place", doc="Jump host, `[user@]host[:port]`.")
    bastion_host_key: str | None = field(
        None, change="in_place", doc="The jump host's public key; required with bastion before `up`."
    )


class AwsProvider(Section):
    kind: Literal["aws"] = field(change="refused", doc="Any AWS partition, or an EC2-compatible cloud.")
    partition: str = field(change="refused", doc="Partition id of the clouds catalogue.")
    region: str = field(change="refused", doc="Region id inside the partition.")
    account: Annotated[str, Field(pattern=r"^[0-9]{12}$")] = field(
        change="refused", doc="Account id, twelve digits, quoted."
    )
    zones: tuple[str, ...] = field((), change="refused", doc="Availability zones in use.")
    credentials: Credentials = field(change="in_place", doc="Where credentials come from; never ambient.")
    endpoints: dict[str, str] = field({}, change="refused", doc="Service → URL, for clouds botocore does not know.")
    key_custody: Literal["provider", "customer"] = field(
        "provider", change="refused", doc="Who makes the material of the region's key: the cloud, or you import it."
    )
    ssh: AwsSsh = field(AwsSsh(), change="in_place", doc="How to reach the nodes; they take the region's own key.")


Provider = Annotated[LocalProvider | StaticProvider | AwsProvider, Field(discriminator="kind")]


class Ingress(Section):
    api: tuple[Cidr, ...] = field(("0.0.0.0/0",), change="in_place", doc="Who may reach the front door.")


class Network(Section):
    cidr: Cidr = field("10.64.0.0/16", change="refused", doc="IPv4 network of the nodes, /16 to /24.")
    egress: tuple[HostPort, ...] = field((), change="in_place", doc="`host:port` allow-list; empty = closed.")
    ingress: Ingress = field(Ingress(), change="in_place", doc="Allowed sources.")
    private_endpoints: tuple[ServiceName, ...] = field(
        (), change="in_place", doc="aws: services that get an endpoint inside the network, for a closed one."
    )
    flow_logs: PoolName | None = field(
        None, change="in_place", doc="aws: storage of kind object that gets the record of every connection."
    )


class EfaInstaller(Section):
    version: Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$")] = field(
        change="rolling", doc="Full version, quoted."
    )
    sha256: Sha256 = field(change="rolling", doc="SHA-256 of its archive; nothing else is run.")
    url: Annotated[str, Field(pattern=r"^https?://[^\s]+$")] | None = field(
        None, change="rolling", doc="Folder of the archive; none = the maker's."
    )


class RoceClass(Section):
    dscp: int | None = field(None, change="rolling", doc="DSCP of the data; none = the catalogue's.", ge=0, le=63)
    priority: int | None = field(
        None, change="rolling", doc="Lossless priority that carries the data; none = an eighth of dscp.", ge=0, le=7
    )
    cnp_dscp: int | None = field(
        None, change="rolling", doc="DSCP of congestion notices; none = the catalogue's.", ge=0, le=63
    )
    traffic_class: int | None = field(
        None, change="rolling", doc="Traffic class byte of the data: dscp × 4 and two ECN bits.", ge=0, le=255
    )


class Fabric(Section):
    kind: Literal["none", "infiniband", "roce", "efa", "tcp"] | None = field(
        None, change="replaces_nodes", doc="GPU-to-GPU network between nodes; none given = from the shape."
    )
    stack: Literal["inbox", "doca"] | None = field(
        None, change="rolling", doc="infiniband, roce: what drives the cards; none = the distribution's own (inbox)."
    )
    efa_installer: EfaInstaller | None = field(None, change="rolling", doc="efa: the installer to run.")
    exclude_hcas: tuple[HcaName, ...] = field(
        (), change="in_place", doc="infiniband, roce: cards that are no compute cards, by RDMA device name."
    )
    roce: RoceClass = field(RoceClass(), change="rolling", doc="roce: the site's own classes.")


class Host(Section):
    name: HostName = field(change="add_or_drain", doc="Node name, unique in the region.")
    address: str = field(change="in_place", doc="IP address or DNS name.", min_length=1)
    port: int = field(22, change="in_place", doc="SSH port.", ge=1, le=65535)
    host_key: str = field(change="in_place", doc="SSH public host key, `type base64`.")
    labels: Labels = field({}, change="in_place", doc="Free labels: rack, rail group.")


class Capacity(Section):
    kind: Literal["on_demand", "reservation", "capacity_block", "spot"] = field(
        "on_demand", change="in_place", doc="How capacity is bought."
    )
    id: str | None = field(None, change="in_place", doc="Reservation or capacity block id.")
    on_partial: Literal["keep", "release"] = field(
        "release", change="in_place", doc="What becomes of nodes that were got when the cloud has no more of them."
    )


class Pool(Section):
    name: PoolName = field(change="replaces_pool", doc="Unique in the region.")
    shape: str = field(change="replaces_nodes", doc="Key of the shapes catalogue for the provider.")
    nodes: int | None = field(None, change="add_or_drain", doc="Node count, 1…4096; not with hosts.", ge=1, le=4096)
    hosts: tuple[Host, ...] = field((), change="add_or_drain", doc="static only: the hosts themselves.")
    zone: str | None = field(None, change="replaces_nodes", doc="Availability zone.")
    placement: Literal["cluster", "spread", "none"] | None = field(
        None, change="replaces_nodes", doc="Placement group; none given = cluster where nodes have EFA."
    )
    capacity: Capacity = field(Capacity(), change="in_place", doc="How capacity is bought.")
    image: str | None = field(None, change="rolling", doc="Image id or catalogue image name.")
    root_volume_gib: int | None = field(None, change="replaces_nodes", doc="GiB.", ge=8)
    data_volume_gib: int | None = field(None, change="replaces_nodes", doc="GiB.", ge=1)
    generation: int = field(1, change="rolling", doc="Raising it rebuilds the pool node by node.", ge=1)


class Storage(Section):
    name: PoolName = field(change="refused", doc="Unique in the region.")
    kind: Literal["nfs", "lustre", "object", "block", "local_nvme"] = field(change="refused", doc="What it is.")
    export: str | None = field(None, change="refused", doc="nfs: `address:/path`.")
    mount: str | None = field(None, change="in_place", doc="Mount point on the nodes, absolute.", pattern=r"^/")
    capacity_gib: int | None = field(None, change="in_place", doc="GiB; grows in place, shrinking is refused.", ge=1)
    throughput_mb_s_per_tib: int | None = field(None, change="in_place", doc="MB/s for each TiB.", ge=1)
    retention_days: int | None = field(None, change="in_place", doc="object: lock, days.", ge=1)
    bucket: PoolName | None = field(
        None, change="refused", doc="lustre: storage of kind object whose objects are its files."
    )
    delete_data: bool = field(
        False, change="in_place", doc="lustre: destroy deletes it with its files; none given = destroy refuses."
    )


class Repository(Section):
    url: Annotated[str, Field(pattern=r"^https?://[^\s]+$")] | None = field(
        None, change="rolling", doc="Root of the mirror; below it the layout is the vendor's; none = the vendor's own."
    )
    fingerprint: Annotated[str, Field(pattern=r"^[0-9A-F]{40}$")] | None = field(
        None, change="rolling", doc="OpenPGP key that signs it, 40 hex digits; none = the vendor's own."
    )


class Software(Section):
    driver_branch: str | None = field(None, change="rolling", doc="Key of the drivers catalogue; none = LTS branch.")
    driver_version: Annotated[str, Field(pattern=r"^[0-9]{3}(\.[0-9]{1,3}){1,2}$")] | None = field(
        None, change="rolling", doc="Full driver version, quoted; none = newest of the branch in the catalogue."
    )
    rocm_version: Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+(\.[0-9]+)?$")] | None = field(
        None, change="rolling", doc="ROCm on nodes with AMD GPUs, quoted; the driver's release follows it."
    )
    kernel_modules: Literal["open", "proprietary"] = field(
        "open", change="rolling", doc="Flavour of NVIDIA's kernel modules."
    )
    repositories: dict[str, Repository] = field(
        {}, change="rolling", doc="Mirrors by key of the repositories catalogue; none = the vendor's own."
    )
    cuda: str | None = field(None, change="rolling", doc="CUDA version, `major.minor`, quoted.")
    container_engine: Literal["podman", "docker"] = field(
        "podman", change="rolling", doc="Container engine on the nodes."
    )


class Tuning(Section):
    cpu_governor: Literal["performance", "schedutil", "ondemand", "conservative", "powersave", "unchanged"] | None = (
        field(None, change="in_place", doc="CPU frequency governor of nodes with GPUs; none = performance.")
    )
    hugepages: int = field(
        0, change="in_place", doc="Huge pages of the kernel's default size on nodes with GPUs; 0 = as they are.",
        ge=0, le=4_194_304,
    )  # fmt: skip
    imex_channel0: bool = field(
        False, change="rolling", doc="IMEX channel 0 for everybody on the node: for racks with one tenant only."
    )


class Slo(Section):
    ttft_p99_ms: int | None = field(None, change="gate", doc="Time to first token, ms.", ge=1)
    itl_p99_ms: int | None = field(None, change="gate", doc="Inter-token latency, ms.", ge=1)
    output_tokens_s: int | None = field(None, change="gate", doc="Output tokens a second, whole service.", ge=1)


class Service(Section):
    name: PoolName = field(change="blue_green", doc="Unique in the region; also the model id clients ask for.")
    model: str = field(change="blue_green", doc="Key of the models catalogue.")
    pool: PoolName = field(change="blue_green", doc="Pool whose nodes serve it.")
    engine: Literal["nim", "vllm", "sglang", "llama-cpp", "auto"] = field(
        "auto", change="blue_green", doc="Inference engine."
    )
    precision: Literal["bf16", "fp8", "nvfp4", "mxfp4", "int4", "auto"] = field(
        "auto", change="blue_green", doc="Weight format."
    )
    replicas: int = field(1, change="in_place", doc="Independent copies.", ge=1)
    context_tokens: int | None = field(None, change="blue_green", doc="Context length, tokens.", ge=1)
    slo: Slo = field(Slo(), change="gate", doc="Service level objectives.")


class Tls(Section):
    certificate: SecretRef = field(change="in_place", doc="`secret:<key>` of the PEM chain.")
    key: SecretRef = field(change="in_place", doc="`secret:<key>` of the PEM key.")


class Client(Section):
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")] = field(
        change="in_place", doc="Client id in logs and metrics."
    )
    key_sha256: Sha256 = field(change="in_place", doc="SHA-256 of the client's key, lower-case hex.")
    requests_per_minute: int | None = field(None, change="in_place", doc="Limit; none = unlimited.", ge=1)


class FrontDoor(Section):
    hostname: str | None = field(None, change="in_place", doc="DNS name clients use.")
    port: Annotated[int, Field(ge=1, le=65535)] | None = field(
        None, change="in_place", doc="TCP port clients use; none = 8443 on local (loopback), 443 elsewhere."
    )
    nodes: int | None = field(
        None,
        change="add_or_drain",
        doc="Own nodes; 0 = on the service nodes; none = 1 on local, 2 elsewhere.",
        ge=0,
        le=16,
    )
    shape: str | None = field(
        None, change="replaces_nodes", doc="Shape of the own nodes; none = smallest of the provider."
    )
    image: str | None = field(None, change="rolling", doc="aws: image of the own nodes; none = the first pool's.")
    tls: Tls | None = field(None, change="in_place", doc="Certificate and key; none = issued by the region's own CA.")
    clients: tuple[Client, ...] = field(
        (), change="in_place", doc="Who may call; one is generated on local when empty."
    )


class Power(Section):
    contract_kw: float | None = field(None, change="in_place", doc="Contracted power, kW.", gt=0)
    pue: float = field(1.0, change="in_place", doc="Power usage effectiveness, ≥ 1.", ge=1)
    cap_w_per_gpu: int | None = field(None, change="in_place", doc="Power cap, W per GPU.", ge=50)
    profile: str | None = field(
        None, change="in_place", doc="Workload power profile of GPUs that have them, by its name.", pattern=r"^[a-z_]+$"
    )


class Cost(Section):
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = field("USD", change="policy", doc="ISO 4217 code.")
    per_hour: dict[str, Annotated[float, Field(gt=0)]] = field(
        {}, change="policy", doc="Shape → what one node costs an hour; none = the catalogue's price list."
    )


class Waiver(Section):
    check: str = field(change="gate", doc="Check id.")
    scope: str = field(change="gate", doc="What it covers: region, pool or node name.")
    reason: str = field(change="gate", doc="Why.", min_length=8)
    owner: str = field(change="gate", doc="Who answers for it.", min_length=1)
    expires: dt.date = field(change="gate", doc="Last valid day.")


class Acceptance(Section):
    level: Literal["l0", "l1", "l2", "l3", "l4"] | None = field(
        None, change="gate", doc="Depth; none = l1, l2 where there are GPUs."
    )
    waivers: tuple[Waiver, ...] = field((), change="gate", doc="Named, dated exceptions.")


class State(Section):
    backend: str | None = field(None, change="refused", doc="Pulumi backend URL; none = the checkout's file backend.")
    secrets: str | None = field(None, change="refused", doc="Secrets provider URL; none = passphrase file.")


class Region(Section):
    """One region. Everything left out takes the default of its field."""

    version: Literal[1] = field(change="refused", doc="Version of this format.")
    name: RegionName = field(change="refused", doc="Equals the file's stem and the Pulumi stack's name.")
    labels: Labels = field({}, change="in_place", doc="Free map, for fleet selectors.")
    platform: Platform = field(Platform(), change="refused", doc="What runs the services.")
    jurisdiction: Jurisdiction = field(change="policy", doc="Whose law applies.")
    provider: Provider = field(change="refused", doc="Where nodes come from.")
    network: Network = field(Network(), change="in_place", doc="Addresses and what may pass.")
    fabric: Fabric = field(Fabric(), change="replaces_nodes", doc="GPU network.")
    pools: Annotated[tuple[Pool, ...], Field(min_length=1)] = field(change="add_or_drain", doc="Groups of equal nodes.")
    storage: tuple[Storage, ...] = field((), change="in_place", doc="File systems, buckets, disks.")
    software: Software = field(Software(), change="rolling", doc="Versions on the hosts.")
    tuning: Tuning = field(Tuning(), change="in_place", doc="Settings of nodes with GPUs.")
    services: tuple[Service, ...] = field((), change="blue_green", doc="Models served.")
    front_door: FrontDoor = field(FrontDoor(), change="in_place", doc="Where clients come in.")
    power: Power = field(Power(), change="in_place", doc="Contract and caps.")
    cost: Cost = field(Cost(), change="policy", doc="Prices of your own contract.")
    acceptance: Acceptance = field(Acceptance(), change="gate", doc="What must be proved.")
    state: State = field(State(), change="refused", doc="Where the engine keeps its state.")
