"""What the credentials must be allowed to do, by resource of a region. Names of IAM actions, which are not always those
of the API: S3's differ. tests/provider/aws/test_permissions.py holds it against what a whole region really asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from aifactory.plan.model import AwsPlan

ALWAYS: Mapping[str, tuple[str, ...]] = {
    "network": (
        "ec2:CreateVpc", "ec2:DeleteVpc", "ec2:DescribeVpcs", "ec2:ModifyVpcAttribute", "ec2:DescribeVpcAttribute",
        "ec2:CreateSubnet", "ec2:DeleteSubnet", "ec2:DescribeSubnets",
        "ec2:CreateRouteTable", "ec2:DeleteRouteTable", "ec2:DescribeRouteTables", "ec2:AssociateRouteTable",
        "ec2:DisassociateRouteTable", "ec2:CreateRoute", "ec2:DeleteRoute", "ec2:CreateSecurityGroup",
        "ec2:DeleteSecurityGroup", "ec2:DescribeSecurityGroups",
        "ec2:AuthorizeSecurityGroupIngress", "ec2:AuthorizeSecurityGroupEgress", "ec2:RevokeSecurityGroupIngress",
        "ec2:RevokeSecurityGroupEgress", "ec2:CreateVpcEndpoint", "ec2:DeleteVpcEndpoints", "ec2:ModifyVpcEndpoint",
        "ec2:DescribeVpcEndpoints", "ec2:DescribeVpcEndpointServices", "ec2:DescribePrefixLists",
        "ec2:DescribeNetworkInterfaces", "ec2:DescribeInternetGateways", "ec2:DescribeNatGateways",
        "ec2:DescribeAddresses", "ec2:DescribeFlowLogs", "ec2:ReplaceRoute",
        "ec2:ReplaceRouteTableAssociation", "ec2:CreateTags",
    ),
    "key": (
        "kms:CreateKey", "kms:DescribeKey", "kms:EnableKeyRotation", "kms:GetKeyRotationStatus", "kms:CreateAlias",
        "kms:UpdateAlias", "kms:DeleteAlias", "kms:ListKeys", "kms:CancelKeyDeletion", "kms:EnableKey",
        "kms:UpdateKeyDescription", "kms:ScheduleKeyDeletion", "kms:TagResource",
        "kms:ListResourceTags", "kms:PutKeyPolicy", "kms:GetKeyPolicy", "kms:CreateGrant",
    ),
    "identity": (
        "iam:CreateRole", "iam:GetRole", "iam:DeleteRole", "iam:PassRole", "iam:PutRolePolicy", "iam:GetRolePolicy",
        "iam:DeleteRolePolicy", "iam:UpdateAssumeRolePolicy", "iam:TagRole", "iam:CreateInstanceProfile",
        "iam:GetInstanceProfile", "iam:DeleteInstanceProfile", "iam:AddRoleToInstanceProfile",
        "iam:RemoveRoleFromInstanceProfile", "iam:ListRolePolicies", "iam:ListAttachedRolePolicies",
        "iam:DetachRolePolicy", "iam:TagInstanceProfile",
    ),
    "nodes": (
        "ec2:RunInstances", "ec2:StartInstances", "ec2:TerminateInstances", "ec2:DescribeInstances",
        "ec2:GetConsoleOutput", "ec2:CreateLaunchTemplate",
        "ec2:CreateLaunchTemplateVersion", "ec2:DeleteLaunchTemplate",
        "ec2:DescribeLaunchTemplates", "ec2:DescribeLaunchTemplateVersions", "ec2:DescribeImages",
        "ec2:DescribeInstanceTypeOfferings", "ec2:DescribeInstanceTypes",
    ),
}  # fmt: skip
"""Asked by every region of a cloud."""
GATEWAY = (
    "ec2:CreateInternetGateway", "ec2:AttachInternetGateway", "ec2:DetachInternetGateway", "ec2:DeleteInternetGateway",
)  # fmt: skip
NAT = (
    "ec2:AllocateAddress", "ec2:ReleaseAddress", "ec2:CreateNatGateway",
    "ec2:DeleteNatGateway",
)  # fmt: skip
PLACEMENT = ("ec2:CreatePlacementGroup", "ec2:DeletePlacementGroup", "ec2:DescribePlacementGroups")
BUCKET = (
    "s3:CreateBucket", "s3:DeleteBucket", "s3:ListBucket", "s3:TagResource", "s3:GetBucketLocation",
    "s3:PutBucketVersioning", "s3:GetBucketVersioning", "s3:PutEncryptionConfiguration",
    "s3:GetEncryptionConfiguration", "s3:PutBucketPublicAccessBlock", "s3:GetBucketPublicAccessBlock",
    "s3:PutBucketPolicy", "s3:GetBucketPolicy", "s3:PutBucketTagging", "s3:GetBucketTagging",
)  # fmt: skip
LOCK = ("s3:PutBucketObjectLockConfiguration", "s3:GetBucketObjectLockConfiguration")
FILE_SYSTEM = (
    "fsx:CreateFileSystem", "fsx:DescribeFileSystems", "fsx:UpdateFileSystem", "fsx:DeleteFileSystem",
    "fsx:TagResource", "iam:CreateServiceLinkedRole",
)  # fmt: skip
REPOSITORY = (
    "fsx:CreateDataRepositoryAssociation", "fsx:DescribeDataRepositoryAssociations",
    "fsx:DeleteDataRepositoryAssociation",
)  # fmt: skip
DOOR = tuple(
    f"elasticloadbalancing:{action}"
    for action in (
        "CreateLoadBalancer", "DeleteLoadBalancer", "DescribeLoadBalancers", "CreateTargetGroup", "DeleteTargetGroup",
        "DescribeTargetGroups", "CreateListener", "DeleteListener", "DescribeListeners", "RegisterTargets",
        "DeregisterTargets", "DescribeTargetHealth", "ModifyListener", "SetSecurityGroups", "SetSubnets",
        "AddTags", "DescribeTags",
    )
)  # fmt: skip
FLOW_LOGS = ("ec2:CreateFlowLogs", "ec2:DeleteFlowLogs")
RESERVED = ("ec2:DescribeCapacityReservations",)


def needed(plan: AwsPlan) -> tuple[str, ...]:
    """Every action that this region asks for, sorted."""
    return tuple(sorted(set(_needed(plan))))


def _needed(plan: AwsPlan) -> Iterator[str]:
    for actions in ALWAYS.values():
        yield from actions
    if any(subnet.public for subnet in plan.subnets):
        yield from GATEWAY
    if plan.nat.value:
        yield from NAT
    if plan.flow_logs:
        yield from FLOW_LOGS
    if any(pool.placement_group for pool in plan.pools):
        yield from PLACEMENT
    if any(pool.capacity_id for pool in plan.pools):
        yield from RESERVED
    for bucket in plan.buckets:
        yield from (*BUCKET, *(LOCK if bucket.retention_days else ()))
    for system in plan.file_systems:
        yield from (*FILE_SYSTEM, *(REPOSITORY if system.bucket else ()))
    if plan.door:
        yield from DOOR
