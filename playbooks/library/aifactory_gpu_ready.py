#!/usr/bin/python
"""Says whether a node's GPUs can be computed on: fabric trained, links up, IMEX ready, a CUDA context on every GPU."""

from __future__ import annotations

DOCUMENTATION = r"""
module: aifactory_gpu_ready
short_description: Prove that every GPU of a node can be computed on; reads only
description:
  - C(nvidia-smi) answers on a node whose NVLink fabric is stuck, and CUDA then fails. So this waits until every
    GPU's fabric state is Completed and its status Success, then opens a CUDA context on every GPU through the
    driver's own library, in a process of its own.
  - Every command has a time limit; one that hangs is named.
  - Fails with all faults at once, each with what was found, what is wanted, and what to do.
options:
  gpus:
    description: GPUs that the node has.
    type: int
    required: true
  driver:
    description: Full driver version; empty = not compared.
    type: str
    default: ""
  fabric:
    description: V(none); V(node) for an NVSwitch baseboard; V(rack) for NVL72, which needs clique and cluster ids.
    type: str
    choices: [none, node, rack]
    default: none
  nvlinks:
    description: NVLinks a GPU; 0 = not compared.
    type: int
    default: 0
  nvlink_gb_s:
    description: Lowest speed of one NVLink and direction, GB/s; 0 = not compared.
    type: float
    default: 0
  persistence:
    description: Whether persistence mode must be on.
    type: bool
    default: true
  imex_nodes:
    description: Addresses of the nodes whose IMEX must be ready; empty = IMEX is not asked.
    type: list
    elements: str
    default: []
  imex_channel0:
    description: Whether the device of IMEX channel 0 must be there.
    type: bool
    default: false
  fabric_timeout_s:
    description: Seconds the fabric and IMEX may take; NVLink 5 trains for minutes.
    type: int
    default: 600
  command_timeout_s:
    description: Seconds one command may take.
    type: int
    default: 60
  cuda_timeout_s:
    description: Seconds all CUDA contexts together may take.
    type: int
    default: 180
  judge:
    description: V(false) returns the faults and does not fail.
    type: bool
    default: true
author: aifactory
"""

EXAMPLES = r"""
- name: Prove that the GPUs work
  aifactory_gpu_ready:
    gpus: 8
    fabric: node
    nvlinks: 18
    nvlink_gb_s: 25
  register: __gpu_ready
"""

RETURN = r"""
faults:
  description: check, place, found, wanted, fix of each.
  type: list
  elements: dict
  returned: always
ready:
  description: driver, gpus (bdf, name, fabric, links, persistence), contexts, imex, waited_s.
  type: dict
  returned: always
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from xml.etree import ElementTree

from ansible.module_utils.basic import AnsibleModule

POLL_S = 3.0
NO_UUID = "00000000-0000-0000-0000-000000000000"
IMEX_NODES = "/etc/nvidia-imex/nodes_config.cfg"
CHANNEL_0 = "/dev/nvidia-caps-imex-channels/channel0"

FIX_FABRIC = (
    "See `systemctl status nvidia-fabricmanager` and its log; on NVLink 5 NVLSM must run, ib_umad and mlx5_ib must be "
    "loaded and a bridge with SW_MNG must be there; after a reset of a GPU restart Fabric Manager; else reboot the node"
)
FIX_RACK = (
    "The switch trays run Fabric Manager and NVLSM: look at their state and at the rack's NVLink partitions; "
    "Fabric Manager on this node would not help"
)
CUDA_FIXES = {
    3: "If the kernel was updated: `options nvidia_uvm uvm_disable_hmm=1` in /etc/modprobe.d, then reboot",
    999: "If the kernel was updated: `options nvidia_uvm uvm_disable_hmm=1` in /etc/modprobe.d, then reboot",
    46: "Another process holds the GPU exclusively, or it needs a reset: see `nvidia-smi -q -d COMPUTE,PIDS`",
    100: "No GPU is visible to CUDA: load nvidia_uvm (`nvidia-modprobe -u`), look at CUDA_VISIBLE_DEVICES and MIG",
    101: "The GPU left the bus or is hidden: see `dmesg` for Xid 79; reboot the node",
    800: "The process may not use the GPU: see the permissions of /dev/nvidia*",
    802: "The NVLink fabric is not initialised: " + FIX_FABRIC,
    803: "The libraries and the loaded module have different versions: reboot the node",
    804: "The libraries are newer than the module can serve: reboot the node, or remove a CUDA compatibility package",
}
"""Remedies by CUDA error number (cuda.h, CUresult)."""

NO_DRIVER = "Load the driver (`modprobe nvidia`); see `dmesg | grep NVRM`"

HEALTHY = {
    "summary": "Healthy",
    "bandwidth": "Full",
    "route_recovery_in_progress": "False",
    "route_unhealthy": "False",
    "access_timeout_recovery": "False",
    "incorrect_configuration": "None",
}
"""Fabric health as `nvidia-smi -q -x` words it; other fields and `N/A` are compared with nothing."""

CUDA_PROGRAM = r"""
import ctypes, json, sys

