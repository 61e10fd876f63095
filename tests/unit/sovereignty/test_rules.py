"""Every rule against a region that breaks it. Real: the example region, the loader, the plan, the catalogue."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from aifactory import paths, sovereignty
from aifactory.plan import build
from aifactory.region import loader
from aifactory.sovereignty import Facts, observed, planned
from aifactory.sovereignty.rules import RULES
from ruamel.yaml import YAML

TODAY = dt.date(2026, 11, 25)
EXAMPLE = paths.REPO / "stacks" / "regions" / "eu-sovereign.yaml"
ENDPOINTS = {s: f"https://{s}.example.eu" for s in ("ec2", "elbv2", "fsx", "iam", "kms", "s3", "sts")}


def region(folder: Path, **changes: Any) -> tuple[loader.LoadedRegion, build.RegionPlan]:
    """The example with changes by dotted path; None takes a key away."""
    data = YAML(typ="safe").load(EXAMPLE.read_text("utf-8"))
    for dotted, value in changes.items():
        *path, last = dotted.split("__")
        section = data
        for part in path:
            section = section.setdefault(part, {})
        if value is None:
            section.pop(last, None)
        else:
            section[last] = value
    file = folder / "eu-sovereign.yaml"
    with file.open("w", encoding="utf-8") as out:
        YAML().dump(data, out)
    loaded = loader.load(file)
    return loaded, build.of(loaded)


def open_rules(facts: Facts, *, waivers: Any = ()) -> dict[str, list[str]]:
    report = sovereignty.judge(facts, waivers, TODAY)
    found: dict[str, list[str]] = {}
    for finding in report.open:
        found.setdefault(finding.rule, []).append(f"{finding.against.scope}: {finding.against.found}")
    return found


def judged(folder: Path, **changes: Any) -> dict[str, list[str]]:
    loaded, plan = region(folder, **changes)
    return open_rules(planned.facts(loaded.spec, plan))


def test_example_holds_every_rule(tmp_path: Path) -> None:
    assert judged(tmp_path) == {}


BREAKS: list[tuple[str, dict[str, Any], str]] = [
    ("LOC-01", {"jurisdiction__country": "FR"}, "train: stands in DE"),
    ("LOC-01", {"state__backend": "s3://elsewhere?region=eu-west-9"}, "state: nobody knows where it is"),
    ("LOC-05", {"provider__endpoints": {"s3": "https://s3.us-east-1.amazonaws.com"}}, "s3: nobody knows where it is"),
    ("LOC-05", {"jurisdiction__country": "FR"}, "ec2: ec2.eusc-de-east-1.amazonaws.eu is in DE"),
    ("KEY-02", {"jurisdiction__data_classes": ["secret"]}, "scratch: custody 1 of its key"),
    ("KEY-03", {"state__secrets": "gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/k"}, "secrets: nobody knows"),
    ("NET-01", {"network__egress": ["registry.example.eu:443"]}, "train: ports open to every address"),
]


@pytest.mark.parametrize(("rule", "changes", "text"), BREAKS, ids=[f"{r}-{i}" for i, (r, _, _) in enumerate(BREAKS)])
def test_rule_is_broken_by_what_it_is_there_for(tmp_path: Path, rule: str, changes: dict[str, Any], text: str) -> None:
    found = judged(tmp_path, **changes)
    assert any(line.startswith(text) for line in found.get(rule, [])), found


COMMERCIAL = {
    "provider__partition": "aws", "provider__region": "eu-central-1", "provider__zones": ["eu-central-1a"],
    "state": {}, "power": {},
    "pools": [{"name": "train", "shape": "p5.48xlarge", "nodes": 2, "image": "ami-0123456789abcdef0"}],
}  # fmt: skip


def test_off_region_control_plane_is_named_and_can_be_waived(tmp_path: Path) -> None:
    assert judged(tmp_path, **COMMERCIAL) == {"LOC-07": ["iam: its one host for the whole partition stands in US"]}
    waiver = {"check": "LOC-07", "scope": "iam", "reason": "roles carry no personal data", "owner": "dpo@example.eu"}
    waived = {"acceptance": {"waivers": [{**waiver, "expires": "2026-11-25"}]}}
    loaded, plan = region(tmp_path, **COMMERCIAL, **waived)
    assert sovereignty.problems(loaded.spec, plan, TODAY) == ()
    (late,) = sovereignty.problems(loaded.spec, plan, TODAY + dt.timedelta(days=1))
    assert "The waiver of dpo@example.eu ended on 2026-11-25." in late.message


def test_off_region_host_in_the_regions_own_country_is_none(tmp_path: Path) -> None:
    changes = {
        **COMMERCIAL, "provider__region": "us-east-1", "provider__zones": ["us-east-1a"], "jurisdiction__country": "US",
        "jurisdiction__regimes": [],
    }  # fmt: skip
    assert "LOC-07" not in judged(tmp_path, **changes)


def test_region_id_that_looks_like_amazons_needs_every_endpoint(tmp_path: Path) -> None:
    outscale = {**COMMERCIAL, "provider__partition": "outscale", "provider__region": "eu-west-2",
                "provider__zones": ["eu-west-2a"], "jurisdiction__country": "FR",
                "provider__endpoints": {"ec2": "https://fcu.eu-west-2.outscale.com"}}  # fmt: skip
    found = judged(tmp_path, **outscale)
    assert [line.split(":")[0] for line in found["LOC-06"]] == [
        "elasticloadbalancing",
        "fsx",
        "iam",
        "kms",
        "s3",
        "sts",
    ]
    amazon = {**outscale, "provider__endpoints": {**ENDPOINTS, "ec2": "https://ec2.eu-west-2.amazonaws.com"}}
    assert judged(tmp_path, **amazon) == {"LOC-05": ["ec2: nobody knows where it is"]}


def test_waiver_of_another_rule_or_scope_covers_nothing(tmp_path: Path) -> None:
    base = {"reason": "a reason that is long", "owner": "o", "expires": "2030-01-01"}
    wrong = [{"check": "LOC-01", "scope": "train", **base}, {"check": "NET-01", "scope": "other", **base}]
    changes = {"network__egress": ["registry.example.eu:443"], "acceptance": {"waivers": wrong}}
    loaded, plan = region(tmp_path, **changes)
    assert {p.rule for p in sovereignty.problems(loaded.spec, plan, TODAY)} == {"NET-01"}


def test_problem_has_place_rule_level_and_way_out(tmp_path: Path) -> None:
    loaded, plan = region(tmp_path, network__egress=["registry.example.eu:443"])
    first, *_ = loaded.placed(sovereignty.problems(loaded.spec, plan, TODAY))
    assert first.place is not None
    assert first.place.line
    assert "(planned)" in first.message
    assert "acceptance.waivers: {check: NET-01, scope: " in str(first.fix)


# -- what is there


BUCKET = "eu-sovereign-artifacts-123456789012"
OUTPUTS: list[tuple[str, dict[str, Any]]] = [
    ("aifactory:aws:Bucket", {"bucket": BUCKET, "location": "eusc-de-east-1",
                              "arn": "arn:aws-eusc:s3:::eu-sovereign-artifacts-123456789012"}),
    ("aifactory:aws:Key", {"origin": "AWS_KMS", "key_arn": "arn:aws-eusc:kms:eusc-de-east-1:123456789012:key/k"}),
    ("aifactory:aws:NodePool", {"hosts": [{"pool": "train", "zone": "eusc-de-east-1a"}]}),
]  # fmt: skip


def live(folder: Path, *changed: tuple[str, dict[str, Any]], **changes: Any) -> dict[str, list[str]]:
    loaded, plan = region(folder, **changes)
    names = {kind for kind, _ in changed}
    outputs = [*(o for o in OUTPUTS if o[0] not in names), *changed]
    return open_rules(observed.facts(loaded.spec, plan, outputs))


def test_live_region_as_planned_holds_every_rule(tmp_path: Path) -> None:
    assert live(tmp_path) == {}


KEY_ARN = "arn:{}:kms:{}:{}:key/k"


@pytest.mark.parametrize(
    ("rule", "changed", "text"),
    [
        ("LOC-04", ("Bucket", {"bucket": BUCKET, "location": "us-east-1"}), "artifacts: nobody knows"),
        ("LOC-01", ("NodePool", {"hosts": [{"pool": "train", "zone": "us-east-1a"}]}), "train: nobody knows"),
        ("LOC-02", ("Key", {"key_arn": KEY_ARN.format("aws", "us-east-1", "123456789012")}), "eu-sovereign: "),
        ("LOC-02", ("Key", {"key_arn": KEY_ARN.format("aws-eusc", "eusc-de-east-1", "999999999999")}), "eu"),
        ("KEY-01", ("Key", {"origin": "SOMETHING_NEW"}), "train: key unknown"),
    ],
)  # fmt: skip
def test_live_region_that_is_otherwise_breaks_the_rule(
    tmp_path: Path, rule: str, changed: tuple[str, dict[str, Any]], text: str
) -> None:
    kind, outputs = changed
    found = live(tmp_path, (f"aifactory:aws:{kind}", outputs))
    assert any(line.startswith(text) for line in found.get(rule, [])), found


def test_observed_key_custody_counts(tmp_path: Path) -> None:
    changed = ("aifactory:aws:Key", {"origin": "EXTERNAL_KEY_STORE"})
    found = live(tmp_path, changed, jurisdiction__data_classes=["secret"])
    assert "KEY-02" not in found


def test_rules_are_those_of_the_page() -> None:
    page = (paths.REPO / "docs" / "sovereignty.md").read_text("utf-8")
    for rule, check in RULES.items():
        meaning = (check.__doc__ or "").splitlines()[0]
        assert f"| {rule} | {meaning} |" in page, rule
