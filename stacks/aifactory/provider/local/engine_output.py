"""What podman and docker print, as our dataclasses. Both speak nearly the same JSON; the differences live here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aifactory.provider.local.engine_flags import EngineInfo


@dataclass(frozen=True)
class Network:
    name: str
    subnets: tuple[str, ...]
    labels: Mapping[str, str]
    interface: str
    """Bridge on this machine, empty where the engine does not say."""


@dataclass(frozen=True)
class Volume:
    name: str
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Image:
    """`id` is `sha256:<hex>`: bare hex is not taken everywhere."""

    id: str
    tags: tuple[str, ...]


@dataclass(frozen=True)
class Container:
    """`state` is running, paused, exited, created (never started), or another word of the engine."""

    id: str
    name: str
    state: str
    image: str
    labels: Mapping[str, str]
    ports: tuple[tuple[int, int], ...]
    """(port of this machine, port of the node)"""
    error: str = ""


def image_id(text: str) -> str:
    return f"sha256:{text.removeprefix('sha256:')}"


def info(name: str, raw: Mapping[str, Any]) -> EngineInfo:
    if name == "podman":
        host = raw["host"]
        return EngineInfo(
            name,
            version=str(raw["version"]["Version"]),
            kernel=str(host["kernel"]),
            cgroup_version=str(host["cgroupVersion"]).removeprefix("v"),
            runtime=str(host["ociRuntime"]["name"]),
            rootless=bool(host["security"]["rootless"]),
            storage=str(raw.get("store", {}).get("graphRoot", "")),
        )
    return EngineInfo(
        name,
        version=str(raw["ServerVersion"]),
        kernel=str(raw["KernelVersion"]),
        cgroup_version=str(raw.get("CgroupVersion", "1")),
        runtime=str(raw.get("DefaultRuntime", "")),
        rootless=any("rootless" in option for option in raw.get("SecurityOptions") or ()),
        storage=str(raw.get("DockerRootDir", "")),
    )


def networks(raw: Sequence[Mapping[str, Any]]) -> list[Network]:
    return [_network(one) for one in raw]


def _network(raw: Mapping[str, Any]) -> Network:
    if "name" in raw:  # podman with netavark
        subnets = tuple(str(s["subnet"]) for s in raw.get("subnets") or ())
        return Network(raw["name"], subnets, dict(raw.get("labels") or {}), raw.get("network_interface", ""))
    config = (raw.get("IPAM") or {}).get("Config") or ()
    subnets = tuple(str(c["Subnet"]) for c in config if c.get("Subnet"))
    options = raw.get("Options") or {}
    interface = options.get("com.docker.network.bridge.name", "") or f"br-{raw.get('Id', '')[:12]}"
    return Network(raw["Name"], subnets, dict(raw.get("Labels") or {}), interface)


def containers(raw: Sequence[Mapping[str, Any]]) -> list[Container]:
    """In the order of their names."""
    return sorted((_container(one) for one in raw), key=lambda c: c.name)


def _container(raw: Mapping[str, Any]) -> Container:
    state = raw["State"]
    return Container(
        id=raw["Id"],
        name=raw["Name"].removeprefix("/"),
        state={"stopped": "exited", "configured": "created", "initialized": "created"}.get(
            state["Status"], state["Status"]
        ),
        image=image_id(str(raw["Image"])),
        labels=dict(raw["Config"].get("Labels") or {}),
        ports=_ports((raw.get("HostConfig") or {}).get("PortBindings") or {}),
        error=str(state.get("Error") or ""),
    )


def _ports(bindings: Mapping[str, Sequence[Mapping[str, str]] | None]) -> tuple[tuple[int, int], ...]:
    """From what was asked for, so that a stopped container still tells its ports."""
    found = []
    for inside, outsides in bindings.items():
        for outside in outsides or ():
            if outside.get("HostPort"):
                found.append((int(outside["HostPort"]), int(inside.split("/")[0])))
    return tuple(sorted(found))