def say(**line):
    print(json.dumps(line), flush=True)

def words(code):
    text = []
    for ask in ("cuGetErrorName", "cuGetErrorString"):
        found = ctypes.c_char_p()
        try:
            getattr(cuda, ask)(code, ctypes.byref(found))
        except AttributeError:
            continue
        if found.value:
            text.append(found.value.decode())
    return ": ".join(text)

say(step="load")
try:
    cuda = ctypes.CDLL("libcuda.so.1")
except OSError as error:
    say(step="load", failed=str(error))
    sys.exit(1)
say(step="cuInit")
code = cuda.cuInit(0)
if code:
    say(step="cuInit", code=code, words=words(code))
    sys.exit(1)
count = ctypes.c_int()
code = cuda.cuDeviceGetCount(ctypes.byref(count))
say(step="cuDeviceGetCount", code=code, words=words(code) if code else "", count=count.value)
for index in range(count.value):
    device, context, bus = ctypes.c_int(), ctypes.c_void_p(), ctypes.create_string_buffer(32)
    code = cuda.cuDeviceGet(ctypes.byref(device), index)
    if not code and cuda.cuDeviceGetPCIBusId(bus, 32, device):
        bus.value = b""
    place = bus.value.decode()
    say(step="context", index=index, bdf=place)
    step = "cuDeviceGet"
    if not code:
        step, code = "cuDevicePrimaryCtxRetain", cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
    if not code:
        getattr(cuda, "cuDevicePrimaryCtxRelease_v2", cuda.cuDevicePrimaryCtxRelease)(device)
    say(step="opened", index=index, bdf=place, call=step, code=code, words=words(code) if code else "")
say(step="end")
"""
"""Runs in a process of its own: a driver that hangs hangs that one, and the line it had said last names the GPU."""


# --- what the commands say ---


def parse_smi(text):
    """{driver, gpus: [...]} of `nvidia-smi -q -x`, drivers 535 to 610; raises ValueError on anything else.

    A value that the driver does not have (`N/A`, deprecated) is an empty string.
    """
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 (what this host's own driver wrote)
    except ElementTree.ParseError as error:
        raise ValueError(f"no XML ({error})") from error
    if root.tag != "nvidia_smi_log":
        raise ValueError(f"not nvidia-smi's XML but <{root.tag}>")
    return {"driver": value(root, "driver_version"), "gpus": [parse_gpu(gpu) for gpu in root.findall("gpu")]}


def parse_gpu(gpu):
    return {
        "bdf": short_bdf(gpu.get("id") or ""),
        "name": value(gpu, "product_name"),
        "uuid": value(gpu, "uuid"),
        "persistence": value(gpu, "persistence_mode") == "Enabled",
        "mig": value(gpu, "mig_mode/current_mig") == "Enabled",
        "fabric_state": value(gpu, "fabric/state"),
        "fabric_status": value(gpu, "fabric/status"),
        "clique": value(gpu, "fabric/cliqueId"),
        "cluster": value(gpu, "fabric/clusterUuid"),
        "fabric_health": {
            found.tag: (found.text or "").strip()
            for found in gpu.findall("fabric/health/*")
            if (found.text or "").strip() not in ("", "N/A")
        },
    }


def value(node, path):
    text = (node.findtext(path) or "").strip()
    return "" if text == "N/A" or text.startswith("Requested functionality") else text


def short_bdf(bus_id):
    """`0000:1b:00.0` of nvidia-smi's `00000000:1B:00.0`."""
    domain, _colon, rest = bus_id.partition(":")
    return f"{domain[-4:]}:{rest}".lower() if rest else bus_id.lower()


