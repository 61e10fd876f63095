"""The catalogue's rows as frozen dataclasses; every field name carries its unit.

None means unknown: no source has been found, or the sources contradict each other. Zero is zero, an empty
tuple is "none". A field without a default must stand in every row; one with a default None may be left out,
which says that there is none (a shape without GPUs has no `gpu`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Precision = Literal["bf16", "fp8", "nvfp4", "mxfp4", "int4"]
"""Weight format; bf16 stands for any 16-bit weights."""
Fabric = Literal["none", "infiniband", "roce", "efa", "tcp"]
ProviderKind = Literal["local", "static", "aws"]
EngineKind = Literal["nim", "vllm", "sglang", "llama-cpp"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a value was read: what, which document and section, and the day somebody looked."""

    key: str
    title: str
    document: str
    checked: dt.date


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU as it sits in a node.

    `memory_gb` is the maker's nominal figure; read it as 10^9 bytes, which is never more than there is.
    `nvlink_gb_s` is the total of all NVLink or xGMI links of one GPU, both directions; 0 without such links.
    `pci_ids` are `vendor:device`. `first_driver` is the earliest open-module driver release that lists the GPU.
    """

    key: str
    vendor: Literal["nvidia", "amd"]
    name: str
    architecture: str
    compute_capability: str | None
    """NVIDIA: `major.minor`; AMD: the gfx target."""
    memory_gb: int | None
    memory_bandwidth_tb_s: float | None
    power_w: int | None
    nvlink_gb_s: float | None
    pci_ids: tuple[str, ...]
    first_driver: str | None
    open_modules: bool
    """NVIDIA's open kernel modules are recommended or required."""
    open_modules_required: bool
    """The proprietary kernel modules do not drive this GPU."""
    needs_fabric_manager: bool
    """On the node itself (an NVL72 tray needs it on the switch tray instead)."""
    needs_nvlsm: bool
    needs_imex: bool
    precisions: tuple[Precision, ...]
    """Weight formats that an engine serves on it."""
    nvlink_links: int | None = None
    """NVLink links of one GPU that must all be active; xGMI on AMD. 0 without."""
    nvlink_link_gb_s: float | None = None
    """One link, one direction."""
    pcie_gt_s: float | None = None
    """Speed of a lane of its PCIe link under load."""
    pcie_width: int | None = None
    """Lanes of its PCIe link."""
    minimum_driver: str | None = None
    """What the maker's guide asks for, where that is later than `first_driver`."""
    modprobe: Mapping[str, str] = field(default_factory=dict)
    """Line of an options file in modprobe.d → why."""
    kernel_arguments: Mapping[str, str] = field(default_factory=dict)
    """Argument of the kernel command line → why."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One kind of node: a cloud's instance type, a server model, or a container of the local provider.

    `nics` are the ports of the GPU network (of any network where there are no GPUs), `nic_gbit_s` is the line
    rate of one of them. `power_w` is the whole node's maximum.
    """

    key: str
    name: str
    providers: tuple[ProviderKind, ...]
    purpose: Literal["serve", "front"]
    """`front`: meant for front doors; `catalog.front_shape` takes the smallest."""
    gpu: str | None = None
    """Key of the gpus table; left out on a shape without GPUs."""
    gpus: int
    vcpus: int | None
    memory_gib: float | None
    nics: int | None
    nic_gbit_s: float | None
    efa_cards: int
    """Network cards that take an EFA interface."""
    nvme_gib: int | None
    """Local NVMe for data, all disks together; 0 without."""
    power_w: int | None
    fabric: Fabric
    """What joins the GPUs of different nodes when the region file does not say."""


@dataclass(frozen=True, kw_only=True)
class Driver:
    """One branch of NVIDIA's data-centre driver."""

    branch: str
    kind: Literal["lts", "production", "new_feature"] | None
    end_of_life: dt.date | None
    """Last day of the month that the maker names."""
    ended: bool
    """Past its end on the day the source was checked (known even where the date is not)."""
    cuda: str | None
    """CUDA version that comes with the branch."""
    version: str | None
    """Newest full version that is known."""
    open_modules_only: bool
    default: bool


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model to serve: its architecture numbers, its licence and its weights.

    `kv_bytes_per_token` is for a 16-bit KV cache, all layers that keep the whole context; `mla` says that the
    cache is compressed and held whole by every tensor-parallel rank. `weights_gb` is per precision, in 10^9 bytes.
    `file` and `sha256` name weights that the toolkit makes or ships itself; None = fetched by the engine.
    """

    key: str
    name: str
    hub_id: str | None = None
    """Repository on the model hub; left out for a model that is on none."""
    params_b: float | None
    active_params_b: float | None
    layers: int | None
    attention_heads: int | None
    kv_heads: int | None
    head_dim: int | None
    kv_bytes_per_token: int | None
    mla: bool
    context_tokens: int | None
    precisions: tuple[Precision, ...]
    weights_gb: Mapping[Precision, float]
    licence: str | None
    licence_checked: dt.date | None
    origin_country: str | None
    engines: tuple[EngineKind, ...]
    file: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class Engine:
    """One inference engine: what it can serve, and how one asks it whether it is well."""

    key: EngineKind
    name: str
    precisions: tuple[Precision, ...]
    vendors: tuple[Literal["nvidia", "amd", "cpu"], ...]
    default_port: int
    health_path: str
    metrics_path: str | None
    metrics_prefix: str | None


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """One cloud or partition. The key is what `provider.partition` of a region file names (provider aws)."""

    key: str
    provider: ProviderKind
    name: str
    partition: str | None = None
    """Partition of its ARNs; left out where it has none."""
    regions: tuple[str, ...]
    endpoints_required: bool
    """The client library does not know its hosts: the region file must give every endpoint."""
    dns_suffix: str | None = None
    """End of its API hosts' names; left out where there is no API."""
    country: str | None = None
    """Where it stands; left out unless that is one country."""
    legal_home: str | None = None
    """Country of the ultimate parent of whoever runs it; left out where that is the user."""
    countries: Mapping[str, str] = field(default_factory=dict)
    """Region id → country where it stands; a region that is not in it stands in `country`, or nobody knows where."""
    off_region: Mapping[str, str] = field(default_factory=dict)
    """Service whose API has one host for the whole partition → country of that host."""

    def country_of(self, region: str) -> str | None:
        """Where a region stands; None = unknown, as of every region that is not one of this cloud."""
        return (self.countries.get(region) or self.country) if region in self.regions else None


