"""Physical names within their limits. Real: the functions, the limits that botocore's service models name."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import botocore
import pytest
from aifactory import naming
from aifactory.region.spec import PoolName, RegionName

LONGEST_REGION = "r" + "x" * 29 + "-"
LONGEST_POOL = "p" + "y" * 14 + "-"
ACCOUNT = "123456789012"


def shape(service: str, name: str) -> Any:
    folder = Path(botocore.__file__).parent / "data" / service
    (file,) = folder.glob("*/service-2.json*") if service != "ec2" else [sorted(folder.glob("*/service-2.json*"))[-1]]
    text = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    return json.loads(text)["shapes"][name]


def longest(kind: Any) -> str:
    """The pattern of a name of the region file."""
    return str(kind.__metadata__[0].metadata[0].pattern)


def test_the_longest_names_of_a_region_file_are_what_is_tried_here() -> None:
    assert re.fullmatch(longest(RegionName), LONGEST_REGION)
    assert not re.fullmatch(longest(RegionName), LONGEST_REGION + "x")
    assert re.fullmatch(longest(PoolName), LONGEST_POOL)
    assert not re.fullmatch(longest(PoolName), LONGEST_POOL + "x")


@pytest.mark.parametrize(("region", "pool"), [("de", "a"), (LONGEST_REGION, LONGEST_POOL)])
def test_names_fit_what_the_services_models_allow(region: str, pool: str) -> None:
    for name, model in (
        (naming.aws_key_alias(region), shape("kms", "AliasNameType")),
        (naming.aws_node_role(region), shape("iam", "roleNameType")),
        (naming.aws_node_role(region), shape("iam", "instanceProfileNameType")),
        (naming.aws_launch_template(region, pool), shape("ec2", "LaunchTemplateName")),
    ):
        assert model.get("min", 1) <= len(name) <= model["max"], name
        assert re.fullmatch(model.get("pattern", ".*"), name), name


@pytest.mark.parametrize(("region", "pool"), [("de", "a"), (LONGEST_REGION, LONGEST_POOL)])
def test_names_have_the_form_that_the_service_asks_for(region: str, pool: str) -> None:
    """Limits that no model names. Sources: S3 user guide, bucket naming rules; ELB API, CreateLoadBalancer, Name."""
    bucket = naming.aws_bucket(region, pool, ACCOUNT)
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", bucket), bucket
    door = naming.aws_load_balancer(region)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,30}[A-Za-z0-9]", door), door
    assert not door.startswith("internal-")
    assert len(naming.aws_placement_group(region, pool)) <= 255


def test_fitted_cuts_to_the_limit_and_keeps_long_names_apart() -> None:
    assert naming.fitted("a-name", 6) == "a-name"
    one, two = (naming.fitted("a-long-name-that-goes-on-" + end, 20) for end in ("x", "y"))
    assert len(one) <= 20
    assert one != two
    assert one.startswith("a-long")


def test_long_regions_of_one_account_have_doors_of_their_own() -> None:
    assert naming.aws_load_balancer("x" * 30 + "a") != naming.aws_load_balancer("x" * 30 + "b")