def parse_links(text):
    """{index of GPU: [GB/s of each link, 0 = not active]} of `nvidia-smi nvlink --status`."""
    links, index = {}, None
    for line in text.splitlines():
        if found := re.match(r"GPU (\d+):", line):
            index = int(found.group(1))
            links[index] = []
        elif index is not None and (found := re.match(r"\s*Link \d+: (.+?)\s*$", line)):
            speed = re.match(r"([\d.]+) GB/s", found.group(1))
            links[index].append(float(speed.group(1)) if speed else 0.0)
    return links


def parse_imex(text):
    """{state, nodes: {address: (status, {address: connection})}} of `nvidia-imex-ctl -N -j`; ValueError else."""
    try:
        told = json.loads(text)
        nodes = told["nodes"].values()
        return {
            "state": told["status"],
            "nodes": {
                node["host"]: (node["status"], {peer["host"]: peer["status"] for peer in node["connections"].values()})
                for node in nodes
            },
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no answer of nvidia-imex-ctl: {text.strip()[:120] or 'nothing'}") from error


def parse_contexts(text, code):
    """[fault texts and codes] of CUDA_PROGRAM's lines: ({index: (bdf, code, words)}, count or None, last line)."""
    lines = []
    for line in text.splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    last = lines[-1] if lines else {"step": "start"}
    opened = {line["index"]: line for line in lines if line.get("step") == "opened"}
    count = next((line["count"] for line in lines if line.get("step") == "cuDeviceGetCount"), None)
    return opened, count, last, code


# --- judgements: pure, over what was parsed ---


def fault(check, place, found, wanted, fix):
    return {"check": check, "place": place, "found": found, "wanted": wanted, "fix": fix}


def fabric_faults(gpus, fabric):
    """Of every GPU whose fabric is not trained, or is trained into no clique."""
    faults = []
    fix = FIX_RACK if fabric == "rack" else FIX_FABRIC
    for index, gpu in enumerate(gpus):
        place = f"GPU {index} ({gpu['bdf']})"
        found = f"{gpu['fabric_state'] or 'no state'}, {gpu['fabric_status'] or 'no status'}"
        if (gpu["fabric_state"], gpu["fabric_status"]) != ("Completed", "Success"):
            faults.append(fault("FABRIC-STATE", place, found, "Completed, Success", fix))
            continue
        if fabric == "rack":
            if gpu["clique"] in ("", "0"):
                faults.append(fault("FABRIC-CLIQUE", place, f"clique {gpu['clique'] or 'none'}", "not 0", FIX_RACK))
            if gpu["cluster"] in ("", NO_UUID):
                faults.append(fault("FABRIC-CLUSTER", place, f"cluster {gpu['cluster'] or 'none'}", "set", FIX_RACK))
        health = gpu["fabric_health"]
        bad = {name: health[name] for name, good in HEALTHY.items() if health.get(name, good) != good}
        if bad:
            told = ", ".join(f"{name} {text}" for name, text in bad.items())
            faults.append(fault("FABRIC-HEALTH", place, told, "healthy, full bandwidth", fix))
    if fabric == "rack" and len({(gpu["clique"], gpu["cluster"]) for gpu in gpus}) > 1:
        told = ", ".join(sorted({f"{gpu['clique']}@{gpu['cluster']}" for gpu in gpus}))
        faults.append(fault("FABRIC-CLIQUE", "node", told, "one clique and cluster for all GPUs", FIX_RACK))
    return faults


def link_faults(links, gpus, nvlinks, nvlink_gb_s):
    """Of every GPU with a link too few or too slow."""
    faults = []
    for index, gpu in enumerate(gpus):
        speeds = links.get(index, [])
        place = f"GPU {index} ({gpu['bdf']})"
        down = [number for number, speed in enumerate(speeds) if not speed]
        active = len(speeds) - len(down)
        if active < nvlinks:
            which = f" (inactive: {', '.join(map(str, down))})" if down else ""
            faults.append(
                fault(
                    "NVLINK-COUNT", place, f"{active} NVLinks active{which}", str(nvlinks),
                    "See `nvidia-smi nvlink -e` and Xid 74 in `dmesg`; reseat the GPU or have the baseboard replaced",
                )
            )  # fmt: skip
        slow = sorted({speed for speed in speeds if 0 < speed < nvlink_gb_s})
        if slow:
            faults.append(
                fault(
                    "NVLINK-SPEED", place, f"links at {', '.join(map(str, slow))} GB/s", f"{nvlink_gb_s} GB/s",
                    "Reboot the node; if it stays, have the GPU or the baseboard replaced",
                )
            )  # fmt: skip
    return faults


def imex_faults(told, wanted):
    """Of IMEX: nodes missing from its list, not ready, not connected with each other. Only `wanted` are judged."""
    faults = []
    unknown = [address for address in wanted if address not in told["nodes"]]
    if unknown:
        faults.append(
            fault(
                "IMEX-NODES", IMEX_NODES, f"{len(told['nodes'])} nodes, without {', '.join(unknown)}",
                f"the same {len(wanted)} nodes everywhere",
                "Have every node of the rack in one run, so that all get the same file; see what else writes it",
            )
        )  # fmt: skip
    for address in wanted:
        if address not in told["nodes"]:
            continue
        status, peers = told["nodes"][address]
        place = f"IMEX of {address}"
        if status != "READY":
            fix = "See /var/log/nvidia-imex.log there, its nodes file, port 50000 and versions (all nodes need one)"
            faults.append(fault("IMEX-STATE", place, status, f"READY on {len(wanted)} nodes", fix))
            continue
        apart = [peer for peer in wanted if peers.get(peer, "no entry") != "CONNECTED"]
        if apart:
            states = ", ".join(f"{peer} {peers.get(peer, 'no entry')}" for peer in apart)
            fix = "Open port 50000 between the nodes; all nodes files and versions must be the same"
            faults.append(fault("IMEX-CONNECTION", place, states, "CONNECTED", fix))
    return faults


def cuda_faults(contexts, gpus, timeout_s):
    """Of the CUDA process: where it stopped, and every GPU on which no context opened."""
    opened, count, last, code = contexts
    faults = []
    for index, line in sorted(opened.items()):
        if line["code"]:
            place = f"GPU {index} ({short_bdf(line['bdf']) or bdf_of(gpus, index)})"
            faults.append(cuda_fault(place, line["call"], line["code"], line["words"]))
    step = last.get("step")
    if code is None:
        place = f"GPU {last['index']} ({short_bdf(last['bdf'])})" if step == "context" else "CUDA"
        what = "cuDevicePrimaryCtxRetain" if step == "context" else step
        fix = "The driver hangs: see Xid 119, 120 and NVRM lines in `dmesg`; reboot the node"
        faults.append(fault("CUDA-HANG", place, f"no answer of {what} in {timeout_s} s", "a context", fix))
    elif step == "load":
        fix = (
            "Install the driver's library libcuda.so.1 (package libcuda1, libnvidia-compute or nvidia-driver-cuda-libs)"
        )
        faults.append(fault("CUDA-LIBRARY", "CUDA", last.get("failed", "no answer"), "libcuda.so.1", fix))
    elif step == "cuInit" or (step == "cuDeviceGetCount" and last["code"]):
        if "code" in last:
            faults.append(cuda_fault("all GPUs", step, last["code"], last["words"]))
        else:
            faults.append(fault("CUDA-CONTEXT", "all GPUs", f"cuInit ended the process ({code})", "0", NO_DRIVER))
    elif step != "end":
        place = f"GPU {last['index']} ({short_bdf(last['bdf'])})" if "index" in last else "CUDA"
        faults.append(fault("CUDA-CONTEXT", place, f"the process ended with {code}", "a context", NO_DRIVER))
    elif count != len(gpus) and not any(gpu["mig"] for gpu in gpus):
        fix = "See `dmesg` for Xid 79, and CUDA_VISIBLE_DEVICES in /etc/environment"
        faults.append(fault("CUDA-COUNT", "CUDA", f"{count} GPUs", f"{len(gpus)} as nvidia-smi shows", fix))
    return faults


def cuda_fault(place, call, code, words):
    fix = CUDA_FIXES.get(code, "See `dmesg | grep -e NVRM -e Xid`; reset the GPU or reboot the node")
    return fault("CUDA-CONTEXT", place, f"{call} gives {code} {words}".strip(), "0 (a context)", fix)


def bdf_of(gpus, index):
    return gpus[index]["bdf"] if index < len(gpus) else "?"


def smi_fault(command, code, output, timeout_s):
    """What a failed `nvidia-smi` means."""
    text = " ".join(output.split())[:200]
    if code is None:
        fix = "The driver hangs: see Xid 119, 120 and NVRM lines in `dmesg`; reboot the node"
        return fault("SMI-HANG", command, f"no answer in {timeout_s} s", "an answer", fix)
    if code == 127:
        fix = "Install the driver (nvidia-smi comes with nvidia-driver-cuda, nvidia-utils or nvidia-open)"
        return fault("SMI-MISSING", command, text or "not there", "installed", fix)
    if "version mismatch" in text:
        fix = "A package was changed under a loaded module: reboot the node; hold the driver's packages"
        return fault("DRIVER-MISMATCH", command, text, "one version", fix)
    if "couldn't communicate with the NVIDIA driver" in text:
        return fault("DRIVER-ABSENT", command, text, "a loaded driver", NO_DRIVER)
    return fault("SMI-FAILED", command, f"{text or 'nothing'} (exit {code})", "an answer", NO_DRIVER)


# --- the node ---


def run(command, timeout_s):
    """(code, output and errors); code None when it did not end in time. Never waits for a process that no signal
    ends (a hanging driver)."""
    with tempfile.TemporaryFile() as out:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
                env={**os.environ, "LC_ALL": "C.UTF-8"},
            )  # fmt: skip
        except OSError as error:
            return 127, str(error)
        deadline = time.monotonic() + timeout_s
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        code = process.poll()
        if code is None:
            os.killpg(process.pid, signal.SIGKILL)
        out.seek(0)
        return code, out.read().decode("utf-8", "replace")


