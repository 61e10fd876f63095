"""What NCCL or RCCL is told on the nodes of a pool, and why. What depends on the node itself is found there.

Settings come from the rows of the catalogue's table `nccl`; the role `fabric` adds cards, socket interface and GID
index, and refuses what does not fit. Nothing here reads a file, the network or pulumi.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from aifactory import catalog
from aifactory.catalog import Nccl

VALUE_MAX = 1023
"""Characters of a value that NCCL keeps of a line of its file (src/misc/param.cc)."""

FILE_PREFIXES = ("NCCL_", "RCCL_", "FI_")
"""Variables that still count when the library's own file sets them; others must be there before the process starts."""

_PRIORITIES = 8
"""Priorities of an Ethernet card; a card that trusts DSCP puts eight classes into each (ConnectX default)."""


@dataclass(frozen=True)
class Setting:
    """One variable, its value, and the one line that says why."""

    name: str
    value: str
    reason: str


@dataclass(frozen=True)
class RoceCards:
    """What the cards of a RoCE fabric are set to. `priority` is the lossless one; reasons by field name.

    `traffic_class` is the byte that the data carries: its upper six bits are `dscp`, the other two are ECN's.
    """

    dscp: int
    priority: int
    cnp_dscp: int
    traffic_class: int
    rp_filter: int
    arp_ignore: int
    arp_announce: int
    reasons: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class NcclPlan:
    """Settings sorted by name; `hca` and `socket` say whether the role finds the cards and the interface.

    `environment` belongs into the environment of the processes, because a file that the library reads comes too
    late for it. `topology` says why no topology file is written. `roce` is None on any other fabric.
    """

    library: Literal["nccl", "rccl"]
    settings: tuple[Setting, ...]
    environment: tuple[Setting, ...]
    hca: Literal["discover", "none"]
    socket: Literal["discover", "none"]
    topology: str
    roce: RoceCards | None

    def role(self) -> dict[str, Any]:
        """As the keys `nccl` and `roce` of the role `fabric`'s dict; empty where there is no fabric."""
        if self.socket == "none":
            return {}
        nccl = {
            "library": self.library,
            "settings": [vars(setting) for setting in self.settings],
            "environment": [vars(setting) for setting in self.environment],
            "hca": self.hca,
            "socket": self.socket,
            "topology": self.topology,
        }
        if self.roce is None:
            return {"nccl": nccl}
        return {"nccl": nccl, "roce": {key: value for key, value in vars(self.roce).items() if key != "reasons"}}


def nccl(gpu: str | None, fabric: str, cloud: str, site: Mapping[str, int] | None = None) -> NcclPlan:
    """The settings for one kind of node; `gpu` and `cloud` are keys of the catalogue.

    `site` holds the fields of RoceCards that the fabric has otherwise than the catalogue; nothing on other fabrics.
    Raises ValueError when two rows set one variable differently, or a row holds what the library's file cannot.
    """
    vendor = catalog.gpus()[gpu].vendor if gpu else "nvidia"
    library: Literal["nccl", "rccl"] = "rccl" if vendor == "amd" else "nccl"
    if fabric == "none" or gpu is None:
        why = "no fabric" if gpu else "no GPUs"
        return NcclPlan(library, (), (), "none", "none", f"{why}: nothing is set", None)
    found: dict[str, Setting] = {}
    for row in _rows(gpu, fabric, cloud):
        for setting in _settings(row):
            if setting.name.isupper() and row.library != library:
                continue
            if (other := found.setdefault(setting.name, setting)).value != setting.value:
                raise ValueError(f"nccl.{row.key}: {setting.name} is {other.value} and {setting.value}")
    own = {name: found.pop(name) for name in list(found) if name.islower()}
    cards = _roce(own, site or {}) if fabric == "roce" else None
    if cards is not None:
        word = f"DSCP {cards.dscp}, which the cards and the switches put into priority {cards.priority}"
        found["NCCL_IB_TC"] = Setting("NCCL_IB_TC", str(cards.traffic_class), word)
    ordered = [found[name] for name in sorted(found)]
    return NcclPlan(
        library=library,
        settings=tuple(s for s in ordered if s.name.startswith(FILE_PREFIXES)),
        environment=tuple(s for s in ordered if not s.name.startswith(FILE_PREFIXES)),
        hca="discover" if fabric in {"infiniband", "roce"} else "none",
        socket="discover",
        topology=_topology(fabric, cloud),
        roce=cards,
    )


def _rows(gpu: str, fabric: str, cloud: str) -> Iterator[Nccl]:
    for row in catalog.nccl().values():
        if fabric in row.fabrics and (not row.gpus or gpu in row.gpus) and (not row.clouds or cloud in row.clouds):
            yield row


def _settings(row: Nccl) -> Iterator[Setting]:
    if row.settings.keys() != row.reasons.keys():
        raise ValueError(f"nccl.{row.key}: settings and reasons name different variables")
    for name, value in row.settings.items():
        reason = row.reasons[name]
        if "=" in reason or "\n" in reason + value or len(value) > VALUE_MAX:
            raise ValueError(f"nccl.{row.key}.{name}: not a line that the library reads as it is meant")
        yield Setting(name, value, reason)


def _roce(found: Mapping[str, Setting], site: Mapping[str, int]) -> RoceCards:
    values = {name: int(setting.value) for name, setting in found.items()} | dict(site)
    reasons = {name: setting.reason for name, setting in found.items()}
    reasons["priority"] = f"DSCP {values['dscp']} of 64, eight to a priority"
    reasons["traffic_class"] = f"DSCP {values['dscp']} in its upper six bits"
    reasons |= dict.fromkeys(site, "as the region file has it")
    values.setdefault("priority", values["dscp"] // _PRIORITIES)
    values.setdefault("traffic_class", values["dscp"] * 4)
    return RoceCards(**values, reasons=tuple(sorted(reasons.items())))


def _topology(fabric: str, cloud: str) -> str:
    """Why NCCL_TOPO_FILE is not set. The one source that names files is for virtual machines of Azure."""
    if fabric == "efa":
        return "the libfabric plugin brings the topology of the instance type and hands it to NCCL itself"
    if cloud in {"static", "local"}:
        return "the library reads the machine's own PCIe tree"
    return "no source names a topology file for virtual machines of this cloud"
