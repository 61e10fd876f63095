"""What the tests of aws:Network share: one with everything in an account of the emulator, and ways to damage it."""

from __future__ import annotations

from functools import cache
from typing import Any

from aifactory.provider.aws import tags
from aifactory.provider.aws.network import Network

from tests.emulator import Emulator
from tests.provider.contract import Backend
from tests.provider.harness import Engine

REGION = "t-eu"
EMPTY = {"s3:bucket": ["flow-logs"]}
"""Inventory of the account without a network."""
ZONE_A, ZONE_B = "eusc-de-east-1a", "eusc-de-east-1b"
LOGS = "arn:aws-eusc:s3:::flow-logs"


def subnet(name: str, zone: str, cidr: str, public: bool = False) -> dict[str, Any]:
    return {"name": f"{name}-{zone[-1]}", "zone": zone, "cidr": cidr, "public": public}


SUBNETS = [
    subnet("nodes", ZONE_A, "10.20.64.0/18"),
    subnet("nodes", ZONE_B, "10.20.128.0/18"),
    subnet("public", ZONE_A, "10.20.0.0/24", public=True),
    subnet("public", ZONE_B, "10.20.1.0/24", public=True),
]


@cache
def _client(emulator: Emulator, service: str) -> Any:
    """Made once: a client costs more than the calls of a test."""
    return emulator.boto(service)


class NetworkBackend(Backend):
    """Everything that a network can have."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator, self.resource = emulator, Network()
        self.ec2, self.s3 = (_client(emulator, service) for service in ("ec2", "s3"))
        self.bucket("flow-logs")

    def bucket(self, name: str) -> None:
        self.s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eusc-de-east-1"})

    def common(self) -> dict[str, Any]:
        return {"region": REGION, "cloud": self.emulator.cloud()}

    def small(self) -> dict[str, Any]:
        """One zone, with a way out."""
        return {**self.values(), "subnets": [SUBNETS[0], SUBNETS[2]], "interface_endpoints": ["ec2"]}

    def closed(self) -> dict[str, Any]:
        """One subnet and nothing else."""
        return {**self.common(), "cidr": "10.20.0.0/16", "subnets": SUBNETS[:1]}

    def values(self) -> dict[str, Any]:
        return {
            **self.common(), "cidr": "10.20.0.0/16", "subnets": SUBNETS, "nat": True, "gateway_endpoints": ["s3"],
            "interface_endpoints": ["ec2", "ssm"], "egress_ports": [443],
            "egress": [{"cidr": "192.0.2.0/24", "port": 8080}], "api_port": 8443, "door_port": 443,
            "api_from": ["0.0.0.0/0"], "ssh_from": ["198.51.100.7/32"], "lustre": True, "flow_log_bucket_arn": LOGS,
        }  # fmt: skip

    def changed(self) -> dict[str, Any]:
        return {**self.values(), "egress_ports": [443, 5432], "ssh_from": [], "api_from": ["203.0.113.0/24"]}

    def things(self) -> dict[str, list[str]]:
        """Part → ids of what carries a token of ours; twins show."""
        listed = {
            "VpcId": self.ec2.describe_vpcs()["Vpcs"],
            "SubnetId": self.ec2.describe_subnets()["Subnets"],
            "InternetGatewayId": self.ec2.describe_internet_gateways()["InternetGateways"],
            "NatGatewayId": [n for n in self.ec2.describe_nat_gateways()["NatGateways"] if n["State"] != "deleted"],
            "AllocationId": self.ec2.describe_addresses()["Addresses"],
            "RouteTableId": self.ec2.describe_route_tables()["RouteTables"],
            "VpcEndpointId": [e for e in self.ec2.describe_vpc_endpoints()["VpcEndpoints"] if e["State"] != "deleted"],
            "GroupId": self.ec2.describe_security_groups()["SecurityGroups"],
            "FlowLogId": self.ec2.describe_flow_logs()["FlowLogs"],
        }
        found: dict[str, list[str]] = {}
        for key, items in listed.items():
            for item in items:
                marks = tags.read(item.get("Tags"))
                if tags.TOKEN in marks:
                    found.setdefault(marks[tags.PART], []).append(item[key])
        return found

    def parts(self) -> dict[str, str]:
        found = self.things()
        assert all(len(ids) == 1 for ids in found.values()), f"made twice: {found}"
        return {part: ids[0] for part, ids in found.items()}

    def kill_part(self) -> str | None:
        """In the order in which EC2 lets go of them."""
        found = self.parts()
        for kind in ("flow-log", "endpoint", "nat", "address", "gateway", "subnet", "table", "group", "vpc"):
            for part in sorted(part for part in found if part.partition("/")[0] == kind):
                self.kill(part)
                return part
        return None

    def kill(self, part: str) -> None:
        kind, name = part.partition("/")[0], self.parts()[part]
        {
            "flow-log": lambda: self.ec2.delete_flow_logs(FlowLogIds=[name]),
            "endpoint": lambda: self.ec2.delete_vpc_endpoints(VpcEndpointIds=[name]),
            "nat": lambda: self.ec2.delete_nat_gateway(NatGatewayId=name),
            "address": lambda: self.ec2.release_address(AllocationId=name),
            "gateway": lambda: self._kill_gateway(name),
            "subnet": lambda: self.ec2.delete_subnet(SubnetId=name),
            "table": lambda: self._kill_table(name),
            "group": lambda: self._kill_group(name),
            "vpc": lambda: self.ec2.delete_vpc(VpcId=name),
        }[kind]()

    def _kill_gateway(self, name: str) -> None:
        for found in self.ec2.describe_internet_gateways(InternetGatewayIds=[name])["InternetGateways"]:
            for link in found["Attachments"]:
                self.ec2.detach_internet_gateway(InternetGatewayId=name, VpcId=link["VpcId"])
        self.ec2.delete_internet_gateway(InternetGatewayId=name)

    def _kill_table(self, name: str) -> None:
        for link in self.ec2.describe_route_tables(RouteTableIds=[name])["RouteTables"][0]["Associations"]:
            self.ec2.disassociate_route_table(AssociationId=link["RouteTableAssociationId"])
        self.ec2.delete_route_table(RouteTableId=name)

    def _kill_group(self, name: str) -> None:
        for group in self.ec2.describe_security_groups()["SecurityGroups"]:
            for way, rules in (("ingress", "IpPermissions"), ("egress", "IpPermissionsEgress")):
                if group[rules]:
                    revoke = getattr(self.ec2, f"revoke_security_group_{way}")
                    revoke(GroupId=group["GroupId"], IpPermissions=group[rules])
        self.ec2.delete_security_group(GroupId=name)

    def slow(self) -> None:
        self.emulator.pending(3600)

    def quick(self) -> None:
        self.emulator.pending(0)
        self.emulator.no_faults()


def paths(engine: Engine, values: dict[str, Any]) -> set[str]:
    """What a preview says about the world."""
    diff, _ = engine.preview(values)
    assert diff is not None
    return set(diff.output_updates)
