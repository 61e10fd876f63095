"""Values against the limits table. Real: the shipped table."""

from __future__ import annotations

import pytest
from aifactory import catalog


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kms_deletion_window", 7),
        ("kms_deletion_window", 30),
        ("fsx_lustre_capacity", 1200),
        ("fsx_lustre_capacity", 2400),
        ("fsx_lustre_capacity", 12000),
        ("fsx_lustre_throughput", 500),
        ("fsx_lustre_ports", 1021),
        ("s3_retention", 40000),
        ("s3_bucket", "eu-artifacts-123456789012"),
        ("s3_bucket", "abc"),
        ("iam_role", "a" * 64),
        ("kms_alias", "alias/aifactory-eu"),
        ("ec2_placement_group", "eu train"),
    ],
)
def test_value_within_the_limit_is_not_refused(key: str, value: int | str) -> None:
    assert catalog.refusal(catalog.limits()[key], value) is None


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("kms_deletion_window", 3, "3 is not allowed; allowed: 7 to 30 days"),
        ("kms_deletion_window", 31, "31 is not allowed"),
        ("fsx_lustre_capacity", 1000, "1200, 2400 and every further multiple of 2400 GiB"),
        ("fsx_lustre_capacity", 3600, "3600 is not allowed"),
        ("fsx_lustre_capacity", 0, "0 is not allowed"),
        ("fsx_lustre_throughput", 300, "125, 250, 500 or 1000 MB/s for each TiB"),
        ("fsx_lustre_ports", 989, "988 and 1018 to 1023"),
        ("s3_retention", 0, "1 or more days"),
        ("s3_bucket", "Region_A-artifacts", "nearest: region-a-artifacts"),
        ("s3_bucket", "ab", "3 to 63"),
        ("s3_bucket", "a" * 64, "3 to 63"),
        ("s3_bucket", "-abc", "'-abc' is not allowed"),
        ("s3_bucket", "abc-s3alias", "'abc-s3alias' is not allowed"),
        ("s3_bucket", "xn--abc", "'xn--abc' is not allowed"),
        ("s3_bucket", "192.168.5.4", "'192.168.5.4' is not allowed"),
        ("iam_role", "a" * 65, "1 to 64"),
        ("kms_alias", "aifactory-eu", "alias/ and up to 250"),
        ("kms_alias", "alias/aws/ebs", "not beginning with alias/aws/"),
        ("ec2_placement_group", "größe", "printable ASCII"),
    ],
)
def test_value_outside_the_limit_is_refused_with_what_is_allowed(key: str, value: int | str, said: str) -> None:
    assert said in (catalog.refusal(catalog.limits()[key], value) or "")