@dataclass(frozen=True, kw_only=True)
class ApiLimit:
    """Token bucket of one API action, per account and region."""

    action: str
    size: float
    """Requests at once from a full bucket."""
    refill_per_s: float
    """Requests a second, for ever."""


@dataclass(frozen=True, kw_only=True)
class Limit:
    """What a cloud's service takes for one value, a number or a text: see `catalog.refusal`."""

    key: str
    unit: str
    allowed: str
    """In words, as a message says it."""
    values: tuple[int, ...] = ()
    """Right by themselves."""
    least: int | None = None
    most: int | None = None
    step: int | None = None
    """Only multiples of it, between the least and the most."""
    pattern: str | None = None
    not_first: tuple[str, ...] = ()
    not_last: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Quota:
    """How many vCPUs of some families of instances an account may run at once, in one region."""

    code: str
    name: str
    capacity: Literal["on_demand", "spot"]
    families: tuple[str, ...]
    """First letters of the instance types."""


@dataclass(frozen=True, kw_only=True)
class Price:
    """What a cloud asks for one node for an hour, on demand, Linux, without tax."""

    key: str
    """`shape@region`."""
    cloud: str
    region: str
    shape: str
    currency: str
    """ISO 4217."""
    per_hour: float | None


@dataclass(frozen=True, kw_only=True)
class Country:
    """One country of ISO 3166-1."""

    code: str
    name: str


@dataclass(frozen=True, kw_only=True)
class Regime:
    """One body of rules that a region may have to meet. `countries` empty = not bound to a country."""

    key: str
    name: str
    countries: tuple[str, ...]
    in_force: bool | None


@dataclass(frozen=True, kw_only=True)
class Version:
    """One locked version of something the toolkit builds, installs or runs."""

    key: str
    version: str
    kind: Literal["go-module", "python-package", "debian-suite"]
    name: str
    """What the package index or module proxy calls it."""
    module_version: str | None = None
    """go-module: what its go.mod requires."""


@dataclass(frozen=True, kw_only=True)
class Repository:
    """One vendor's package repository. `url` is the root; below it stands what the row's `layout` says.

    Distributions are called as NVIDIA's folders are: `debian13`, `ubuntu2404`, `rhel9`, `amzn2023`.
    """

    key: str
    vendor: Literal["nvidia", "amd", "aws"]
    name: str
    url: str
    layout: str
    """Path of one distribution's repository below the root: `{distro}`, `{arch}`, `{release}` are filled in."""
    key_file: str | None
    """Name of the signing key's file, below the layout's path unless it begins with `/` (then below the root)."""
    fingerprint: str | None
    """Of the OpenPGP key that signs it: 40 hex digits, upper case."""
    fingerprints: Mapping[str, str | None] = field(default_factory=dict)
    """Distribution → the key that signs its packages, where that is another one; None = another, and not known."""
    key_files: Mapping[str, str] = field(default_factory=dict)
    """Distribution → its key's file, where that is another one."""
    folders: Mapping[str, str] = field(default_factory=dict)
    """`distribution/architecture` → its folder below the root, for every one that there is; empty = the layout says."""
    replaces: tuple[str, ...] = ()
    """Packages, as globs, that a RHEL family node takes from here and no longer from its distribution."""


@dataclass(frozen=True, kw_only=True)
class Xid:
    """One Xid error of NVIDIA's driver, and what the node's keeper does about it."""

    key: str
    action: Literal[
        "ignore", "restart_app", "reset_gpu", "reboot", "check_power", "update_software", "parse", "inspect"
    ]
    name: str | None


@dataclass(frozen=True, kw_only=True)
class Signal:
    """One sign of a node's health: when it stands for trouble, and what follows."""

    key: str
    vendor: Literal["nvidia", "amd", "any"]
    name: str
    limit: float | None
    """The value above which it counts; None where the sign is a word or a difference from the platform's row."""
    unit: str
    verdict: Literal["ok", "warn", "drain", "reset_gpu", "reboot", "reseat", "fail", "rma", "replace"]
    fix: str
    """What to do, in a sentence."""


@dataclass(frozen=True, kw_only=True)
class Nccl:
    """Settings of NCCL or RCCL that a kind of node or fabric asks for. What depends on the node itself is not here."""

    key: str
    library: Literal["nccl", "rccl"]
    fabrics: tuple[Fabric, ...]
    gpus: tuple[str, ...]
    """Keys of the gpus table; empty = every GPU of the library's vendor."""
    clouds: tuple[str, ...]
    """Keys of the clouds table; empty = everywhere."""
    settings: Mapping[str, str]
    """Variable → value, without line breaks."""
    reasons: Mapping[str, str]
    """Variable → why it is set, one line."""
