"""NVIDIA's container toolkit: CDI specifications that podman really reads."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from . import core, smi, sysfs
from .core import View

VERSION = Path("/usr/share/nvidia/container-toolkit-version")
FOLDERS = (Path("/etc/cdi"), Path("/var/run/cdi"))
MOUNTED = ("libcuda.so", "libnvidia-ml.so", "libnvidia-ptxjitcompiler.so")


def run(name: str, arguments: list[str]) -> int:
    version = VERSION.read_text(encoding="utf-8").strip() if VERSION.exists() else "0.0.0"
    if "--version" in arguments or "-v" in arguments:
        told = {"nvidia-ctk": "NVIDIA Container Toolkit CLI", "nvidia-cdi-hook": "NVIDIA CDI Hook"}
        print(f"{told.get(name, name)} version {version}\ncommit: 0000000000000000000000000000000000000000")
        return 0
    if name != "nvidia-ctk":  # hooks and runtimes have nothing to do: there is no real GPU
        return 0
    words = [word for word in arguments if not word.startswith("-")]
    if words[:2] == ["cdi", "generate"]:
        return generate(arguments, tuple(int(part) for part in version.split(".")))
    if words[:2] == ["cdi", "list"]:
        return listed(FOLDERS, "nvidia.com/gpu")
    return 0


def generate(arguments: list[str], version: tuple[int, ...]) -> int:
    try:
        view = smi.with_driver(core.view())
    except smi.Refusal as refusal:
        print(f"failed to generate CDI spec: failed to initialize NVML: {refusal}", file=sys.stderr)
        return 1
    text = specification(view, "0.7.0" if version >= (1, 19, 1) else "0.5.0")
    write(arguments, text)
    return 0


def write(arguments: list[str], text: str) -> None:
    output = next((word.partition("=")[2] for word in arguments if word.startswith("--output=")), "")
    if not output and "--output" in arguments:
        output = arguments[arguments.index("--output") + 1]
    if output:
        Path(output).parent.mkdir(parents=True, exist_ok=True)
        Path(output).write_text(text, encoding="utf-8")
        print(f'time="now" level=info msg="Generated CDI spec with version written to {output}"', file=sys.stderr)
    else:
        print(text, end="")


def specification(view: View, cdi_version: str) -> str:
    nodes = {name: (major, minor) for name, major, minor, _ in sysfs.device_nodes(view)}
    lines = ["---", f"cdiVersion: {cdi_version}", "kind: nvidia.com/gpu", "devices:"]
    chosen = smi.gpus(view)
    for gpu in chosen:
        for name in (f'"{gpu["index"]}"', f"GPU-{gpu['uuid']}"):
            lines += [f"    - name: {name}", "      containerEdits:", "        deviceNodes:"]
            lines += [f"            - path: /dev/nvidia{gpu['index']}"]
    lines += ["    - name: all", "      containerEdits:", "        deviceNodes:"]
    lines += [f"            - path: /dev/nvidia{gpu['index']}" for gpu in chosen]
    lines += ["containerEdits:", "    env:", "        - NVIDIA_VISIBLE_DEVICES=void", "    deviceNodes:"]
    common = [name for name in nodes if name in ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset")]
    lines += [f"        - path: /dev/{name}" for name in common]
    if cdi_version == "0.7.0":
        lines += ["    additionalGids:", "        - 44"]
    lines += ["    hooks:", "        - hookName: createContainer", "          path: /usr/bin/nvidia-cdi-hook"]
    lines += ["          args:", "            - nvidia-cdi-hook", "            - update-ldcache", "    mounts:"]
    paths = [str(core.LIBRARIES / f"{name}.{smi.version(view)}") for name in MOUNTED]
    for path in [*(path for path in paths if Path(path).exists()), "/usr/bin/nvidia-smi"]:
        lines += [f"        - hostPath: {path}", f"          containerPath: {path}", "          options:"]
        lines += ["            - ro", "            - nosuid", "            - nodev", "            - bind"]
    return "\n".join(lines) + "\n"


def listed(folders: tuple[Path, ...], kind: str) -> int:
    found: set[str] = set()
    for folder in folders:
        for path in (*folder.glob("*.yaml"), *folder.glob("*.json")):
            text = path.read_text(encoding="utf-8")
            if kind in text:
                found |= set(re.findall(r'"?name"?:\s*"?([\w-]+)"?', text.partition("containerEdits:\n    env")[0]))
    print(f'time="now" level=info msg="Found {len(found)} CDI devices"', file=sys.stderr)
    print("\n".join(f"{kind}={name}" for name in sorted(found)))
    return 0
