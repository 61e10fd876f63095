"""The floor of bench_aws.py: the same calls with boto3 and 16 threads, no plan, no state, no care for errors.

    python -m tests.bench.aws_floor URL NODES apply|noop|destroy      (notes of `apply` in ./floor.json)

Nothing that must do this work over this API can be faster. Nodes in batches of 100 with the data volume in the
template's block devices; tags in the launch call; reads as paged lists on one tag.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

NAME = "floor"
ZONES = ("us-east-1a", "us-east-1b", "us-east-1c")
ZONE, SHAPE, CARDS, BATCH = "us-east-1c", "p6-b200.48xlarge", 8, 100
TAGS = [{"Key": "region", "Value": NAME}]
MINE = [{"Name": "tag:region", "Values": [NAME]}]
LIVE = [*MINE, {"Name": "instance-state-name", "Values": ["pending", "running"]}]
TRUST = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "ec2.amazonaws.com"}}
NOTES = Path("floor.json")


def tagged(*kinds: str) -> list[dict[str, Any]]:
    return [{"ResourceType": kind, "Tags": TAGS} for kind in kinds]


class Floor:
    def __init__(self, url: str, nodes: int) -> None:
        from botocore.config import Config
        from botocore.session import Session

        session = Session()
        session.set_credentials("bench", "bench")
        retries = {"mode": "adaptive", "total_max_attempts": 10}
        config = Config(max_pool_connections=16, retries=retries, s3={"addressing_style": "path"})
        self.client: Callable[[str], Any] = lambda service: session.create_client(
            service, region_name="us-east-1", endpoint_url=url, config=config
        )
        self.ec2, self.nodes, self.pool = self.client("ec2"), nodes, ThreadPoolExecutor(16)
        self.notes: dict[str, Any] = json.loads(NOTES.read_text()) if NOTES.exists() else {}

    def go(self, work: Callable[..., Any], **params: Any) -> Future[Any]:
        return self.pool.submit(work, **params)

    # -- apply

    def apply(self, image: str) -> None:
        beside = [self.go(self._identity), self.go(self._storage)]
        beside.append(
            self.go(
                self.ec2.create_placement_group,
                GroupName=NAME,
                Strategy="cluster",
                TagSpecifications=tagged("placement-group"),
            )
        )
        self._network()
        for each in beside:
            each.result()
        self._nodes(image)
        NOTES.write_text(json.dumps(self.notes))

    def _identity(self) -> None:
        iam, policy = (
            self.client("iam"),
            {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{NAME}/*"},
        )
        iam.create_role(RoleName=NAME, AssumeRolePolicyDocument=_policy(TRUST), Tags=TAGS)
        iam.put_role_policy(RoleName=NAME, PolicyName=NAME, PolicyDocument=_policy(policy))
        iam.create_instance_profile(InstanceProfileName=NAME, Tags=TAGS)
        iam.add_role_to_instance_profile(InstanceProfileName=NAME, RoleName=NAME)

    def _storage(self) -> None:
        kms, s3 = self.client("kms"), self.client("s3")
        key = kms.create_key(Tags=[{"TagKey": "region", "TagValue": NAME}])["KeyMetadata"]["Arn"]
        kms.enable_key_rotation(KeyId=key)
        kms.create_alias(AliasName=f"alias/{NAME}", TargetKeyId=key)
        s3.create_bucket(Bucket=NAME)
        s3.put_bucket_tagging(Bucket=NAME, Tagging={"TagSet": TAGS})
        s3.put_bucket_versioning(Bucket=NAME, VersioningConfiguration={"Status": "Enabled"})
        rule = {
            "ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key},
            "BucketKeyEnabled": True,
        }
        s3.put_bucket_encryption(Bucket=NAME, ServerSideEncryptionConfiguration={"Rules": [rule]})
        blocks = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
        s3.put_public_access_block(Bucket=NAME, PublicAccessBlockConfiguration=dict.fromkeys(blocks, True))
        deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": f"arn:aws:s3:::{NAME}/*"}
        s3.put_bucket_policy(
            Bucket=NAME, Policy=_policy({**deny, "Condition": {"Bool": {"aws:SecureTransport": "false"}}})
        )
        self.notes["key"] = key

    def _network(self) -> None:
        ec2, notes = self.ec2, self.notes
        vpc = notes["vpc"] = ec2.create_vpc(CidrBlock="10.0.0.0/16", TagSpecifications=tagged("vpc"))["Vpc"]["VpcId"]
        dns = self.go(ec2.modify_vpc_attribute, VpcId=vpc, EnableDnsHostnames={"Value": True})
        places = [*((f"10.0.{32 * i}.0/19", zone) for i, zone in enumerate(ZONES)), ("10.0.240.0/24", ZONES[0])]
        subnets = [
            self.go(
                ec2.create_subnet, VpcId=vpc, CidrBlock=cidr, AvailabilityZone=zone, TagSpecifications=tagged("subnet")
            )
            for cidr, zone in places
        ]
        tables = [self.go(ec2.create_route_table, VpcId=vpc, TagSpecifications=tagged("route-table")) for _ in range(2)]
        gateway = self.go(ec2.create_internet_gateway, TagSpecifications=tagged("internet-gateway"))
        group = self.go(
            ec2.create_security_group,
            GroupName=NAME,
            Description="EFA",
            VpcId=vpc,
            TagSpecifications=tagged("security-group"),
        )
        address = self.go(ec2.allocate_address, Domain="vpc", TagSpecifications=tagged("elastic-ip"))
        notes["subnets"] = [each.result()["Subnet"]["SubnetId"] for each in subnets]
        notes["tables"] = [each.result()["RouteTable"]["RouteTableId"] for each in tables]
        notes["gateway"] = gateway.result()["InternetGateway"]["InternetGatewayId"]
        notes["group"], notes["address"] = group.result()["GroupId"], address.result()["AllocationId"]
        last = [dns, self.go(self._rules), self.go(self._routes)]
        for place, subnet in enumerate(notes["subnets"]):
            last.append(self.go(ec2.associate_route_table, RouteTableId=notes["tables"][place != 3], SubnetId=subnet))
        for each in last:
            each.result()

    def _rules(self) -> None:
        group = self.notes["group"]
        among = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]}
        https = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
        anything = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
        self.ec2.revoke_security_group_egress(GroupId=group, IpPermissions=[anything])
        self.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[among])
        self.ec2.authorize_security_group_egress(GroupId=group, IpPermissions=[among, https])

    def _routes(self) -> None:
        ec2, notes = self.ec2, self.notes
        door, nodes = notes["tables"]
        ec2.attach_internet_gateway(InternetGatewayId=notes["gateway"], VpcId=notes["vpc"])
        asked = {
            "SubnetId": notes["subnets"][3],
            "AllocationId": notes["address"],
            "TagSpecifications": tagged("natgateway"),
        }
        notes["nat"] = ec2.create_nat_gateway(**asked)["NatGateway"]["NatGatewayId"]
        ec2.create_route(RouteTableId=door, DestinationCidrBlock="0.0.0.0/0", GatewayId=notes["gateway"])
        ec2.create_route(RouteTableId=nodes, DestinationCidrBlock="0.0.0.0/0", NatGatewayId=notes["nat"])
        endpoint = ec2.create_vpc_endpoint(
            VpcId=notes["vpc"], ServiceName="com.amazonaws.us-east-1.s3", VpcEndpointType="Gateway",
            RouteTableIds=[nodes], TagSpecifications=tagged("vpc-endpoint"),
        )  # fmt: skip
        notes["endpoint"] = endpoint["VpcEndpoint"]["VpcEndpointId"]

    def _nodes(self, image: str) -> None:
        ec2, notes = self.ec2, self.notes
        nics = [
            {"DeviceIndex": 0 if card == 0 else 1, "NetworkCardIndex": card, "InterfaceType": "efa",
             "SubnetId": notes["subnets"][2], "Groups": [notes["group"]]}
            for card in range(CARDS)
        ]  # fmt: skip
        disk = {
            "VolumeSize": 500,
            "VolumeType": "gp3",
            "Encrypted": True,
            "KmsKeyId": notes["key"],
            "DeleteOnTermination": True,
        }
        data = {
            "ImageId": image, "InstanceType": SHAPE, "IamInstanceProfile": {"Name": NAME}, "NetworkInterfaces": nics,
            "Placement": {"GroupName": NAME, "AvailabilityZone": ZONE}, "MetadataOptions": {"HttpTokens": "required"},
            "BlockDeviceMappings": [{"DeviceName": "/dev/sdf", "Ebs": disk}],
        }  # fmt: skip
        made = ec2.create_launch_template(LaunchTemplateName=NAME, LaunchTemplateData=data)["LaunchTemplate"]
        notes["template"] = made["LaunchTemplateId"]
        use = {"LaunchTemplateId": made["LaunchTemplateId"], "Version": "1"}
        sizes = [min(BATCH, self.nodes - begun) for begun in range(0, self.nodes, BATCH)]
        launches = [
            self.go(
                ec2.run_instances,
                LaunchTemplate=use,
                MinCount=size,
                MaxCount=size,
                TagSpecifications=tagged("instance", "volume"),
            )
            for size in sizes
        ]
        for each in launches:
            each.result()
        while len([i for i in self.instances() if i["State"]["Name"] == "running"]) < self.nodes:
            time.sleep(0.5)

    # -- the rest

    def instances(self) -> list[dict[str, Any]]:
        pages = self.ec2.get_paginator("describe_instances").paginate(Filters=LIVE, PaginationConfig={"PageSize": 1000})
        return [one for page in pages for reservation in page["Reservations"] for one in reservation["Instances"]]

    def noop(self) -> None:
        ec2, iam, kms, s3 = self.ec2, self.client("iam"), self.client("kms"), self.client("s3")
        lists = (
            ec2.describe_vpcs, ec2.describe_subnets, ec2.describe_route_tables, ec2.describe_internet_gateways,
            ec2.describe_nat_gateways, ec2.describe_addresses, ec2.describe_vpc_endpoints, ec2.describe_security_groups,
        )  # fmt: skip
        reads = [self.go(read, Filters=MINE) for read in lists]
        reads += [
            self.go(ec2.describe_placement_groups, GroupNames=[NAME]),
            self.go(ec2.describe_launch_template_versions, LaunchTemplateId=self.notes["template"], Versions=["1"]),
            self.go(iam.get_role, RoleName=NAME),
            self.go(iam.get_role_policy, RoleName=NAME, PolicyName=NAME),
            self.go(iam.get_instance_profile, InstanceProfileName=NAME),
            self.go(kms.describe_key, KeyId=self.notes["key"]),
            self.go(kms.get_key_rotation_status, KeyId=self.notes["key"]),
            *(self.go(read, Bucket=NAME) for read in (
                s3.get_bucket_versioning, s3.get_bucket_encryption, s3.get_public_access_block, s3.get_bucket_tagging,
                s3.get_bucket_policy,
            )),
        ]  # fmt: skip
        found = self.instances()
        for each in reads:
            each.result()
        if len(found) != self.nodes:
            raise SystemExit(f"{len(found)} nodes of {self.nodes}")

    def destroy(self) -> None:
        ec2, notes = self.ec2, self.notes
        iam, kms, s3 = self.client("iam"), self.client("kms"), self.client("s3")
        ids = [each["InstanceId"] for each in self.instances()]
        ended = [self.go(ec2.terminate_instances, InstanceIds=ids[at : at + BATCH]) for at in range(0, len(ids), BATCH)]
        for each in ended:
            each.result()
        while self.instances():
            time.sleep(0.5)
        ec2.delete_launch_template(LaunchTemplateId=notes["template"])
        ec2.delete_placement_group(GroupName=NAME)
        ec2.delete_vpc_endpoints(VpcEndpointIds=[notes["endpoint"]])
        ec2.delete_nat_gateway(NatGatewayId=notes["nat"])
        for table in ec2.describe_route_tables(RouteTableIds=notes["tables"])["RouteTables"]:
            for each in table["Associations"]:
                ec2.disassociate_route_table(AssociationId=each["RouteTableAssociationId"])
            ec2.delete_route_table(RouteTableId=table["RouteTableId"])
        ec2.release_address(AllocationId=notes["address"])
        ec2.detach_internet_gateway(InternetGatewayId=notes["gateway"], VpcId=notes["vpc"])
        ec2.delete_internet_gateway(InternetGatewayId=notes["gateway"])
        for subnet in notes["subnets"]:
            ec2.delete_subnet(SubnetId=subnet)
        ec2.delete_security_group(GroupId=notes["group"])
        ec2.delete_vpc(VpcId=notes["vpc"])
        iam.remove_role_from_instance_profile(InstanceProfileName=NAME, RoleName=NAME)
        iam.delete_instance_profile(InstanceProfileName=NAME)
        iam.delete_role_policy(RoleName=NAME, PolicyName=NAME)
        iam.delete_role(RoleName=NAME)
        kms.delete_alias(AliasName=f"alias/{NAME}")
        kms.schedule_key_deletion(KeyId=notes["key"], PendingWindowInDays=7)
        s3.delete_bucket(Bucket=NAME)


def _policy(statement: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def main(url: str, nodes: str, phase: str, image: str = "") -> None:
    floor = Floor(url, int(nodes))
    if phase == "apply":
        floor.apply(image)
    else:
        getattr(floor, phase)()


if __name__ == "__main__":
    main(*sys.argv[1:])
