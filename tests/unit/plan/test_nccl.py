"""NCCL and RCCL by fabric, GPU and cloud. Real: the catalogue's rows, the plan."""

from __future__ import annotations

import ast
import dataclasses
import itertools
import types
from pathlib import Path

import pytest
from aifactory import catalog
from aifactory.catalog import Nccl
from aifactory.plan import nccl as module
from aifactory.plan.nccl import NcclPlan, nccl

FABRICS = ("infiniband", "roce", "efa", "tcp")
EVERY = list(itertools.product(catalog.gpus(), FABRICS, ("static", "aws")))
BANNED = ("NCCL_ALGO", "NCCL_PROTO", "NCCL_DEBUG", "NCCL_DEBUG_SUBSYS", "NCCL_DEBUG_FILE")


def values(plan: NcclPlan) -> dict[str, str]:
    return {setting.name: setting.value for setting in plan.settings}


@pytest.mark.parametrize(("gpu", "fabric", "cloud"), EVERY)
def test_transport_is_pinned_whatever_the_node(gpu: str, fabric: str, cloud: str) -> None:
    net = {"infiniband": "IB", "roce": "IB", "efa": "AWS Libfabric", "tcp": "Socket"}[fabric]
    plan = nccl(gpu, fabric, cloud)
    if fabric == "efa" and plan.library == "rccl":
        assert "NCCL_NET" not in values(plan)  # no source pins it there, and no shape has it
        return
    assert values(plan)["NCCL_NET"] == net
    if fabric != "efa":
        assert values(plan)["NCCL_NET_PLUGIN"] == "none"
    assert values(plan).get("NCCL_IB_DISABLE") == ("1" if fabric == "tcp" else None)


@pytest.mark.parametrize(("gpu", "fabric", "cloud"), EVERY)
def test_every_line_has_a_reason_that_the_library_cannot_take_for_a_setting(gpu: str, fabric: str, cloud: str) -> None:
    plan = nccl(gpu, fabric, cloud)
    names = [setting.name for setting in plan.settings]
    assert names == sorted(set(names))
    assert not set(BANNED) & set(names)
    for setting in (*plan.settings, *plan.environment):
        assert len(setting.reason) > 10
        assert "=" not in setting.reason
        assert "\n" not in setting.reason
        assert 0 < len(setting.value) <= module.VALUE_MAX
    assert all(s.name.startswith(module.FILE_PREFIXES) for s in plan.settings)
    assert "=" not in plan.topology


def test_no_shape_of_the_catalogue_is_left_without_a_pinned_transport() -> None:
    for shape in catalog.shapes().values():
        if shape.gpu and shape.fabric != "none":
            plan = nccl(shape.gpu, shape.fabric, "aws" if "aws" in shape.providers else "static")
            assert "NCCL_NET" in values(plan), shape.key


@pytest.mark.parametrize("gpu", ["gb200-nvl72", "gb300-nvl72"])
@pytest.mark.parametrize("fabric", FABRICS)
def test_mnnvl_is_explicit_on_nvl72_and_nowhere_else(gpu: str, fabric: str) -> None:
    assert values(nccl(gpu, fabric, "aws"))["NCCL_MNNVL_ENABLE"] == "1"
    assert "NCCL_MNNVL_ENABLE" not in values(nccl("h100-sxm", fabric, "aws"))


def test_rows_for_one_place_stay_there() -> None:
    assert "NCCL_CUMEM_ENABLE" in values(nccl("gb200-nvl72", "infiniband", "static"))
    assert "NCCL_CUMEM_ENABLE" not in values(nccl("gb200-nvl72", "infiniband", "aws"))


def test_variable_of_the_runtime_goes_to_the_environment_not_into_the_file() -> None:
    plan = nccl("mi300x", "roce", "static")
    assert plan.library == "rccl"
    assert [s.name for s in plan.environment] == ["HSA_NO_SCRATCH_RECLAIM"]
    assert "HSA_NO_SCRATCH_RECLAIM" not in values(plan)


