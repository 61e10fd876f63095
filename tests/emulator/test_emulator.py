"""The emulator does what the tests of the product rely on. What moto does by itself is not tested again."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError, HTTPClientError

from tests.emulator import IMAGE, Emulator, emulator, emulator_process

__all__ = ["emulator", "emulator_process"]
ZONE = "eusc-de-east-1a"
TYPE = "p6-b200.48xlarge"


class Place:
    """A network and a template with two cards."""

    def __init__(self, emulator: Emulator) -> None:
        self.ec2 = ec2 = emulator.boto("ec2")
        self.vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=self.vpc, CidrBlock="10.0.0.0/20", AvailabilityZone=ZONE)
        self.subnet = subnet["Subnet"]["SubnetId"]
        self.group = ec2.create_security_group(GroupName="g", Description="d", VpcId=self.vpc)["GroupId"]
        ec2.create_placement_group(GroupName="close", Strategy="cluster")
        nics = [
            {"DeviceIndex": bool(card) + 0, "NetworkCardIndex": card, "InterfaceType": kind, "SubnetId": self.subnet,
             "Groups": [self.group]}
            for card, kind in enumerate(["efa", "efa-only"])
        ]  # fmt: skip
        self.data = {
            "ImageId": IMAGE, "InstanceType": TYPE, "NetworkInterfaces": nics, "Placement": {"GroupName": "close"},
            "MetadataOptions": {"HttpTokens": "required"},
            "BlockDeviceMappings": [{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 9, "DeleteOnTermination": True}}],
        }  # fmt: skip
        made = ec2.create_launch_template(LaunchTemplateName="t", LaunchTemplateData=self.data)
        self.template = {"LaunchTemplateId": made["LaunchTemplate"]["LaunchTemplateId"], "Version": "1"}

    def run(self, least: int, most: int | None = None, **more: Any) -> list[dict[str, Any]]:
        answer = self.ec2.run_instances(LaunchTemplate=self.template, MinCount=least, MaxCount=most or least, **more)
        return list(answer["Instances"])

    def count(self) -> int:
        found = self.ec2.describe_instances(Filters=[{"Name": "instance-state-name", "Values": ["pending", "running"]}])
        return sum(len(each["Instances"]) for each in found["Reservations"])


@pytest.fixture
def place(emulator: Emulator) -> Place:
    return Place(emulator)


def code_of(call: Any, **params: Any) -> str:
    with pytest.raises(ClientError) as refused:
        call(**params)
    return str(refused.value.response["Error"]["Code"])


def test_a_launch_follows_its_template(place: Place) -> None:
    place.run(2)
    instance = place.ec2.describe_instances()["Reservations"][0]["Instances"][1]

    cards = [
        (nic["Attachment"]["DeviceIndex"], nic["Attachment"]["NetworkCardIndex"], nic["InterfaceType"])
        for nic in instance["NetworkInterfaces"]
    ]
    assert cards == [(0, 0, "efa"), (1, 1, "efa-only")]
    assert instance["AmiLaunchIndex"] == 1
    assert instance["Placement"]["GroupName"] == "close"
    assert instance["Placement"]["AvailabilityZone"] == ZONE
    assert instance["MetadataOptions"]["HttpTokens"] == "required"
    assert sorted(disk["DeviceName"] for disk in instance["BlockDeviceMappings"]) == ["/dev/sda1", "/dev/sdf"]


def test_a_launch_is_whole_or_nothing(emulator: Emulator, place: Place) -> None:
    emulator.capacity(f"{ZONE}/{TYPE}", 3)

    assert code_of(place.run, least=4) == "InsufficientInstanceCapacity"
    assert place.count() == 0
    assert len(place.run(1, 8)) == 3
    assert code_of(place.run, least=1) == "InsufficientInstanceCapacity"


def test_a_client_token_makes_one_thing(place: Place) -> None:
    first = place.run(2, ClientToken="once")
    assert [i["InstanceId"] for i in place.run(2, ClientToken="once")] == [i["InstanceId"] for i in first]
    assert place.count() == 2
    assert code_of(place.run, least=3, ClientToken="once") == "IdempotentParameterMismatch"
    place.ec2.terminate_instances(InstanceIds=[first[0]["InstanceId"]])
    assert code_of(place.run, least=2, ClientToken="once") == "IdempotentInstanceTerminated"


def test_what_is_in_use_stays(place: Place) -> None:
    instances = [instance["InstanceId"] for instance in place.run(1)]
    assert code_of(place.ec2.delete_security_group, GroupId=place.group) == "DependencyViolation"
    assert code_of(place.ec2.delete_subnet, SubnetId=place.subnet) == "DependencyViolation"
    assert code_of(place.ec2.delete_placement_group, GroupName="close") == "InvalidPlacementGroup.InUse"
    place.ec2.terminate_instances(InstanceIds=instances)
    place.ec2.delete_placement_group(GroupName="close")
    door = place.ec2.create_security_group(GroupName="door", Description="d", VpcId=place.vpc)["GroupId"]
    open_to = [{"IpProtocol": "tcp", "FromPort": 1, "ToPort": 1, "UserIdGroupPairs": [{"GroupId": place.group}]}]
    place.ec2.authorize_security_group_ingress(GroupId=door, IpPermissions=open_to)
    assert code_of(place.ec2.delete_security_group, GroupId=place.group) == "DependencyViolation"
    place.ec2.delete_security_group(GroupId=door)
    place.ec2.delete_security_group(GroupId=place.group)
    place.ec2.delete_subnet(SubnetId=place.subnet)


def test_a_gateway_goes_before_what_it_needs(place: Place) -> None:
    ec2 = place.ec2
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=place.vpc)
    address = ec2.allocate_address(Domain="vpc")["AllocationId"]
    nat = ec2.create_nat_gateway(SubnetId=place.subnet, AllocationId=address)["NatGateway"]["NatGatewayId"]
    held = {"InternetGatewayId": gateway, "VpcId": place.vpc}
    assert code_of(ec2.detach_internet_gateway, **held) == "DependencyViolation"
    assert code_of(ec2.release_address, AllocationId=address) == "InvalidIPAddress.InUse"
    assert code_of(ec2.delete_subnet, SubnetId=place.subnet) == "DependencyViolation"
    ec2.delete_nat_gateway(NatGatewayId=nat)
    ec2.release_address(AllocationId=address)
    ec2.detach_internet_gateway(**held)
    ec2.delete_subnet(SubnetId=place.subnet)


def test_a_balancer_keeps_its_subnet(emulator: Emulator, place: Place) -> None:
    balancer = emulator.boto("elbv2").create_load_balancer(Name="door", Type="network", Subnets=[place.subnet])
    assert code_of(place.ec2.delete_subnet, SubnetId=place.subnet) == "DependencyViolation"
    emulator.boto("elbv2").delete_load_balancer(LoadBalancerArn=balancer["LoadBalancers"][0]["LoadBalancerArn"])
    place.ec2.delete_subnet(SubnetId=place.subnet)


def test_a_lost_reply_has_had_its_effect_and_a_lost_request_none(emulator: Emulator) -> None:
    ec2 = emulator.boto("ec2")
    emulator.fault("CreateVpc", "drop-after")
    with pytest.raises(HTTPClientError):
        ec2.create_vpc(CidrBlock="10.1.0.0/16")
    assert len(emulator.inventory()["ec2:vpc"]) == 1
    emulator.fault("CreateVpc", "drop-before")
    with pytest.raises(HTTPClientError):
        ec2.create_vpc(CidrBlock="10.2.0.0/16")
    assert len(emulator.inventory()["ec2:vpc"]) == 1
    assert emulator.requests()["CreateVpc"] == 2


def test_errors_come_as_each_service_words_them(emulator: Emulator) -> None:
    emulator.fault("*", "error", count=4, status=400, code="ExpiredToken", message="too old", skip=1)
    assert emulator.boto("sts").get_caller_identity()["Account"] == "123456789012"
    assert code_of(emulator.boto("ec2").describe_vpcs) == "ExpiredToken"
    assert code_of(emulator.boto("iam").get_role, RoleName="r") == "ExpiredToken"
    assert code_of(emulator.boto("kms").list_keys) == "ExpiredToken"
    assert code_of(emulator.boto("s3").get_bucket_versioning, Bucket="b") == "ExpiredToken"
    assert emulator.requests()["GetBucketVersioning"] == 1


def test_new_things_are_unseen_for_some_reads(emulator: Emulator, place: Place) -> None:
    emulator.invisible("DescribeSubnets", reads=2)
    made = place.ec2.create_subnet(VpcId=place.vpc, CidrBlock="10.0.64.0/20")["Subnet"]["SubnetId"]
    here = [{"Name": "vpc-id", "Values": [place.vpc]}]
    seen = [[subnet["SubnetId"] for subnet in place.ec2.describe_subnets(Filters=here)["Subnets"]] for _ in range(3)]
    assert seen == [[place.subnet], [place.subnet], [place.subnet, made]]

    other = place.ec2.create_subnet(VpcId=place.vpc, CidrBlock="10.0.80.0/20")["Subnet"]["SubnetId"]
    assert code_of(place.ec2.describe_subnets, SubnetIds=[other]) == "InvalidSubnetID.NotFound"


def test_stale_reads_end(emulator: Emulator, place: Place) -> None:
    emulator.stale("DescribeInstances", 0.4)
    assert place.count() == 0
    place.run(1)
    assert place.count() == 0
    time.sleep(0.5)
    assert place.count() == 1


def test_some_calls_are_hit_by_chance(emulator: Emulator) -> None:
    ec2 = emulator.boto("ec2")
    emulator.fault("DescribeVpcs", "error", count=-1, chance=0.3)
    hit = 0
    for _ in range(40):
        try:
            ec2.describe_vpcs()
        except ClientError:
            hit += 1
    assert 4 <= hit <= 22


def test_buckets_refuse_and_refill(emulator: Emulator) -> None:
    ec2 = emulator.boto("ec2")
    emulator.limits({"Describe*": (2, 5)})
    ec2.describe_vpcs()
    ec2.describe_vpcs()
    assert code_of(ec2.describe_vpcs) == "RequestLimitExceeded"
    assert emulator.throttled() == {"DescribeVpcs": 1}
    time.sleep(0.3)
    ec2.describe_vpcs()


@pytest.mark.parametrize(("kind", "vpcs"), [("hang", 0), ("hang-after", 1), ("hang-drop", 0)])
def test_a_hanging_call_is_let_go(emulator: Emulator, kind: str, vpcs: int) -> None:
    from threading import Thread

    emulator.fault("CreateVpc", kind, seconds=30)
    waiting = Thread(target=_create_vpc, args=[emulator])
    waiting.start()
    until = time.monotonic() + 20
    while time.monotonic() < until:
        there = len(emulator.inventory().get("ec2:vpc", []))
        if emulator.requests()["CreateVpc"] and there == vpcs:
            break
        time.sleep(0.05)
    assert there == vpcs
    assert waiting.is_alive()
    emulator.no_faults()
    waiting.join(5)
    assert not waiting.is_alive()
    assert len(emulator.inventory().get("ec2:vpc", [])) == (kind != "hang-drop")


def _create_vpc(emulator: Emulator) -> None:
    with contextlib.suppress(HTTPClientError):
        emulator.boto("ec2").create_vpc(CidrBlock="10.0.0.0/16")


def test_permissions_and_dry_runs(emulator: Emulator, place: Place) -> None:
    asked = {"LaunchTemplate": place.template, "MinCount": 1, "MaxCount": 1, "DryRun": True}
    assert code_of(place.ec2.run_instances, **asked) == "DryRunOperation"
    assert place.count() == 0
    emulator.deny(RunInstances="ec2:RunInstances", CreateRole="iam:CreateRole")
    assert code_of(place.ec2.run_instances, **asked) == "UnauthorizedOperation"
    found = emulator.boto("iam").simulate_principal_policy(
        PolicySourceArn="arn:aws-eusc:iam::123456789012:user/u", ActionNames=["iam:CreateRole", "iam:GetRole"]
    )["EvaluationResults"]
    assert [row["EvalDecision"] for row in found] == ["implicitDeny", "allowed"]


def test_launches_know_zone_type_image_and_reservation(emulator: Emulator, place: Place) -> None:
    bad = {
        "ImageId": IMAGE,
        "InstanceType": TYPE,
        "MinCount": 1,
        "MaxCount": 1,
        "Placement": {"AvailabilityZone": ZONE[:-1] + "b"},
    }
    assert code_of(place.ec2.run_instances, **bad) == "Unsupported"
    assert code_of(place.run, least=1, ImageId="ami-00000000000000000") == "InvalidAMIID.NotFound"

    emulator.reservation("cr-0123456789abcdef0", TYPE, ZONE, 2)
    use = {"CapacityReservationTarget": {"CapacityReservationId": "cr-0123456789abcdef0"}}
    assert code_of(place.run, least=3, CapacityReservationSpecification=use) == "ReservationCapacityExceeded"
    assert place.run(2, CapacityReservationSpecification=use)[0]["CapacityReservationId"] == "cr-0123456789abcdef0"
    (row,) = place.ec2.describe_capacity_reservations()["CapacityReservations"]
    assert (row["TotalInstanceCount"], row["AvailableInstanceCount"]) == (2, 0)


def test_pending_console_and_address(emulator: Emulator, place: Place) -> None:
    emulator.console("host key of {id}")
    emulator.pending(0.5)
    name = place.run(1)[0]["InstanceId"]
    emulator.instance(name, address="127.0.0.9")
    (found,) = place.ec2.describe_instances()["Reservations"][0]["Instances"]
    assert (found["State"]["Name"], found["PrivateIpAddress"]) == ("pending", "127.0.0.9")
    assert place.ec2.get_console_output(InstanceId=name)["Output"] == f"host key of {name}"
    time.sleep(0.6)
    assert place.ec2.describe_instances()["Reservations"][0]["Instances"][0]["State"]["Name"] == "running"


def test_lustre_keys_and_quotas(emulator: Emulator, place: Place) -> None:
    fsx, kms = emulator.boto("fsx"), emulator.boto("kms")
    asked = {
        "ClientRequestToken": "once", "FileSystemType": "LUSTRE", "StorageCapacity": 1200, "SubnetIds": [place.subnet],
        "LustreConfiguration": {"DeploymentType": "PERSISTENT_2", "PerUnitStorageThroughput": 125},
    }  # fmt: skip
    made = fsx.create_file_system(**asked)["FileSystem"]
    assert fsx.create_file_system(**asked)["FileSystem"]["FileSystemId"] == made["FileSystemId"]
    assert made["Lifecycle"] == "AVAILABLE"
    assert made["DNSName"].endswith(".amazonaws.eu")
    fsx.create_data_repository_association(
        FileSystemId=made["FileSystemId"], FileSystemPath="/a", DataRepositoryPath="s3://b", ClientRequestToken="t"
    )
    named = [{"Name": "file-system-id", "Values": [made["FileSystemId"]]}]
    assert len(fsx.describe_data_repository_associations(Filters=named)["Associations"]) == 1
    fsx.delete_file_system(FileSystemId=made["FileSystemId"])
    assert code_of(fsx.describe_file_systems, FileSystemIds=[made["FileSystemId"]]) == "FileSystemNotFound"

    key = kms.create_key()["KeyMetadata"]["Arn"]
    assert "Statement" in kms.get_key_policy(KeyId=key)["Policy"]
    kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
    assert set(emulator.inventory()) >= {"kms:key-ending"}

    emulator.quota("L-417A185B", 192)
    quota = emulator.boto("service-quotas").get_service_quota(ServiceCode="ec2", QuotaCode="L-417A185B")["Quota"]
    assert quota["Value"] == 192


@pytest.mark.parametrize("region", ["eusc-de-east-1", "us-east-1"])
def test_a_fresh_account_is_empty(emulator: Emulator, region: str) -> None:
    emulator.boto("ec2", region).create_vpc(CidrBlock="10.9.0.0/16")
    assert emulator.inventory()
    emulator.reset()
    assert emulator.inventory() == {}
    assert emulator.boto("ec2", region).describe_images(ImageIds=[IMAGE])["Images"][0]["Architecture"] == "x86_64"
    assert emulator.boto("sts", region).get_caller_identity()["Arn"].split(":")[1] == (
        "aws-eusc" if region.startswith("eusc") else "aws"
    )
