"""docs/platforms.md is what the catalogue says. UPDATE_GOLDEN=1 writes it anew."""

from __future__ import annotations

import os
from collections.abc import Sequence

from aifactory import catalog
from aifactory.catalog import Gpu
from aifactory.paths import REPO

PAGE = REPO / "docs" / "platforms.md"
HEAD = """\
# GPU platforms

Written from the catalogue (`stacks/aifactory/catalog/data/gpus.toml`, where each value has its source) by
`UPDATE_GOLDEN=1 .venv/bin/python -m pytest tests/unit/catalog/test_platform_page.py`. A dash is a value that no source
states: it is compared with nothing. What the layers do with a row: [hosts.md](hosts.md).

"""
COLUMNS = (
    "key", "PCI ids", "architecture", "memory GB", "NVLink or xGMI", "PCIe", "driver from", "kernel modules",
    "services on the node",
)  # fmt: skip


def row(gpu: Gpu) -> str:
    links = "none" if gpu.nvlink_gb_s == 0 or gpu.nvlink_links == 0 else "–"
    if gpu.nvlink_links:
        each = f" × {gpu.nvlink_link_gb_s:g} GB/s" if gpu.nvlink_link_gb_s else ""
        links = f"{gpu.nvlink_links}{each}"
    pcie = f"{gpu.pcie_gt_s:g} GT/s x{gpu.pcie_width or '–'}" if gpu.pcie_gt_s else "–"
    modules = "open only" if gpu.open_modules_required else "open or proprietary"
    services = [
        name
        for name, needed in (
            ("Fabric Manager", gpu.needs_fabric_manager), ("NVLSM", gpu.needs_nvlsm), ("IMEX", gpu.needs_imex),
        )
        if needed
    ]  # fmt: skip
    cells = (
        gpu.key, ", ".join(gpu.pci_ids), gpu.architecture, gpu.memory_gb or "–", links, pcie,
        gpu.minimum_driver or gpu.first_driver or "–", modules if gpu.vendor == "nvidia" else "amdgpu",
        ", ".join(services) or "none",
    )  # fmt: skip
    return line(cells)


def line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |\n"


def test_page_is_what_the_catalogue_says() -> None:
    text = HEAD + line(COLUMNS) + "|---" * len(COLUMNS) + "|\n" + "".join(row(gpu) for gpu in catalog.gpus().values())
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(text, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == text