@pytest.mark.parametrize("gpu", ["h100-sxm", "mi300x"])
def test_roce_class_of_library_and_cards_is_one_number(gpu: str) -> None:
    plan = nccl(gpu, "roce", "static")
    assert plan.roce is not None
    assert int(values(plan)["NCCL_IB_TC"]) >> 2 == plan.roce.dscp
    assert plan.roce.priority == plan.roce.dscp // 8 == 3
    assert {name for name, _ in plan.roce.reasons} == {
        f.name for f in dataclasses.fields(plan.roce) if f.name != "reasons"
    }
    assert plan.role()["roce"]["dscp"] == plan.roce.dscp
    assert nccl(gpu, "infiniband", "static").roce is None
    assert "NCCL_IB_TC" not in values(nccl(gpu, "infiniband", "static"))


def test_site_with_classes_of_its_own_takes_the_catalogues_place_value_by_value() -> None:
    plain = nccl("h100-sxm", "roce", "static").roce
    plan = nccl("h100-sxm", "roce", "static", {"dscp": 10})
    assert plain is not None
    assert plan.roce is not None
    assert (plan.roce.dscp, plan.roce.priority, plan.roce.traffic_class) == (10, 1, 40)
    assert (plan.roce.cnp_dscp, plan.roce.rp_filter) == (plain.cnp_dscp, plain.rp_filter)
    assert values(plan)["NCCL_IB_TC"] == "40"
    whole = nccl("h100-sxm", "roce", "static", {"dscp": 10, "priority": 5, "traffic_class": 41})
    assert values(whole)["NCCL_IB_TC"] == "41"
    assert "DSCP 10, which the cards and the switches put into priority 5" in {s.reason for s in whole.settings}
    assert dict(whole.roce.reasons)["priority"] == "as the region file has it" if whole.roce else False
    assert nccl("h100-sxm", "infiniband", "static", {"dscp": 10}) == nccl("h100-sxm", "infiniband", "static")


@pytest.mark.parametrize(
    ("gpu", "fabric", "hca", "socket"),
    [
        ("h100-sxm", "infiniband", "discover", "discover"),
        ("h100-sxm", "roce", "discover", "discover"),
        ("h100-sxm", "efa", "none", "discover"),
        ("l4", "tcp", "none", "discover"),
        ("h100-sxm", "none", "none", "none"),
        (None, "roce", "none", "none"),
    ],
)
def test_what_the_node_is_asked_for(gpu: str | None, fabric: str, hca: str, socket: str) -> None:
    plan = nccl(gpu, fabric, "static")
    assert (plan.hca, plan.socket) == (hca, socket)
    assert bool(plan.role()) == (socket != "none")


def test_role_dict_is_plain_data() -> None:
    role = nccl("gb200-nvl72", "infiniband", "static").role()
    assert role["nccl"]["settings"][0].keys() == {"name", "value", "reason"}
    assert role["nccl"]["hca"] == "discover"


def row(**changes: object) -> Nccl:
    base = next(iter(catalog.nccl().values()))
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "rows",
    [
        {"a": row(), "b": row(key="b", settings={"NCCL_NET": "Socket"}, reasons={"NCCL_NET": "another"})},
        {"a": row(settings={"NCCL_NET": "IB"}, reasons={})},
        {"a": row(settings={"NCCL_NET": "IB"}, reasons={"NCCL_NET": "NCCL_NET=IB is best"})},
        {"a": row(settings={"NCCL_NET": "x" * 1024}, reasons={"NCCL_NET": "too long for the library"})},
    ],
)
def test_rows_that_contradict_or_cannot_be_written_are_an_error(
    rows: dict[str, Nccl], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "nccl", lambda: types.MappingProxyType(rows))
    with pytest.raises(ValueError, match=r"nccl\."):
        nccl("h100-sxm", "infiniband", "static")


def test_plan_imports_neither_pulumi_nor_ansible() -> None:
    tree = ast.parse(Path(module.__file__).read_text())
    names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert not any(name.split(".")[0] in {"pulumi", "ansible", "playbooks"} for name in names)
