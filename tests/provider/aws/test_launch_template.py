"""aws:LaunchTemplate. Real: the resource, its journal, botocore over HTTP. The cloud is the emulator."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from aifactory import catalog
from aifactory.provider.aws import boot, tags
from aifactory.provider.aws.launch_template import LaunchTemplate, LaunchTemplateInputs, Root, template_data
from aifactory.provider.aws.node_pool import NodePool
from aifactory.provider.resource import UNKNOWN, HalfMade, Refused

from tests.emulator import ACCOUNT, IMAGE, Emulator, emulator, emulator_process
from tests.provider.aws.parts import HOLDER, REGION, STRANGER, CloudBackend, CloudEngine, earlier, hasten
from tests.provider.aws.pools import HOST_KEY, POOL, TYPE, ZONE
from tests.provider.contract import Contract, first_token
from tests.provider.harness import CheckFailed, Engine

__all__ = ["emulator", "emulator_process"]
NAME = f"{REGION}-{POOL}"
KEY_ARN = f"arn:aws-eusc:kms:eusc-de-east-1:{ACCOUNT}:key/11111111-2222-3333-4444-555555555555"


class TemplateBackend(CloudBackend):
    def __init__(self, emulator: Emulator) -> None:
        super().__init__(emulator, LaunchTemplate())
        self.ec2 = emulator.boto("ec2")

    def values(self, **more: Any) -> dict[str, Any]:
        return {
            **self.common(),
            "name": NAME,
            "image": IMAGE,
            "instance_type": TYPE,
            "efa_cards": 8,
            "subnet_id": "subnet-00000000",
            "security_groups": ["sg-00000000"],
            "instance_profile": f"aifactory-{REGION}-node",
            "key_arn": KEY_ARN,
            "root_volume_gib": 200,
            "data_volume_gib": 500,
            "placement_group": NAME,
            "zone": ZONE,
            "user": "ops",
            "authorized_key": HOST_KEY,
            **more,
        }

    def changed(self) -> dict[str, Any]:
        return self.values(root_volume_gib=300)

    def parts(self) -> dict[str, str]:
        found = self.ec2.describe_launch_templates()["LaunchTemplates"]
        return {one["LaunchTemplateName"]: one["LaunchTemplateId"] for one in found}

    def kill_part(self) -> str | None:
        for name, id_ in self.parts().items():
            self.ec2.delete_launch_template(LaunchTemplateId=id_)
            return name
        return None

    def versions(self) -> list[dict[str, Any]]:
        answer = self.ec2.describe_launch_template_versions(LaunchTemplateName=NAME)
        return sorted(answer["LaunchTemplateVersions"], key=lambda one: one["VersionNumber"])

    def data(self) -> dict[str, Any]:
        return dict(self.versions()[-1]["LaunchTemplateData"])

    def slow(self) -> None:
        self.stick("DescribeLaunchTemplateVersions", contains="Latest")


class TestContract(Contract):
    @pytest.fixture
    def backend(self, emulator: Emulator) -> CloudBackend:
        return TemplateBackend(emulator)


@pytest.fixture
def backend(emulator: Emulator) -> TemplateBackend:
    return TemplateBackend(emulator)


@pytest.fixture
def engine(backend: TemplateBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CloudEngine:
    monkeypatch.setenv("AIFACTORY_HOME", str(tmp_path))
    hasten(monkeypatch)
    return CloudEngine(backend)


# -- what is in it


def test_template_asks_for_encrypted_volumes_and_the_newer_metadata_service(
    backend: TemplateBackend, engine: CloudEngine
) -> None:
    made = engine.up(backend.values())
    data = backend.data()
    disks = {one["DeviceName"]: one["Ebs"] for one in data["BlockDeviceMappings"]}
    assert set(disks) == {"/dev/sda1", "/dev/sdf"}
    for disk in disks.values():
        assert (disk["Encrypted"], disk["KmsKeyId"], disk["VolumeType"]) == (True, KEY_ARN, "gp3")
        assert disk["DeleteOnTermination"] is True, "a volume that outlives its node is an orphan"
    assert (disks["/dev/sda1"]["VolumeSize"], disks["/dev/sdf"]["VolumeSize"]) == (200, 500)
    assert data["MetadataOptions"]["HttpTokens"] == "required"
    assert data["MetadataOptions"]["HttpPutResponseHopLimit"] == 1
    assert data["IamInstanceProfile"] == {"Name": f"aifactory-{REGION}-node"}
    assert data["Placement"] == {"AvailabilityZone": ZONE, "GroupName": NAME}
    text = base64.b64decode(data["UserData"]).decode()
    assert boot.sha256(text) == made.outputs.user_data_sha256
    assert yaml.safe_load(text)["users"][0]["ssh_authorized_keys"] == [HOST_KEY]
    marks = tags.read(backend.ec2.describe_launch_templates()["LaunchTemplates"][0]["Tags"])
    assert marks[tags.TOKEN] == first_token(LaunchTemplate())


def test_root_volume_is_as_large_as_the_image_where_nothing_is_asked(
    backend: TemplateBackend, engine: CloudEngine
) -> None:
    engine.up(backend.values(root_volume_gib=None, data_volume_gib=None, key_arn=""))
    (disk,) = backend.data()["BlockDeviceMappings"]
    assert disk["Ebs"]["VolumeSize"] >= 1
    assert "KmsKeyId" not in disk["Ebs"]
    assert b"mkfs" not in base64.b64decode(backend.data()["UserData"])


def data_of(**more: Any) -> dict[str, Any]:
    engine = Engine(LaunchTemplate())
    values = TemplateBackend.values(_Nowhere(), **more)  # type: ignore[arg-type]
    return template_data(engine.inputs(values), Root("/dev/xvda", 8), "#cloud-config\n")


class _Nowhere:
    def common(self) -> dict[str, Any]:
        return {"region": REGION, "cloud": {"key": "aws-eusc", "region": "eusc-de-east-1", "account": ACCOUNT}}


def test_every_card_has_an_efa_interface_and_the_first_is_the_nodes_own() -> None:
    rows = data_of()["NetworkInterfaces"]
    assert [(row["NetworkCardIndex"], row["DeviceIndex"], row["InterfaceType"]) for row in rows] == [
        (0, 0, "efa"), *[(card, 1, "efa") for card in range(1, 8)],
    ]  # fmt: skip
    assert all(row["Groups"] == ["sg-00000000"] and row["DeleteOnTermination"] for row in rows)


def test_node_without_efa_has_one_plain_interface() -> None:
    (row,) = data_of(instance_type="m7i.large", efa_cards=0)["NetworkInterfaces"]
    assert row["InterfaceType"] == "interface"


def test_first_card_that_takes_no_efa_is_for_ip_alone() -> None:
    shape = catalog.shapes()["p6-b300.48xlarge"]
    assert (shape.nics, shape.efa_cards) == (17, 16)
    rows = data_of(instance_type="p6-b300.48xlarge", efa_cards=16)["NetworkInterfaces"]
    kinds = [(row["NetworkCardIndex"], row["DeviceIndex"], row["InterfaceType"]) for row in rows]
    assert kinds == [(0, 0, "interface"), *[(card, 0, "efa-only") for card in range(1, 17)]]


@pytest.mark.parametrize("kind", ["on_demand", "reservation", "capacity_block", "spot"])
def test_contents_are_those_of_the_service_model(kind: str) -> None:
    import botocore.session
    from botocore.validate import ParamValidator

    capacity = {"capacity_kind": kind, "capacity_id": "" if kind in ("on_demand", "spot") else "cr-0123456789abcdef0"}
    shape = botocore.session.get_session().get_service_model("ec2").operation_model("CreateLaunchTemplate").input_shape
    call = {"LaunchTemplateName": NAME, "LaunchTemplateData": data_of(**capacity)}
    report = ParamValidator().validate(call, shape)
    assert not report.has_errors(), report.generate_report()


def test_pool_stands_on_the_template(backend: TemplateBackend, engine: CloudEngine) -> None:
    """Cards, volumes, zone and metadata options of a node are the template's."""
    vpc = backend.ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    made = backend.ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24", AvailabilityZone=ZONE)
    subnet = made["Subnet"]["SubnetId"]
    group = backend.ec2.create_security_group(GroupName="g", Description="g", VpcId=vpc)["GroupId"]
    more = {"subnet_id": subnet, "security_groups": [group], "placement_group": "", "instance_profile": ""}
    outs = engine.up(backend.values(**more)).outputs
    pool = {
        **backend.common(), "pool": POOL, "shape": TYPE, "user": "ops", "template_id": outs.template_id,
        "template_version": outs.template_version, "subnet_id": subnet, "zone": ZONE, "host_keys": "none",
        "nodes": [{"name": f"{NAME}-000", "rank": 0, "gpus": 8}],
    }  # fmt: skip
    (host,) = Engine(NodePool()).up(pool).outputs.hosts
    (node,) = backend.ec2.describe_instances(InstanceIds=[host.id])["Reservations"][0]["Instances"]
    cards = {(one["Attachment"]["NetworkCardIndex"], one["InterfaceType"]) for one in node["NetworkInterfaces"]}
    assert cards == {(card, "efa") for card in range(8)}
    assert {one["DeviceName"] for one in node["BlockDeviceMappings"]} == {"/dev/sda1", "/dev/sdf"}
    assert node["MetadataOptions"]["HttpTokens"] == "required"
    assert host.zone == ZONE


