"""The file of NCCL on the recorded nodes. Real: the plan, the module's functions, a sysfs tree.

Accept new output: `UPDATE_GOLDEN=1 pytest tests/unit/playbooks/test_aifactory_nccl.py`, then read the diff.
"""

from __future__ import annotations

import copy
import functools
import importlib.util
import os
import random
import re
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from aifactory import catalog, paths
from aifactory.plan.nccl import nccl as plan_nccl

from tests.roles import platforms_tree as tree

GOLDEN = Path(__file__).parents[2] / "golden" / "nccl"
FABRICS = {"hgx-h100-roce": "roce", "hgx-h100-spectrum": "roce", "g6e": "tcp"}
"""Nodes on another fabric than their shape has by itself."""
PROMISES = {"hgx-h100-roce": (16, 200.0)}
"""Nodes with other cards than their shape has by itself: (ports, Gbit/s)."""
OF_THE_ISSUE = {
    "a100-sxm", "hgx-h100", "h200", "hgx-b200", "hgx-b300", "gb200-nvl72", "p4d", "p5", "p5en", "p6-b200",
    "hgx-h100-roce", "mi300x",
}  # fmt: skip
ADDRESS = "10.9.8.7"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, paths.PLAYBOOKS / "library" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


module = load("aifactory_nccl")
recorded = functools.cache(tree.load)
"""Not to be changed."""


def asked(name: str, **changes: Any) -> dict[str, Any]:
    """What the role hands to the module for this node: the plan's part of its shape."""
    platform = recorded(name)
    shape = catalog.shapes()[platform["shape"]]
    fabric = FABRICS.get(name, shape.fabric)
    cloud = "aws" if "aws" in shape.providers else "static"
    part = plan_nccl(platform["kind"], fabric, cloud).role()["nccl"]
    nics, gbit_s = PROMISES.get(
        name, ((shape.efa_cards if fabric == "efa" else shape.nics) or 0, shape.nic_gbit_s or 0.0)
    )
    return {
        "node": name, "fabric": fabric, "count": nics, "gbit_s": gbit_s, "address": ADDRESS,
        "exclude_hcas": [], **part, **changes,
    }  # fmt: skip


@functools.cache
def reading(name: str, *faults: str) -> tuple[list[Any], list[Any], list[Any]]:
    platform = tree.with_faults(recorded(name), faults)
    gpu = catalog.gpus()[platform["kind"]]
    with tempfile.TemporaryDirectory() as root:
        tree.materialize(platform, Path(root))
        hcas = module.read_hcas(f"{root}/sys", gpu.needs_nvlsm)
        return hcas, module.read_gpus(f"{root}/sys", list(gpu.pci_ids)), netdevs(platform)


def node(name: str, *faults: str) -> tuple[list[Any], list[Any], list[Any]]:
    """(HCAs, GPUs, interfaces) as the module reads them from that node's sysfs."""
    return copy.deepcopy(reading(name, *faults))


def netdevs(platform: dict[str, Any]) -> list[dict[str, Any]]:
    """The platform's interfaces; the first for management holds the node's address."""
    names = [n["netdev"] for n in platform["nics"] if n["netdev"] and n["role"] == "management"]
    return [
        {"name": n, "addresses": [ADDRESS] if n == names[0] else ["192.0.2.1"], "default_route": n == names[0]}
        for n in [x["netdev"] for x in platform["nics"] if x["netdev"]]
    ]


def compute(name: str) -> list[str]:
    return [n["hca"] for n in recorded(name)["nics"] if n["role"] == "compute"]


def checks(result: dict[str, Any]) -> list[str]:
    return [problem["check"] for problem in result["problems"]]


def hca_list(text: str) -> list[str]:
    """Names of the exact list in the file."""
    (line,) = re.findall(r"^NCCL_IB_HCA=(.*)$", text, re.MULTILINE)
    assert line.startswith("=")
    return str(line[1:]).split(",")


@pytest.mark.parametrize("name", tree.names())
def test_file_of_a_recorded_node_is_as_accepted(name: str) -> None:
    result = module.compose(asked(name), *node(name))
    assert result["problems"] == []
    golden = GOLDEN / f"{name}.conf"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(result["text"])
    assert result["text"] == golden.read_text()


def test_every_kind_of_node_of_the_issue_has_a_file() -> None:
    files = {path.stem for path in GOLDEN.glob("*.conf")}
    assert files >= OF_THE_ISSUE
    assert files == set(tree.names())