class Node:
    def __init__(self, params):
        self.params, self.faults = params, []
        self.ready = {"driver": "", "gpus": [], "contexts": 0, "imex": {}, "waited_s": 0}

    def look(self):
        """Fills `faults` and `ready`."""
        started = time.monotonic()
        told = self.wait(self.smi, started)
        if told is None:
            return
        self.ready.update(driver=told["driver"], gpus=told["gpus"])
        self.judge_gpus(told)
        if self.params["imex_nodes"]:
            self.wait(self.imex, started)
        self.ready["waited_s"] = round(time.monotonic() - started, 1)
        if self.params["nvlinks"]:
            self.links(told["gpus"])
        self.contexts(told["gpus"])

    def wait(self, ask, started):
        """What `ask` found once it names no fault that time mends, or when time is up; its faults are kept."""
        while True:
            told, faults = ask()
            over = time.monotonic() - started + POLL_S > self.params["fabric_timeout_s"]
            if told is None or not faults or over:
                self.faults += faults
                return told
            time.sleep(POLL_S)

    def smi(self):
        told = self.command(["nvidia-smi", "-q", "-x"], parse_smi)
        if "check" in told:
            return None, [told]
        return told, fabric_faults(told["gpus"], self.params["fabric"]) if self.params["fabric"] != "none" else []

    def imex(self):
        told = self.command(["nvidia-imex-ctl", "-N", "-j"], parse_imex)
        if "check" in told:
            told["check"] = told["check"].replace("SMI", "IMEX")
            return {}, [told]
        nodes = {address: status for address, (status, _peers) in told["nodes"].items()}
        self.ready["imex"] = {"state": told["state"], "nodes": nodes}
        return told, imex_faults(told, self.params["imex_nodes"])

    def command(self, command, parse):
        """What it says, parsed; or a fault."""
        code, out = run(command, self.params["command_timeout_s"])
        if code == 0:
            try:
                return parse(out)
            except ValueError as error:
                out = str(error)
        return smi_fault(" ".join(command), code, out, self.params["command_timeout_s"])

    def judge_gpus(self, told):
        gpus, wanted = told["gpus"], self.params["gpus"]
        if len(gpus) != wanted:
            fix = "See `lspci -d 10de:` and Xid 79 in `dmesg`; reboot, then have the GPU reseated or replaced"
            self.faults.append(fault("GPU-COUNT", "nvidia-smi", f"{len(gpus)} GPUs", str(wanted), fix))
        if self.params["driver"] and told["driver"] != self.params["driver"]:
            fix = "Reboot the node so that the installed driver is the loaded one"
            self.faults.append(fault("DRIVER-VERSION", "driver", told["driver"], self.params["driver"], fix))
        off = [f"GPU {index}" for index, gpu in enumerate(gpus) if not gpu["persistence"]]
        if self.params["persistence"] and off:
            fix = "Start nvidia-persistenced without --no-persistence-mode"
            self.faults.append(fault("PERSISTENCE", ", ".join(off), "off", "on", fix))
        if self.params["imex_channel0"] and not os.path.exists(CHANNEL_0):
            fix = "Set NVreg_CreateImexChannel0=1 for module nvidia in /etc/modprobe.d, then reboot"
            self.faults.append(fault("IMEX-CHANNEL", CHANNEL_0, "absent", "there", fix))

    def links(self, gpus):
        links = self.command(["nvidia-smi", "nvlink", "--status"], parse_links)
        if "check" in links:
            self.faults.append(links)
            return
        for index, gpu in enumerate(gpus):
            gpu["links"] = links.get(index, [])
        self.faults += link_faults(links, gpus, self.params["nvlinks"], self.params["nvlink_gb_s"])

    def contexts(self, gpus):
        timeout_s = self.params["cuda_timeout_s"]
        code, out = run([sys.executable, "-c", CUDA_PROGRAM], timeout_s)
        contexts = parse_contexts(out, code)
        self.ready["contexts"] = sum(not line["code"] for line in contexts[0].values())
        self.faults += cuda_faults(contexts, gpus, timeout_s)


