"""Policy documents as they are compared. Real: the functions alone."""

from __future__ import annotations

import json

import pytest
from aifactory.provider.aws import policies
from aifactory.provider.aws.cloud import CloudInput

CHINA = CloudInput("aws-cn", "cn-north-1", "123456789012", env_prefix="T_")


def test_one_item_lists_and_another_order_are_the_same_document() -> None:
    wanted = policies.node(["arn:b", "arn:a"], "arn:key")
    given = {
        "Statement": [
            {"Action": ["kms:Decrypt"], "Effect": "Allow", "Resource": "arn:key", "Sid": "Decrypt"},
            {"Action": "s3:GetObject", "Effect": "Allow", "Resource": ["arn:b/*", "arn:a/*"], "Sid": "Read"},
            {"Action": "s3:ListBucket", "Effect": "Allow", "Resource": ["arn:b", "arn:a"], "Sid": "List"},
        ],
        "Version": "2012-10-17",
    }
    assert policies.plain(json.dumps(given)) == policies.plain(wanted)
    assert policies.plain(given) == policies.plain(wanted)


@pytest.mark.parametrize("change", [{"Resource": "*"}, {"Action": "kms:*"}, {"Effect": "Deny"}])
def test_any_other_statement_is_another_document(change: dict[str, str]) -> None:
    wanted = policies.node([], "arn:key")
    assert wanted is not None
    other = {**wanted, "Statement": [{**wanted["Statement"][0], **change}]}
    assert policies.plain(other) != policies.plain(wanted)


def test_no_document_and_one_that_cannot_be_read_differ_from_any() -> None:
    wanted = policies.plain(policies.node_trust())
    assert policies.plain(None) is None
    assert policies.plain("not JSON") == "not JSON" != wanted


def test_arns_are_of_the_partition_and_principals_are_not() -> None:
    text = json.dumps(
        [policies.key(CHINA, ["flow_logs", "file_system"]), policies.bucket(CHINA, "b", log_delivery=True)]
    )
    assert "arn:aws:" not in text
    assert "arn:aws-cn:iam::123456789012:root" in text
    assert "arn:aws-cn:s3:::b/*" in text
    assert "amazonaws.com.cn" not in text