@pytest.mark.parametrize("name", tree.names())
def test_cards_are_those_that_the_recording_calls_compute(name: str) -> None:
    result = module.compose(asked(name), *node(name))
    wanted = compute(name) if asked(name)["fabric"] != "tcp" else []
    assert [card["hca"] for card in result["cards"]] == sorted(wanted, key=module.natural)
    if asked(name)["hca"] == "discover":
        assert hca_list(result["text"]) == [card["hca"] for card in result["cards"]]
    else:
        assert "NCCL_IB_HCA" not in result["text"]


@pytest.mark.parametrize("name", tree.names())
def test_library_reads_from_the_file_what_is_meant(name: str) -> None:
    """As NCCL before 2.23 and RCCL do it: no comments, the first equals sign ends the name, 1023 characters."""
    result = module.compose(asked(name), *node(name))
    read, names, before = {}, [], ""
    for line in result["text"].splitlines():
        variable, sign, value = line.partition("=")
        if sign:
            read[variable] = value[:1023]
            names.append(variable)
            assert re.fullmatch(r"# \S.{8,}", before), line
        before = line
    assert names == sorted(set(names))
    part = {s["name"]: s["value"] for s in asked(name)["settings"]}
    assert read.items() >= part.items()
    assert set(read) - set(part) <= {"NCCL_IB_HCA", "NCCL_IB_GID_INDEX", "NCCL_SOCKET_IFNAME"}
    assert not [name for name in read if re.search("ALGO|PROTO|DEBUG", name)]


HARM: list[dict[str, Any]] = [{}, {"state": "DOWN", "rate_gbit_s": 10.0}, {"width": 1}, {"rate_gbit_s": 100.0}]
"""What happens to a card; nothing left of it = it is gone."""


@pytest.mark.parametrize("name", [n for n in tree.names() if asked(n)["hca"] == "discover"])
@pytest.mark.parametrize("seed", range(20))
def test_no_list_is_written_that_is_short_doubled_or_has_a_bridge(name: str, seed: int) -> None:
    """Random faults and orders: either exactly the promised compute cards, or refused."""
    chance = random.Random(f"{name}-{seed}")
    every = [n["hca"] for n in recorded(name)["nics"] if n["hca"]]
    hit = chance.sample(every, chance.randint(0, 3))
    hcas, gpus, devices = node(name)
    for card in [card for card in hcas if card["hca"] in hit]:
        harm = chance.choice(HARM)
        card.update(harm)
        if not harm:
            hcas.remove(card)
    if chance.random() < 0.3:
        hcas.append(copy.deepcopy(chance.choice(hcas)))
    chance.shuffle(hcas)
    result = module.compose(asked(name), hcas, gpus, devices)
    harmed = set(hit) & set(compute(name))
    known = asked(name)["count"] > 0
    if harmed and known:
        assert result["problems"], hit
        assert any(hca in module.say("n", result["problems"]) for hca in harmed) or "NIC-COUNT" in checks(result)
    if not result["problems"]:
        names = hca_list(result["text"])
        assert len(names) == len(set(names))
        assert set(names) <= set(compute(name)) - {n["hca"] for n in recorded(name)["nics"] if n["vpd_sw_mng"]}
        if known:
            assert sorted(names) == sorted(compute(name))


@pytest.mark.parametrize(
    ("fault", "check", "words"),
    [
        ("nic-down mlx5_3", "NIC-DOWN", "mlx5_3: DOWN, wanted ACTIVE"),
        ("nic-rate mlx5_3 200", "NIC-RATE", "mlx5_3: 200 Gbit/s, wanted 400 Gbit/s"),
        ("nic-half-width mlx5_3", "NIC-LINK", "mlx5_3: 32 GT/s x8, wanted 32 GT/s x16"),
        ("nic-missing mlx5_3", "NIC-COUNT", "7 up at their rate, wanted 8 at 400 Gbit/s"),
    ],
)
def test_card_that_is_not_as_promised_is_named(fault: str, check: str, words: str) -> None:
    result = module.compose(asked("h200"), *node("h200", fault))
    assert check in checks(result)
    said = module.say("gpu-0", result["problems"])
    assert said.startswith("gpu-0: ")
    assert words in said
    assert "mlx5_1:" not in said  # a storage card is no suspect


def test_all_problems_are_named_at_once() -> None:
    faults = ("nic-down mlx5_3", "nic-rate mlx5_4 200", "nic-missing mlx5_5")
    hcas, gpus, _ = node("h200", *faults)
    result = module.compose(asked("h200"), hcas, gpus, [])
    assert checks(result) == ["NIC-COUNT", "NIC-DOWN", "NIC-RATE", "SOCKET-NONE"]


