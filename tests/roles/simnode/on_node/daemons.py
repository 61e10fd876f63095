"""Services of the vendor: they stay and change what the driver tells. Each keeps a file in /run/simnode."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from . import core, fabric, kernel
from .core import RUN

FM_CONFIG = "/usr/share/nvidia/nvswitch/fabricmanager.cfg"
IMEX_CONFIG = "/etc/nvidia-imex/config.cfg"


def run(name: str, arguments: list[str]) -> int:
    return {
        "nvidia-persistenced": persistenced, "nv-fabricmanager": fabric_manager, "nvlsm": nvlsm,
        "nvidia-fabricmanager-start.sh": fabric_manager_start, "nvidia-imex": imex, "nvidia-imex-ctl": imex_ctl,
        "nv-hostengine": hostengine,
    }[name](arguments)  # fmt: skip


def _stay(name: str, pid_file: str, told: dict[str, Any], *, fork: bool = True) -> int:
    """The daemon: a process that sleeps until it is ended. The parent returns once its files are there."""
    if fork and (child := os.fork()):
        Path(pid_file).parent.mkdir(parents=True, exist_ok=True)
        (RUN / f"{name}.json").write_text(json.dumps({"pid": child, "since": time.time(), **told}), encoding="utf-8")
        Path(pid_file).write_text(f"{child}\n", encoding="utf-8")
        return 0
    if not fork:
        (RUN / f"{name}.json").write_text(json.dumps({"pid": os.getpid(), **told}), encoding="utf-8")
    os.setsid() if fork else None
    silent = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(silent, number)
    os.execv("/usr/bin/sleep", [name, "infinity"])  # noqa: S606


def configuration(path: str) -> dict[str, str]:
    """KEY=value lines."""
    found = {}
    for line in Path(path).read_text(encoding="utf-8").splitlines() if Path(path).exists() else []:
        if "=" in line and not line.lstrip().startswith("#"):
            key, _, value = line.partition("=")
            found[key.strip()] = value.strip()
    return found


def _argument(arguments: list[str], flag: str, otherwise: str) -> str:
    return arguments[arguments.index(flag) + 1] if flag in arguments else otherwise


def persistenced(_arguments: list[str]) -> int:
    kernel.load("nvidia", {}, quiet=True)
    if "nvidia" not in core.view().modules:
        print("nvidia-persistenced failed to initialize. Check syslog for more details.", file=sys.stderr)
        return 1
    kernel.load("nvidia_uvm", {}, quiet=True)
    return _stay("nvidia-persistenced", "/run/nvidia-persistenced/nvidia-persistenced.pid", {})


def fabric_manager_start(arguments: list[str]) -> int:
    """NVIDIA's start script: finds NVLink-5 bridges by SW_MNG, starts NVLSM for them, then Fabric Manager."""
    vpds = Path("/sys/bus/pci/devices").glob("*/vpd")
    if not any(b"SW_MNG" in vpd.read_bytes() for vpd in vpds):
        print("Detected Pre-NVL5 system")
        return fabric_manager(["-c", _argument(arguments, "--fm-config-file", FM_CONFIG)])
    print("Detected NVL5+ system")
    if not shutil.which("ibstat"):
        print("ibstat: command not found", file=sys.stderr)
        return 1
    if not Path("/opt/nvidia/nvlsm/sbin/nvlsm").exists():
        print("Failed to start NVLSM: /opt/nvidia/nvlsm/sbin/nvlsm: No such file or directory", file=sys.stderr)
        return 1
    pid_file = _argument(arguments, "--nvlsm-pid-file", "/run/nvidia-fabricmanager/nvlsm.pid")
    done = subprocess.run(["/opt/nvidia/nvlsm/sbin/nvlsm", "--pid_file", pid_file], check=False)
    if done.returncode != 0:
        return done.returncode
    print('Started "Nvidia NVLSM"')
    return fabric_manager(["-c", _argument(arguments, "--fm-config-file", FM_CONFIG)])


def nvlsm(arguments: list[str]) -> int:
    if "ib_umad" not in core.view().modules:
        print("ibwarn: can't open UMAD port: is ib_umad loaded?", file=sys.stderr)
        return 1
    return _stay("nvlsm", _argument(arguments, "--pid_file", "/run/nvlsm.pid"), {})


