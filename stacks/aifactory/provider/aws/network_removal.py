"""Takes parts of a network away, in the order in which EC2 lets go of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from aifactory.provider.aws import network_rules, owned
from aifactory.provider.aws.api import Api
from aifactory.provider.aws.failures import CloudError
from aifactory.provider.aws.network_world import READERS, Group, Table, Thing, World

BUSY_S = 600.0
"""How long what still uses a part (a node that ends, a balancer's interfaces) may take to be gone."""
GONE_S = 600.0
"""How long a NAT gateway or an endpoint may take to be gone."""


def take_down(api: Api, token: str, world: World) -> None:
    """Removes all that is in `world`; gone already is fine. Raises CloudError, kind in_use, where others use it."""
    owned.at_once(
        *(partial(_flow_log, api, found) for found in world.flow_logs),
        partial(_endpoints, api, token, world),
        partial(_nats, api, token, world),
        *(partial(_loosen, api, found) for found in world.groups),
        *(partial(_disassociate, api, found) for found in world.tables),
    )
    gone = partial(owned.removed, api, "ec2", busy_s=BUSY_S)
    owned.at_once(
        *(partial(_gateway, api, found) for found in world.gateways),
        *(partial(gone, "ReleaseAddress", AllocationId=found.id) for found in world.addresses),
        *(partial(gone, "DeleteSubnet", SubnetId=found.id) for found in world.subnets),
    )
    owned.at_once(
        *(partial(gone, "DeleteRouteTable", RouteTableId=found.id) for found in world.tables),
        *(partial(gone, "DeleteSecurityGroup", GroupId=found.id) for found in world.groups),
    )
    owned.at_once(*(partial(gone, "DeleteVpc", VpcId=found.id) for found in world.vpcs))


def holders(api: Api, vpc_ids: list[str]) -> str:
    """What is still inside, by its network interfaces, in words."""
    listed = api.pages(
        "ec2", "DescribeNetworkInterfaces", "NetworkInterfaces", Filters=[{"Name": "vpc-id", "Values": vpc_ids}]
    )
    found = [
        f"{item['NetworkInterfaceId']} "
        f"({(item.get('Attachment') or {}).get('InstanceId') or item.get('Description') or 'no description'})"
        for item in listed
    ]
    return ", ".join(found)


def _flow_log(api: Api, found: Thing) -> None:
    _successful("DeleteFlowLogs", lambda: api.call("ec2", "DeleteFlowLogs", FlowLogIds=[found.id]))


def _endpoints(api: Api, token: str, world: World) -> None:
    ids = {found.id for found in world.endpoints}
    if ids:
        _successful("DeleteVpcEndpoints", lambda: api.call("ec2", "DeleteVpcEndpoints", VpcEndpointIds=sorted(ids)))
        api.ctx.progress("waiting for endpoints to be gone")
        _until_gone(api, token, "endpoints", ids)


def _nats(api: Api, token: str, world: World) -> None:
    ids = {found.id for found in world.nats}
    if ids:
        owned.at_once(
            *(partial(owned.removed, api, "ec2", "DeleteNatGateway", NatGatewayId=name) for name in sorted(ids))
        )
        api.ctx.progress("waiting for the NAT gateway to be gone")
        _until_gone(api, token, "nats", ids)


def _until_gone(api: Api, token: str, field: str, ids: set[str]) -> None:
    def gone() -> bool | None:
        return None if ids & {found.id for found in READERS[field](api, token)} else True

    api.until(gone, f"{', '.join(sorted(ids))} gone", timeout_s=GONE_S)


def _loosen(api: Api, found: Group) -> None:
    """Groups that name each other in their rules keep each other."""
    for way, rules in (("Ingress", found.ingress), ("Egress", found.egress)):
        if rules:
            given = network_rules.permissions(rules)
            owned.absent_is_none(
                lambda way=way, given=given: api.call(  # type: ignore[misc]
                    "ec2", f"RevokeSecurityGroup{way}", GroupId=found.id, IpPermissions=given
                )
            )


def _disassociate(api: Api, found: Table) -> None:
    for association in found.associations.values():
        owned.removed(api, "ec2", "DisassociateRouteTable", AssociationId=association)


def _gateway(api: Api, found: Thing) -> None:
    if found.vpc_id:
        owned.removed(
            api, "ec2", "DetachInternetGateway", busy_s=BUSY_S, InternetGatewayId=found.id, VpcId=found.vpc_id
        )
    owned.removed(api, "ec2", "DeleteInternetGateway", busy_s=BUSY_S, InternetGatewayId=found.id)


def _successful(action: str, call: Callable[[], dict[str, object]]) -> None:
    """Calls of a list answer 200 and say inside what they did not do."""
    answer = owned.absent_is_none(call) or {}
    for item in answer.get("Unsuccessful") or ():  # type: ignore[attr-defined]
        error = CloudError(action, str(item["Error"]["Code"]), str(item["Error"].get("Message", "")))
        if error.kind != "absent":
            raise error