def test_storage_card_as_fast_as_the_others_is_told_by_its_place() -> None:
    hcas, gpus, devices = node("h200")
    storage = next(h for h in hcas if h["hca"] == "mlx5_1")
    storage.update(link_layer="InfiniBand", rate_gbit_s=400.0)
    result = module.compose(asked("h200"), hcas, gpus, devices)
    assert result["problems"] == []
    assert result["left_out"]["mlx5_1"] == "no GPU beside it"
    assert "nearest to the GPUs" in result["notes"][0]


def test_storage_card_cannot_take_the_place_of_a_slow_one() -> None:
    hcas, gpus, devices = node("h200", "nic-rate mlx5_3 200")
    storage = next(h for h in hcas if h["hca"] == "mlx5_1")
    storage.update(link_layer="InfiniBand", rate_gbit_s=400.0)
    result = module.compose(asked("h200"), hcas, gpus, devices)
    assert checks(result) == ["HCA-AMBIGUOUS"]
    assert "mend mlx5_3" in module.say("n", result["problems"])


def test_cards_that_cannot_be_told_apart_are_refused_with_the_list_and_the_exclude_list_mends_it() -> None:
    hcas, gpus, devices = node("h200")
    for card in (*hcas, *gpus):
        card["path"] = []
    next(h for h in hcas if h["hca"] == "mlx5_1").update(link_layer="InfiniBand", rate_gbit_s=400.0)
    result = module.compose(asked("h200"), hcas, gpus, devices)
    assert checks(result) == ["HCA-AMBIGUOUS"]
    said = module.say("n", result["problems"])
    assert all(f"{hca} (place unknown)" in said for hca in [*compute("h200"), "mlx5_1"])
    mended = module.compose(asked("h200", exclude_hcas=["mlx5_1"]), hcas, gpus, devices)
    assert mended["problems"] == []
    assert mended["left_out"]["mlx5_1"] == "excluded by fabric.exclude_hcas"


def test_virtual_functions_and_bridges_are_left_out() -> None:
    hcas, gpus, devices = node("hgx-b200")
    result = module.compose(asked("hgx-b200"), hcas, gpus, devices)
    assert {result["left_out"][f"mlx5_{i}"] for i in range(4)} == {"bridge to the NVLink switches"}
    hcas.append({**hcas[4], "hca": "mlx5_99", "virtual_function": True})
    assert module.compose(asked("hgx-b200"), hcas, gpus, devices)["left_out"]["mlx5_99"] == "virtual function"


def test_vpd_is_read_only_where_the_platform_has_bridges(tmp_path: Path) -> None:
    tree.materialize(recorded("hgx-b200"), tmp_path)
    assert sum(h["bridge"] for h in module.read_hcas(str(tmp_path / "sys"), True)) == 4
    assert not any(h["bridge"] for h in module.read_hcas(str(tmp_path / "sys"), False))


# RoCE


def test_gid_index_is_found_not_assumed() -> None:
    hcas, gpus, devices = node("hgx-h100-roce")
    assert module.compose(asked("hgx-h100-roce"), hcas, gpus, devices)["gid_index"] == 3
    for card in hcas:
        for gid in card["gids"]:
            gid["index"] += 2
    result = module.compose(asked("hgx-h100-roce"), hcas, gpus, devices)
    assert result["gid_index"] == 5
    assert "\nNCCL_IB_GID_INDEX=5\n" in result["text"]


def test_gid_indexes_that_differ_are_refused_with_each_card() -> None:
    hcas, gpus, devices = node("hgx-h100-roce")
    card = next(h for h in hcas if h["hca"] == compute("hgx-h100-roce")[2])
    next(g for g in card["gids"] if g["type"] == "RoCE v2" and module.is_ipv4(g["gid"]))["index"] = 7
    result = module.compose(asked("hgx-h100-roce"), hcas, gpus, devices)
    assert checks(result) == ["GID-DIFFERS"]
    assert f"{card['hca']} 7" in result["problems"][0]["found"]


def test_common_index_of_several_addresses_is_taken() -> None:
    hcas, gpus, devices = node("hgx-h100-roce")
    for number, card in enumerate(hcas):
        more = {**card["gids"][-1], "index": 1 if number % 2 else 9} if card["gids"] else None
        card["gids"] += [more] if more else []
    assert module.compose(asked("hgx-h100-roce"), hcas, gpus, devices)["gid_index"] == 3


def test_rail_without_an_address_is_named() -> None:
    hcas, gpus, devices = node("hgx-h100-roce")
    card = next(h for h in hcas if h["hca"] == compute("hgx-h100-roce")[0])
    card["gids"] = [g for g in card["gids"] if g["type"] != "RoCE v2" or g["gid"].startswith("fe80")]
    result = module.compose(asked("hgx-h100-roce"), hcas, gpus, devices)
    assert checks(result) == ["GID-NONE"]
    assert card["netdev"] in result["problems"][0]["fix"]


