"""Faults 5, 6, 10, 11 and 12: lost, late and unseen calls. In one process where the engine has no part in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.emulator import Emulator
from tests.faults import invariants, region, whole
from tests.faults.chain import Chain
from tests.faults.ledger import Notes, fault
from tests.faults.ledger import whole as of_whole_matrix
from tests.faults.stage import Stage

ONE_PROCESS = "plugin's code in one process"
CREATES = (
    "CreateVpc", "CreateSubnet", "CreateInternetGateway", "AttachInternetGateway", "AllocateAddress",
    "CreateNatGateway", "CreateRouteTable", "CreateRoute", "AssociateRouteTable", "CreateVpcEndpoint",
    "CreateSecurityGroup", "AuthorizeSecurityGroupIngress", "AuthorizeSecurityGroupEgress", "CreateKey",
    "CreateAlias", "CreateBucket", "CreateRole", "PutRolePolicy", "CreateInstanceProfile", "AddRoleToInstanceProfile",
    "CreatePlacementGroup", "CreateLaunchTemplate", "RunInstances", "CreateFileSystem",
    "CreateDataRepositoryAssociation", "CreateLoadBalancer", "CreateTargetGroup", "RegisterTargets", "CreateListener",
)  # fmt: skip
"""Every call that makes or joins something."""
MORE = {
    "fsx__file_system": 1,
    "fsx__data_repository_association": 1,
    "elbv2__load_balancer": 1,
    "elbv2__target_group": 1,
}


def chain_of(emulator: Emulator, nodes: int = 3) -> Chain:
    return Chain(region.resources(emulator, nodes, file_system=True, door=True))


@pytest.mark.parametrize("kind", ["drop-after", pytest.param("drop-before", marks=of_whole_matrix)])
@fault(
    5, "every kind of create loses its first answer, or its first request", "one of each, no hand work", on=ONE_PROCESS
)
def test_every_create_loses_its_first(here: Emulator, notes: Notes, kind: str) -> None:
    for action in CREATES:
        here.fault(action, kind)
    chain = chain_of(here)
    chain.up()
    asked = here.requests()
    never = [action for action in CREATES if not asked[action]]
    assert not never, f"not asked at all, so not tried: {never}"
    notes(f"{len(CREATES)} kinds of call")
    whole.in_process(chain, here, 3, **MORE)


@of_whole_matrix
@pytest.mark.parametrize("action", CREATES)
@fault(5, "the answer to one kind of create is lost, twice", "one of each, no hand work", on=ONE_PROCESS)
def test_a_lost_answer(here: Emulator, action: str) -> None:
    here.fault(action, "drop-after", count=2)
    chain = chain_of(here)
    chain.up()
    whole.in_process(chain, here, 3, **MORE)


@of_whole_matrix
@pytest.mark.parametrize("action", CREATES)
@fault(6, "the request of one kind of create is lost, twice", "no duplicates, no hand work", on=ONE_PROCESS)
def test_a_lost_request(here: Emulator, action: str) -> None:
    here.fault(action, "drop-before", count=2)
    chain = chain_of(here)
    chain.up()
    whole.in_process(chain, here, 3, **MORE)


@of_whole_matrix
@pytest.mark.engine
@pytest.mark.parametrize("kind", ["hang-drop", "hang-after"])
@pytest.mark.parametrize("action", ["CreateInternetGateway", "RunInstances", "DescribeInstances", "CreateBucket"])
@fault(10, "one call is never answered", "given up within 60 s, asked again, one of each; 90 s in all")
def test_a_call_that_is_never_answered(stage: Stage, emulator: Emulator, notes: Notes, action: str, kind: str) -> None:
    emulator.fault(action, kind, seconds=600)
    stage.want(region.resources(emulator, 6))
    answer = stage.up().ok()
    assert answer.seconds <= 90
    notes(f"{answer.seconds:.0f} s in all")
    whole.settled(stage, 6, notes)


@of_whole_matrix
@pytest.mark.engine
@fault(
    11, "500 ms a call, 2 % of the connections cut before, 2 % after the call has had its effect", "ends; I1, I2, I3"
)
def test_a_bad_line(stage: Stage, emulator: Emulator, notes: Notes) -> None:
    emulator.latency(500)
    for kind in ("drop-before", "drop-after"):
        emulator.fault("*", kind, count=-1, chance=0.02)
    stage.want(region.resources(emulator, 16))
    answer = stage.up().ok()
    emulator.no_faults()
    notes(f"{answer.seconds:.0f} s, {sum(emulator.requests().values())} requests")
    whole.settled(stage, 16, notes)


UNSEEN = (
    "DescribeVpcs", "DescribeSubnets", "DescribeSecurityGroups", "DescribeRouteTables", "DescribeInternetGateways",
    "DescribeNatGateways", "DescribeAddresses", "DescribeVpcEndpoints", "DescribeLaunchTemplates",
    "DescribePlacementGroups", "DescribeInstances",
)  # fmt: skip


@pytest.mark.parametrize(
    ("reads", "seconds"), [pytest.param(2, 0, id="2 reads"), pytest.param(0, 30, id="30 s", marks=of_whole_matrix)]
)
@fault(12, "what was made is not seen by the next reads", "waits; never makes a second", on=ONE_PROCESS)
def test_new_things_are_not_seen(here: Emulator, notes: Notes, reads: int, seconds: float) -> None:
    for action in UNSEEN:
        here.invisible(action, reads=reads, seconds=seconds)
    chain = Chain(region.resources(here, 3))
    chain.up()
    here.no_faults()
    whole.in_process(chain, here, 3)


@pytest.mark.parametrize("action", [pytest.param(a, marks=of_whole_matrix) for a in UNSEEN])
@fault(12, "reads are stale: the same answer for 5 s", "waits; never makes a second, nothing flaps", on=ONE_PROCESS)
def test_stale_reads(here: Emulator, action: str) -> None:
    here.stale(action, 5)
    chain = Chain(region.resources(here, 3))
    chain.up()
    here.no_faults()
    whole.in_process(chain, here, 3)


@of_whole_matrix
@pytest.mark.parametrize("action", ["CreateSubnet", "CreateRoute", "CreateSecurityGroup", "ModifyVpcAttribute"])
@fault(12, "a call that names what was just made is told that it does not exist", "asked again", on=ONE_PROCESS)
def test_new_ids_are_not_known(here: Emulator, action: str) -> None:
    here.fault(action, "error", status=400, code="InvalidVpcID.NotFound", message="does not exist", count=2)
    chain = Chain(region.resources(here, 3))
    chain.up()
    whole.in_process(chain, here, 3)


def test_the_expected_inventory_is_that_of_an_undisturbed_run(here: Emulator, tmp_path: Path) -> None:
    """Without this, a wrong list of what is expected would be taken for a fault of the product."""
    chain = chain_of(here)
    chain.up()
    assert invariants.there(here) == invariants.expected(3, **MORE)
    chain.destroy()
    assert invariants.there(here) == {}
