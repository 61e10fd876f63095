"""This machine's GPUs, as the product reads and judges them.

Real: lspci, sysfs, nvidia-smi, the CUDA driver. Without a GPU everything here is skipped. With GPU_RECORD=<folder>
what was printed is kept there, as the ground for a description in tests/roles/platforms.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from aifactory import catalog, paths


def module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, paths.PLAYBOOKS / "library" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


gpu_platform, gpu_ready = module("gpu_platform"), module("aifactory_gpu_ready")
KNOWN = [{"pci_id": i, "key": row.key, "name": row.name} for row in catalog.gpus().values() for i in row.pci_ids]


def keep(name: str, text: str) -> str:
    if folder := os.environ.get("GPU_RECORD"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / name).write_text(text, encoding="utf-8")
    return text


def said(*command: str) -> str:
    """What a program of this machine prints; the test is skipped where there is no such program."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]} on this machine: install the driver (layer gpu)")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return keep("_".join(command).replace("/", "_") + ".txt", done.stdout)


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """What gpu_platform reads here, promised nothing but the catalogue."""
    read: dict[str, Any] = gpu_platform.read("/", {"known": KNOWN})
    if not read["gpus"]:
        pytest.skip("no GPU in this machine: run make test-gpu on one that has some")
    keep("gpu_platform.json", json.dumps(read, indent=2))
    if shutil.which("lspci"):
        said("lspci", "-Dnn")
    return read


@pytest.fixture(scope="module")
def promised(found: dict[str, Any]) -> dict[str, Any]:
    """The shape that this machine is: its own GPUs, by the catalogue's row."""
    gpu = catalog.gpus()[found["kind"]]
    row = {
        "key": gpu.key,
        "name": gpu.name,
        "pci_ids": list(gpu.pci_ids),
        "needs_nvlsm": gpu.needs_nvlsm,
        "pcie_gt_s": gpu.pcie_gt_s or 0,
        "pcie_width": gpu.pcie_width or 0,
    }
    return {"gpus_per_node": len(found["gpus"]), "platform": row, "nics": {}, "known": KNOWN}


@pytest.fixture(scope="module")
def smi(found: dict[str, Any]) -> dict[str, Any]:
    if found["gpus"][0]["pci_id"][:4] != gpu_platform.NVIDIA:
        pytest.skip("no NVIDIA GPU")
    parsed: dict[str, Any] = gpu_ready.parse_smi(said("nvidia-smi", "-q", "-x"))
    return parsed


def test_every_gpu_has_a_row_of_the_catalogue(found: dict[str, Any]) -> None:
    assert [gpu["pci_id"] for gpu in found["gpus"] if not gpu["key"]] == []
    assert found["kind"]


def test_gpus_are_as_their_row_says(found: dict[str, Any], promised: dict[str, Any]) -> None:
    told = gpu_platform.judge(found, promised)
    assert [gpu_platform.line(entry) for entry in told if entry["check"].startswith("GPU")] == []


def test_another_shape_is_refused_by_name(found: dict[str, Any], promised: dict[str, Any]) -> None:
    other = next(gpu for gpu in catalog.gpus().values() if gpu.key != found["kind"])
    wrong = {**promised["platform"], "key": other.key, "name": other.name, "pci_ids": list(other.pci_ids)}
    told = gpu_platform.judge(found, {**promised, "platform": wrong, "gpus_per_node": len(found["gpus"]) + 1})
    assert {"GPU-COUNT", "GPU-OTHER"} <= {entry["check"] for entry in told}
    assert catalog.gpus()[found["kind"]].name in next(e["found"] for e in told if e["check"] == "GPU-OTHER")


def test_detection_takes_at_most_a_second(promised: dict[str, Any]) -> None:
    start = time.monotonic()
    gpu_platform.read("/", promised)
    assert time.monotonic() - start <= 1


def test_sysfs_alone_says_what_lspci_says(found: dict[str, Any]) -> None:
    if shutil.which("lspci") is None:
        pytest.skip("no lspci: install pciutils")
    by_sysfs = {(d["bdf"], d["class"], d["pci_id"]) for d in gpu_platform.sysfs_devices("/")}
    assert {(d["bdf"], d["class"], d["pci_id"]) for d in gpu_platform.parse_lspci(said("lspci", "-Dnn"))} == by_sysfs


def test_nvidia_smi_lists_the_same_gpus(found: dict[str, Any], smi: dict[str, Any]) -> None:
    """Not all of them where a container was given some: those it lists must have been found."""
    assert smi["gpus"]
    assert smi["driver"]
    assert {gpu["bdf"] for gpu in smi["gpus"]} <= {gpu["bdf"] for gpu in found["gpus"]}


def test_nvidia_smi_and_the_catalogue_agree_on_memory(found: dict[str, Any], smi: dict[str, Any]) -> None:
    memory_gb = catalog.gpus()[found["kind"]].memory_gb
    if memory_gb is None:
        pytest.skip("the catalogue does not know this GPU's memory")
    told = said("nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits").split()
    assert all(0.9 <= int(mib) * 1.048576e-3 / memory_gb <= 1.1 for mib in told), told


def test_nvidia_smi_and_sysfs_agree_on_the_link(found: dict[str, Any], smi: dict[str, Any]) -> None:
    query = "--query-gpu=pci.bus_id,pcie.link.width.current"
    widths = {gpu["bdf"]: gpu["width"] for gpu in found["gpus"]}
    for line in said("nvidia-smi", query, "--format=csv,noheader,nounits").splitlines():
        bus_id, _, width = line.partition(", ")
        here = widths[gpu_ready.short_bdf(bus_id)]
        assert here in {0, int(width)} or found["virtual"], line


def test_nvlinks_are_all_up(found: dict[str, Any], smi: dict[str, Any]) -> None:
    links = catalog.gpus()[found["kind"]].nvlink_links
    if not links:
        pytest.skip("no NVLink known of this GPU")
    told = gpu_ready.parse_links(said("nvidia-smi", "nvlink", "--status"))
    assert {len(speeds) for speeds in told.values()} == {links}
    assert all(speed > 0 for speeds in told.values() for speed in speeds)


def test_a_cuda_context_opens_on_every_gpu(smi: dict[str, Any]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", gpu_ready.CUDA_PROGRAM], capture_output=True, text=True, timeout=120, check=False
    )
    keep("cuda_contexts.txt", done.stdout)
    opened, count, _last, code = gpu_ready.parse_contexts(done.stdout, done.returncode)
    assert code == 0, done.stdout + done.stderr
    assert count == len(opened) == len(smi["gpus"])
    assert {line["code"] for line in opened.values()} == {0}