@pytest.mark.parametrize(
    ("gid", "is_ipv4"),
    [
        ("0000:0000:0000:0000:0000:ffff:0a0a:000b", True),
        ("0000:0000:0000:0000:0000:ffff:0000:0000", False),
        ("fe80:0000:0000:0000:966d:aeff:fe10:2001", False),
        ("0000:0000:0000:0000:0000:0000:0000:0000", False),
    ],
)
def test_mapped_address_is_told_from_others(gid: str, is_ipv4: bool) -> None:
    assert module.is_ipv4(gid) is is_ipv4


# EFA, sockets, lines


def test_efa_driver_that_reports_a_fixed_rate_is_not_compared_and_says_so() -> None:
    faults = [f"nic-rate {hca} 100" for hca in compute("p5en")]
    result = module.compose(asked("p5en"), *node("p5en", *faults))
    assert result["problems"] == []
    assert "compared with nothing" in result["notes"][0]


def test_missing_efa_card_is_refused() -> None:
    result = module.compose(asked("p5"), *node("p5", f"nic-missing {compute('p5')[5]}"))
    assert checks(result) == ["NIC-COUNT"]


@pytest.mark.parametrize(
    ("changes", "devices", "interface"),
    [
        ({"address": "10.0.0.1"}, {"eth0": ["10.0.0.1"], "eth1": []}, "eth0"),
        ({"address": "10.0.0.2"}, {"eth0": ["10.0.0.1"], "eth1": ["fd00::1", "10.0.0.2"]}, "eth1"),
        ({"address": "10.0.0.3"}, {"eth0": ["10.0.0.1"]}, None),
        ({"address": ""}, {"eth0": ["10.0.0.1"], "bond0 default": []}, "bond0"),
        ({"address": ""}, {"eth0": ["10.0.0.1"]}, None),
        ({"socket": "eth1"}, {"eth0": ["10.0.0.1"], "eth1": []}, "eth1"),
        ({"socket": "eth9"}, {"eth0": ["10.0.0.1"]}, None),
    ],
)
def test_socket_interface(changes: dict[str, Any], devices: dict[str, list[str]], interface: str | None) -> None:
    found = [
        {"name": name.split()[0], "addresses": list(addresses), "default_route": name.endswith("default")}
        for name, addresses in devices.items()
    ]
    result = module.compose(asked("g6e", **changes), [], [], found)
    if interface is None:
        assert checks(result) == ["SOCKET-NONE"]
        assert "fabric.nccl.socket" in result["problems"][0]["fix"]
    else:
        assert result["socket"] == interface
        assert f"\nNCCL_SOCKET_IFNAME=={interface}\n" in result["text"]


def test_line_that_the_library_would_misread_is_refused() -> None:
    bad = [
        {"name": "NCCL_X", "value": "1", "reason": "because NCCL_Y=2"},
        {"name": "NCCL Y", "value": "1", "reason": "a name with a space"},
        {"name": "NCCL_Z", "value": "x" * 1024, "reason": "a value too long"},
    ]
    found = [{"name": "eth0", "addresses": [ADDRESS], "default_route": True}]
    assert checks(module.compose(asked("g6e", settings=bad), [], [], found)) == ["SETTING"] * 3
    twice = [{"name": "NCCL_X", "value": v, "reason": "a variable given twice"} for v in "12"]
    assert checks(module.compose(asked("g6e", settings=twice), [], [], found)) == ["SETTING"]


def test_library_decides_where_the_file_is() -> None:
    assert module.compose(asked("mi300x"), *node("mi300x"))["path"] == "/etc/rccl.conf"
    assert module.compose(asked("h200"), *node("h200"))["path"] == "/etc/nccl.conf"
    assert module.compose(asked("mi300x"), *node("mi300x"))["environment"] == {"HSA_NO_SCRATCH_RECLAIM": "1"}


def test_interfaces_of_this_machine_are_read_without_a_tool() -> None:
    found = module.read_netdevs("/")
    assert "lo" not in {device["name"] for device in found}
    assert all(set(device) == {"name", "addresses", "default_route"} for device in found)


def test_routes_and_addresses_are_parsed(tmp_path: Path) -> None:
    route = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n"
    route += "eth0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\neth1\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\n"
    (tmp_path / "route").write_text(route)
    assert module.read_default_routes(str(tmp_path / "route")) == ["eth1"]
    (tmp_path / "six").write_text("fd000000000000000000000000000001 02 40 00 80     eth0\n")
    assert module.read_ipv6(str(tmp_path / "six")) == {"eth0": ["fd00::1"]}
    assert module.read_ipv6(str(tmp_path / "no")) == {}
