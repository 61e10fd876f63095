"""Policy documents: who may use a key, a bucket, a role. Each gives what is needed and nothing beside.

An ARN's partition is the cloud's; the service principals are the same in every partition of AWS (below).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from aifactory.provider.aws.cloud import CloudInput

VERSION = "2012-10-17"
EC2 = "ec2.amazonaws.com"
"""Source: aws/aws-cli#8709 (every region, China too); pulumi/pulumi-eks#2341 (IAM in eusc-de-east-1 refuses
ec2.amazonaws.eu); read 2026-11-25."""
LOG_DELIVERY = "delivery.logs.amazonaws.com"
"""Writes flow logs into buckets. Source: Amazon CloudWatch Logs User Guide, Logs sent to Amazon S3, read 2026-11-25."""
USE_KEY = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"]
"""Source: the same page, server-side encryption; FSx for Lustre User Guide, server-side encrypted S3 buckets."""

Document = dict[str, Any]


def key(cloud: CloudInput, services: Iterable[str]) -> Document:
    """The account's own policies decide (root), and the cloud's services named may use it for this account."""
    statements = [
        {
            "Sid": "Account",
            "Effect": "Allow",
            "Principal": {"AWS": cloud.arn("iam", "root", region=False)},
            "Action": "kms:*",
            "Resource": "*",
        }
    ]
    if "flow_logs" in services:
        statements.append(
            {
                "Sid": "FlowLogs",
                "Effect": "Allow",
                "Principal": {"Service": LOG_DELIVERY},
                "Action": USE_KEY,
                "Resource": "*",
                "Condition": {"StringEquals": {"aws:SourceAccount": cloud.account}},
            }
        )
    if "file_system" in services:
        # The role is FSx's own, made with each file system that has a bucket; its name is not known before.
        statements.append(
            {
                "Sid": "FileSystem",
                "Effect": "Allow",
                "Principal": {"AWS": "*"},
                "Action": USE_KEY,
                "Resource": "*",
                "Condition": {
                    "StringEquals": {"kms:CallerAccount": cloud.account},
                    "StringLike": {
                        "aws:userid": "*:FSx",
                        "kms:EncryptionContext:aws:s3:arn": cloud.arn("s3", "*"),
                    },
                },
            }
        )
    return {"Version": VERSION, "Statement": statements}


def bucket(cloud: CloudInput, name: str, *, log_delivery: bool) -> Document:
    """Nothing without TLS; flow logs may be written where they are meant to be."""
    whole, inside = cloud.arn("s3", name), cloud.arn("s3", f"{name}/*")
    statements: list[Document] = [
        {
            "Sid": "TlsOnly",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [whole, inside],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
    ]
    if log_delivery:
        source = {
            "StringEquals": {"aws:SourceAccount": cloud.account},
            "ArnLike": {"aws:SourceArn": cloud.arn("logs", "*")},
        }
        common = {"Effect": "Allow", "Principal": {"Service": LOG_DELIVERY}}
        full = {"StringEquals": {**source["StringEquals"], "s3:x-amz-acl": "bucket-owner-full-control"}}
        statements += [
            {
                "Sid": "AWSLogDeliveryWrite",
                **common,
                "Action": "s3:PutObject",
                "Resource": cloud.arn("s3", f"{name}/AWSLogs/{cloud.account}/*"),
                "Condition": {**source, **full},
            },
            {
                "Sid": "AWSLogDeliveryAclCheck",
                **common,
                "Action": ["s3:GetBucketAcl", "s3:ListBucket"],
                "Resource": whole,
                "Condition": source,
            },
        ]
    return {"Version": VERSION, "Statement": statements}


def node_trust() -> Document:
    """Instances may be the role, nobody else."""
    statement = {"Effect": "Allow", "Principal": {"Service": EC2}, "Action": "sts:AssumeRole"}
    return {"Version": VERSION, "Statement": [statement]}


def node(bucket_arns: Iterable[str], key_arn: str) -> Document | None:
    """Reads and lists those buckets and decrypts with that key; None where there is nothing to allow."""
    arns = sorted(bucket_arns)
    statements: list[Document] = []
    if arns:
        statements += [
            {"Sid": "List", "Effect": "Allow", "Action": "s3:ListBucket", "Resource": arns},
            {"Sid": "Read", "Effect": "Allow", "Action": "s3:GetObject", "Resource": [f"{arn}/*" for arn in arns]},
        ]
    if key_arn:
        statements.append({"Sid": "Decrypt", "Effect": "Allow", "Action": "kms:Decrypt", "Resource": key_arn})
    return {"Version": VERSION, "Statement": statements} if statements else None


def text(document: Document) -> str:
    return json.dumps(document, sort_keys=True)


def plain(document: str | Document | None) -> Any:
    """A document as it can be compared: services give back one-item lists as texts, and lists in another order."""
    if isinstance(document, str):
        try:
            document = json.loads(document)
        except ValueError:
            return document
    return _plain(document)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        items = sorted((_plain(item) for item in value), key=lambda item: json.dumps(item, sort_keys=True))
        return items[0] if len(items) == 1 else items
    return value
