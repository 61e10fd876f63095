"""Whether the permissions that preflight asks for are those that the code needs. Real: the code, botocore's models.

Every operation that stands as a literal in provider/aws is a permission of some region, and no permission is asked for
that nothing calls.
"""

from __future__ import annotations

import ast
from pathlib import Path

import botocore.session
from aifactory import paths
from aifactory.provider.aws import permissions

FOLDER = paths.REPO / "stacks" / "aifactory" / "provider" / "aws"
SERVICES = {"ec2": "ec2", "iam": "iam", "kms": "kms", "fsx": "fsx", "elbv2": "elasticloadbalancing", "s3": "s3"}
S3 = {
    "HeadBucket": ("s3:ListBucket",),
    "ListObjectVersions": ("s3:ListBucketVersions",),
    "GetPublicAccessBlock": ("s3:GetBucketPublicAccessBlock",),
    "PutPublicAccessBlock": ("s3:PutBucketPublicAccessBlock",),
    "GetBucketEncryption": ("s3:GetEncryptionConfiguration",),
    "PutBucketEncryption": ("s3:PutEncryptionConfiguration",),
    "GetObjectLockConfiguration": ("s3:GetBucketObjectLockConfiguration",),
    "PutObjectLockConfiguration": ("s3:PutBucketObjectLockConfiguration",),
    "ListObjectsV2": ("s3:ListBucket",),
}
"""S3's operations whose permission has another name. Source: Service Authorization Reference, Amazon S3, 2026-11."""
PREFLIGHT = {
    "iam:SimulatePrincipalPolicy", "ec2:DescribeInstanceTypeOfferings", "ec2:DescribeInstanceTypes",
    "ec2:DescribeCapacityReservations",
}  # fmt: skip
"""Asked by preflight itself: denied, it says so."""
UNCALLED = {
    "iam:PassRole", "iam:CreateServiceLinkedRole", "kms:CreateGrant", "ec2:CreateTags", "s3:TagResource",
    "iam:TagInstanceProfile", "iam:AttachRolePolicy", "fsx:TagResource", "elasticloadbalancing:AddTags",
    "s3:ListBucket", "ec2:DescribeImages",
}  # fmt: skip
"""Checked by the cloud inside another call: tags given with a create, a role given to an instance, FSx's own role."""


GRANTED = {"kms:Decrypt", "s3:GetObject"}
"""Words of the policies that the code writes, not calls of its own."""
MADE_UP = {f"ec2:{verb}SecurityGroup{way}" for verb in ("Authorize", "Revoke") for way in ("Ingress", "Egress")}
"""Put together from two words (groups_api.py)."""


def called() -> set[str]:
    session = botocore.session.Session()
    operations = {name: set(session.get_service_model(name).operation_names) for name in SERVICES}
    found: set[str] = set()
    for file in FOLDER.glob("*.py"):
        if file.name in ("permissions.py", "preflight.py"):
            continue
        found |= _of(file, operations)
    return (found | MADE_UP) - GRANTED


def _of(file: Path, operations: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    words = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    for word in words:
        services = [s for s, names in operations.items() if word in names]
        named = [s for s in services if s in words] or services  # `CreateTags` is EC2's where "ec2" stands in the file
        for service in named:
            prefix = SERVICES[service]
            found |= set(S3.get(word, (f"s3:{word}",))) if service == "s3" else {f"{prefix}:{word}"}
    return found


def every() -> set[str]:
    """What a region with everything asks for."""
    groups = [v for k, v in vars(permissions).items() if k.isupper() and isinstance(v, tuple)]
    return {action for group in (*permissions.ALWAYS.values(), *groups) for action in group}


def test_every_call_has_its_permission() -> None:
    assert sorted(called() - every() - PREFLIGHT) == []


def test_no_permission_is_asked_for_that_nothing_needs() -> None:
    assert sorted(every() - called() - UNCALLED - PREFLIGHT) == []