# -- versions


def test_unchanged_costs_one_read(backend: TemplateBackend, engine: CloudEngine) -> None:
    engine.up(backend.values())
    assert engine.unchanged_calls(backend.values()) == {"DescribeLaunchTemplateVersions": 1}


def test_change_makes_a_version_and_leaves_the_old_one_alone(backend: TemplateBackend, engine: CloudEngine) -> None:
    first = engine.up(backend.values()).outputs
    before = backend.versions()
    second = engine.up(backend.changed()).outputs
    assert (first.template_version, second.template_version) == (1, 2)
    assert second.template_id == first.template_id
    assert backend.versions()[:1] == before
    assert backend.data()["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] == 300


def test_version_that_is_gone_is_seen_and_made_again(backend: TemplateBackend, engine: CloudEngine) -> None:
    state = engine.up(backend.values())
    # The emulator cannot remove a version: the state names one that is not there.
    engine.state = replace(state, outputs=replace(state.outputs, template_version=7))
    assert engine.drift(backend.values()) == ("template_version",)
    assert engine.up(backend.values()).outputs.template_version == 1


def test_template_that_is_gone_is_made_again_with_a_new_id(backend: TemplateBackend, engine: CloudEngine) -> None:
    first = engine.up(backend.values()).outputs
    backend.kill_part()
    assert engine.up(backend.values()).outputs.template_id != first.template_id


def test_newer_toolkit_that_tells_nodes_something_else_makes_a_version(
    backend: TemplateBackend, engine: CloudEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.up(backend.values())
    old = boot.user_data
    monkeypatch.setattr(boot, "user_data", lambda told: f"{old(told)}# more\n")
    diff, planned = engine.preview(backend.values())
    assert diff is not None
    assert diff.output_updates == ("user_data_sha256",)
    assert planned.template_version is UNKNOWN
    assert engine.up(backend.values()).outputs.template_version == 2


@pytest.mark.parametrize("action", ["CreateLaunchTemplate", "CreateLaunchTemplateVersion"])
@pytest.mark.parametrize("kind", ["drop-after", "drop-before", "error"])
def test_lost_answers_make_nothing_twice(backend: TemplateBackend, engine: CloudEngine, action: str, kind: str) -> None:
    backend.emulator.fault(action, kind)
    engine.up(backend.values())
    engine.up(backend.changed())
    assert list(backend.parts()) == [NAME]
    assert [one["VersionNumber"] for one in backend.versions()] == [1, 2]


def test_killed_between_version_and_state_makes_no_third(backend: TemplateBackend, engine: CloudEngine) -> None:
    state = engine.up(backend.values())
    engine.up(backend.changed())
    engine.state = state  # what a killed update leaves
    assert engine.up(backend.changed()).outputs.template_version == 2
    assert len(backend.versions()) == 2


# -- whose it is


def test_template_of_somebody_else_is_left_alone_and_the_holder_named(
    backend: TemplateBackend, engine: CloudEngine
) -> None:
    backend.ec2.create_launch_template(
        LaunchTemplateName=NAME,
        LaunchTemplateData={"InstanceType": "m7i.large"},
        TagSpecifications=tags.specification("launch-template", STRANGER),
    )
    with pytest.raises(Refused, match=f"launch template {NAME} exists already and belongs to {HOLDER}"):
        engine.up(backend.values())
    assert len(backend.versions()) == 1
    assert engine.state is None


def test_template_of_a_lost_state_is_adopted(backend: TemplateBackend, engine: CloudEngine) -> None:
    backend.ec2.create_launch_template(
        LaunchTemplateName=NAME,
        LaunchTemplateData={"InstanceType": "m7i.large"},
        TagSpecifications=tags.specification("launch-template", earlier(LaunchTemplate())),
    )
    before = backend.parts()
    outs = engine.up(backend.values()).outputs
    assert backend.parts() == before
    assert outs.template_version == 2
    engine.destroy()
    assert backend.parts() == {}


def test_image_that_is_not_there_is_named_and_nothing_is_made(backend: TemplateBackend, engine: CloudEngine) -> None:
    with pytest.raises(Refused, match=r"image ami-00000000000000000 is not in eusc-de-east-1"):
        engine.up(backend.values(image="ami-00000000000000000"))
    assert backend.parts() == {}


def test_root_volume_smaller_than_the_image_is_refused(backend: TemplateBackend, engine: CloudEngine) -> None:
    with pytest.raises(Refused, match=rf"root_volume_gib: 1; image {IMAGE} needs"):
        engine.up(backend.values(root_volume_gib=1))


def test_half_made_template_is_gone_on_with(backend: TemplateBackend, engine: CloudEngine) -> None:
    backend.emulator.fault(
        "DescribeLaunchTemplateVersions", code="UnauthorizedOperation", status=403, message="no", count=1
    )
    with pytest.raises(HalfMade, match="UnauthorizedOperation"):
        engine.up(backend.values())
    assert engine.up(backend.values()).outputs.template_version == 1


def test_preview_knows_what_nodes_are_told(backend: TemplateBackend, engine: CloudEngine) -> None:
    _, planned = engine.preview(backend.values())
    assert planned.template_version is UNKNOWN
    assert planned.user_data_sha256 == engine.up(backend.values()).outputs.user_data_sha256
    later = {**backend.values(), "authorized_key": UNKNOWN}
    assert engine.resource.preview(engine.context(), engine.check(later, preview=True), None).nonce is UNKNOWN


def test_wrong_inputs_are_named_all_at_once(backend: TemplateBackend, engine: CloudEngine) -> None:
    wrong = {
        "name": "A b", "image": "ubuntu-24.04", "user": "0ps", "authorized_key": "ssh-ed25519 A\nB",
        "root_volume_gib": 0, "efa_cards": 9, "capacity_kind": "reservation",
    }  # fmt: skip
    with pytest.raises(CheckFailed) as stop:
        engine.check(backend.values(**wrong))
    assert {failure.property for failure in stop.value.failures} == (set(wrong) - {"capacity_kind"}) | {"capacity_id"}
    assert "ami-" in str(stop.value)


def test_inputs_have_every_field_that_they_are_documented_with() -> None:
    assert all(field.metadata["doc"] for field in LaunchTemplateInputs.__dataclass_fields__.values())