def fabric_manager(arguments: list[str]) -> int:
    version = Path("/usr/share/nvidia/nvswitch/version").read_text(encoding="utf-8").strip()
    if "-v" in arguments or "--version" in arguments:
        print(f"Fabric Manager version is : {version}")
        return 0
    view = core.view()
    problem = fabric.manager_problem(view, version)
    if problem:
        print(problem, file=sys.stderr)
        return 1
    if fabric.kind(view) == "nvlsm" and not core.alive("nvlsm"):
        print("failed to connect to NVLSM", file=sys.stderr)
        return 1
    given = configuration(_argument(arguments, "-c", FM_CONFIG))
    with core.changing() as now:
        # With 1 the manager waits for a hypervisor.
        now.state["fabric"] = time.time() if given.get("FABRIC_MODE", "0") == "0" else None
    print("Connected to 1 node.\nSuccessfully configured all the available NVSwitches to route GPU NVLink traffic.")
    return _stay("nv-fabricmanager", "/run/nvidia-fabricmanager/nv-fabricmanager.pid", {"version": version})


# -- IMEX


def imex(arguments: list[str]) -> int:
    version = Path("/usr/share/nvidia/imex/version").read_text(encoding="utf-8").strip()
    if "-v" in arguments or "--version" in arguments:
        print(f"IMEX version is: {version}")
        return 0
    view = core.view()
    loaded = view.modules.get("nvidia", {}).get("version")
    if loaded != version:
        print(f"IMEX version {version} does not match with driver version {loaded}", file=sys.stderr)
        return 1
    given = configuration(_argument(arguments, "-c", IMEX_CONFIG))
    nodes = _nodes(given)
    if not nodes:
        print("Node config file is empty", file=sys.stderr)
        return 1
    told = {"version": version, "nodes": nodes, "commands": given.get("IMEX_CMD_ENABLED") == "1"}
    return _stay("nvidia-imex", "/run/nvidia-imex.pid", told)


def _nodes(given: dict[str, str]) -> list[str]:
    path = Path(given.get("IMEX_NODE_CONFIG_FILE", "/etc/nvidia-imex/nodes_config.cfg"))
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def imex_ctl(arguments: list[str]) -> int:
    """State of the domain as this node's daemon sees it. Peers are taken for ready; faults say otherwise."""
    running = core.alive("nvidia-imex")
    given = configuration(IMEX_CONFIG)
    nodes = running["nodes"] if running else _nodes(given)
    view = core.view()
    if given.get("IMEX_CMD_ENABLED") != "1":
        print("Failed to connect to IMEX command service. Is IMEX_CMD_ENABLED set?", file=sys.stderr)
        return 1
    flags = "".join(word[1:] for word in arguments if re.fullmatch("-[a-zA-Z]+", word))
    ready = bool(running) and not view.has("imex-not-ready")
    late = [name for (name, *_) in view.fault("imex-not-ready") if name]
    if "q" in flags and "N" not in flags:
        print("READY" if ready else "WAITING_FOR_PEERS" if running else "UNAVAILABLE")
        return 0 if running else 1
    version = ".".join(running["version"].split(".")[:2]) if running else "N/A"
    rows = {}
    for number, host in enumerate(nodes):
        up = bool(running) and (ready or (bool(late) and host not in late))
        rows[str(number)] = {
            "status": "READY" if up else "UNAVAILABLE", "host": host, "hostName": "N/A", "version": version,
            "connections": {
                str(other): {"host": peer, "status": "CONNECTED" if up else "INVALID", "changed": up}
                for other, peer in enumerate(nodes)
            },
        }  # fmt: skip
    state = "UP" if ready else "DEGRADED" if late and running else "DOWN"
    moment = time.strftime("%m/%d/%Y %H:%M:%S.000")
    if "j" in flags:
        print(json.dumps({"nodes": rows, "timestamp": moment, "status": state}))
        return 0
    print("Connectivity Table Legend:\nI - Invalid - Node wasn't reachable, no connection status available")
    print("C - Connected - Ready for operation\n")
    print(f"{moment}\nNodes:")
    for name, row in rows.items():
        print(f"Node #{name:<3} - {row['host']:<16}- {row['status']:<21}- Version: {row['version']}")
    print("\n Nodes From\\To  " + "".join(f"{name:<4}" for name in rows))
    for name, row in rows.items():
        print(f"{name:>8}        " + "".join("C   " if c["changed"] else "I   " for c in row["connections"].values()))
    print(f"\nDomain State: {state}")
    return 0


def hostengine(arguments: list[str]) -> int:
    if "--version" in arguments:
        print("Version : 4.6.0")
        return 0
    return _stay("nv-hostengine", "/run/nv-hostengine.pid", {}, fork="-n" not in arguments)
