"""The node that is simulated: its description, the faults of the moment, what has been loaded since the boot.

`view()` is read at every call, so that a fault that a test writes shows at the next command.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform as host
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RUN = Path("/run/simnode")
ETC = Path("/etc/simnode")
PLATFORM, FAULTS = ETC / "platform.json", ETC / "faults"
STATE, KERNEL_LOG = RUN / "state.json", RUN / "dmesg"
KERNEL = host.release()
MODULES = Path("/lib/modules") / KERNEL
LIBRARIES = Path("/usr/lib/x86_64-linux-gnu")

VOLATILE = ("remap-pending", "xid", "ecc")
"""Faults that a reboot ends."""

NVIDIA, AMD, MELLANOX, AMAZON = "10de", "1002", "15b3", "1d0f"


class View:
    """The description with the faults put in. Devices that are missing are not in it."""

    def __init__(self, description: dict[str, Any], faults: list[list[str]], state: dict[str, Any]) -> None:
        self.description, self.faults, self.state = description, faults, state
        self.gpus = list(self._gpus())
        self.nics = list(self._nics())
        self.switches = description.get("nvswitches") or []
        self.nvidia: dict[str, Any] = description.get("nvidia") or {}
        self.amd: dict[str, Any] = description.get("amd") or {}

    def fault(self, name: str) -> list[list[str]]:
        """Arguments of every line of that fault; [] when it is not there."""
        return [words[1:] for words in self.faults if words[0] == name]

    def has(self, name: str, *arguments: str) -> bool:
        return any(tuple(found[: len(arguments)]) == arguments for found in self.fault(name))

    @property
    def vendor(self) -> str:
        return "amd" if self.amd else "nvidia"

    @property
    def usable(self) -> list[dict[str, Any]]:
        """GPUs that a driver can use, in its order."""
        return [gpu for gpu in self.gpus if not gpu["revff"]]

    @property
    def secure_boot(self) -> bool:
        return self.has("secure-boot") or self.description.get("secure_boot") == "enabled"

    @property
    def redirecting(self) -> set[str]:
        """Bridges whose access control sends traffic between cards up to the processor."""
        every = {bridge for device in [*self.gpus, *self.nics] for bridge in device.get("path") or []}
        named = {bridge for words in self.fault("acs") for bridge in words or every}
        return named | set(self.description.get("acs") or [])

    @property
    def modules(self) -> dict[str, dict[str, Any]]:
        loaded: dict[str, dict[str, Any]] = self.state.setdefault("modules", {})
        return loaded

    def _gpus(self) -> Iterator[dict[str, Any]]:
        sizes = self.description.get("nvidia") or self.description.get("amd") or {}
        for position, raw in enumerate(self.description.get("gpus") or []):
            gpu = {**raw, "position": position, "serial": str(sizes.get("serials", 1) + position)}
            gpu["uuid"] = str(uuid.uuid5(uuid.NAMESPACE_OID, gpu["serial"]))
            gpu["revff"] = self.has("gpu-revff", raw["bdf"]) or raw.get("rev") == "ff"
            gpu["max_width"], gpu["width"] = raw["width"], raw.get("current_width", raw["width"])
            gpu["max_speed"], gpu["speed"] = raw["speed"], raw.get("current_speed", raw["speed"])
            if self.has("gpu-half-width", raw["bdf"]):
                gpu["width"] = raw["width"] // 2
            gpu["bar"] = raw["bar_gib"] << 30 if "bar_gib" in raw else _bar(sizes.get("memory_mib", 0))
            if self.has("gpu-small-bar", raw["bdf"]):
                gpu["bar"] = 256 << 20
            if position == 0 and self.has("unknown-gpu"):
                gpu["id"] = (self.fault("unknown-gpu")[0] or [f"{raw['id'][:5]}2fff"])[0]
            if not self.has("gpu-missing", raw["bdf"]):
                yield gpu

    def _nics(self) -> Iterator[dict[str, Any]]:
        for raw in self.description.get("nics") or []:
            nic = {**raw, "down": raw.get("state") == "DOWN" or self.has("nic-down", raw["hca"] or raw["bdf"])}
            nic["max_width"], nic["width"] = raw["width"], raw.get("current_width", raw["width"])
            nic["max_speed"], nic["speed"] = raw["speed"], raw.get("current_speed", raw["speed"])
            if self.has("nic-half-width", raw["hca"]):
                nic["width"] = raw["width"] // 2
            for hca, *rate in self.fault("nic-rate"):
                if hca == raw["hca"]:
                    nic["rate"] = int(rate[0])
            if not (self.has("nic-missing", raw["hca"]) or self.has("nic-missing", raw["bdf"])):
                yield nic


def _bar(memory_mib: int) -> int:
    """A BAR that maps the whole memory: the next power of two."""
    return 1 << max((memory_mib << 20) - 1, 1).bit_length()


def read_faults() -> list[list[str]]:
    with contextlib.suppress(FileNotFoundError):
        lines = (line.split("#")[0].split() for line in FAULTS.read_text(encoding="utf-8").splitlines())
        return [words for words in lines if words]
    return []


def view() -> View:
    return View(json.loads(PLATFORM.read_text(encoding="utf-8")), read_faults(), _read_state())


@contextlib.contextmanager
def changing() -> Iterator[View]:
    """A view whose `state` is kept when the block ends; one at a time."""
    RUN.mkdir(exist_ok=True)
    with (RUN / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = view()
        yield found
        part = STATE.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(found.state, indent=1), encoding="utf-8")
        part.replace(STATE)


def _read_state() -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(STATE.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return found


def kernel_says(text: str) -> None:
    """A line of the kernel log."""
    with KERNEL_LOG.open("a", encoding="utf-8") as log:
        log.write(f"{time.clock_gettime(time.CLOCK_BOOTTIME):.6f} {text}\n")


def alive(name: str) -> dict[str, Any] | None:
    """What the daemon wrote about itself, as long as it runs."""
    try:
        found: dict[str, Any] = json.loads((RUN / f"{name}.json").read_text(encoding="utf-8"))
        os.kill(found["pid"], 0)
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    return found


def library_version() -> str:
    """Version of NVIDIA's libraries on this node; empty without them."""
    with contextlib.suppress(OSError):
        return str((LIBRARIES / "libnvidia-ml.so.1").readlink()).partition(".so.")[2]
    return ""


def installed(path: str) -> bool:
    return Path(path).exists()