def told_at_once(faults):
    """All faults in one line, GPUs with the same one together."""
    groups = {}
    for one in faults:
        groups.setdefault((one["check"], one["found"], one["wanted"], one["fix"]), []).append(one["place"])
    return " / ".join(
        f"{check}: {', '.join(places)}: {found}, wanted: {wanted}. {fix}"
        for (check, found, wanted, fix), places in groups.items()
    )


def main():
    module = AnsibleModule(
        argument_spec={
            "gpus": {"type": "int", "required": True},
            "driver": {"type": "str", "default": ""},
            "fabric": {"type": "str", "choices": ["none", "node", "rack"], "default": "none"},
            "nvlinks": {"type": "int", "default": 0},
            "nvlink_gb_s": {"type": "float", "default": 0.0},
            "persistence": {"type": "bool", "default": True},
            "imex_nodes": {"type": "list", "elements": "str", "default": []},
            "imex_channel0": {"type": "bool", "default": False},
            "fabric_timeout_s": {"type": "int", "default": 600},
            "command_timeout_s": {"type": "int", "default": 60},
            "cuda_timeout_s": {"type": "int", "default": 180},
            "judge": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    node = Node(module.params)
    node.look()
    result = {"changed": False, "faults": node.faults, "ready": node.ready}
    if node.faults and module.params["judge"]:
        module.fail_json(msg=told_at_once(node.faults), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
