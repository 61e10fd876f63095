"""What would stop a region in a cloud, asked of its API before anything is made. It writes nothing.

Rules: PRE-201 credentials or account · PRE-202 API not reached · PRE-203 quota · PRE-204 shape not offered in a zone ·
PRE-205 reservation · PRE-206 image · PRE-208 permissions, all at once · PRE-209 name taken by somebody else.
What may not be asked (a read that is denied) is a problem too: unknown is no yes.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aifactory import catalog
from aifactory.errors import Problem
from aifactory.naming import LABEL
from aifactory.plan.model import AwsPoolPlan, PoolPlan, RegionPlan
from aifactory.provider.aws import permissions, tags
from aifactory.provider.aws.api import Api
from aifactory.provider.aws.cloud import CloudInput
from aifactory.provider.aws.failures import CloudError
from aifactory.provider.resource import Context, Refused

PATIENCE_S = 20.0
"""How long one question may take; a cloud that is unwell is a finding, not a wait."""
A_CALL = 100
"""Actions that one SimulatePrincipalPolicy takes comfortably. Source: botocore 1.44.8, iam: no published limit."""
FAMILY = re.compile(r"[a-z]+")

Found = Iterator[Problem]


def check(plan: RegionPlan, deployment: str | None) -> list[Problem]:
    """Everything in the way, as far as the API tells. `deployment` is None before the first `up`."""
    if plan.aws is None:
        return []
    api = Api(_context(deployment), CloudInput.of(plan.aws.cloud), patience_s=PATIENCE_S)
    try:
        who = str(api.call("sts", "GetCallerIdentity")["Arn"])
        api.clients.check_account(who.split(":")[4])
    except (Refused, CloudError) as error:
        return [_unusable(error)]
    questions: list[Callable[[], Iterable[Problem]]] = [
        lambda: _offered(api, plan),
        lambda: _quotas(api, plan, deployment),
        lambda: _reservations(api, plan, deployment),
        lambda: _images(api, plan),
        lambda: _permissions(api, plan, who),
        lambda: _names(api, plan, deployment),
    ]
    with ThreadPoolExecutor(len(questions)) as pool:
        return [problem for answers in pool.map(_asked, questions) for problem in answers]


def _context(deployment: str | None) -> Context:
    def silent(_: str) -> None:
        return

    return Context("preflight", "preflight", True, deployment or "", None, threading.Event(), silent, silent)


def _asked(question: Callable[[], Iterable[Problem]]) -> list[Problem]:
    """A question's answers; one that cannot be asked is a problem of its own."""
    try:
        return list(question())
    except CloudError as error:
        if error.kind == "denied":
            fix = "allow this read to the credentials of provider.credentials"
            return [Problem("PRE-208", f"What {error.action} would answer is unknown: {error}.", fix=fix)]
        return [Problem("PRE-202", f"The cloud did not answer {error.action}: {error}.", path="provider.region")]
    except Refused as error:
        return [Problem("PRE-202", f"{error}.", path="provider.endpoints")]


def _unusable(error: Exception) -> Problem:
    if isinstance(error, CloudError) and error.kind in ("transient", "lost"):
        text = f"The cloud's API is not reached: {error}."
        return Problem("PRE-202", text, path="provider.region", fix="look at the network and provider.endpoints")
    return Problem("PRE-201", f"{error}.", path="provider.credentials", fix="name credentials of the region's account")


def _pools(plan: RegionPlan) -> Iterator[tuple[str, PoolPlan, AwsPoolPlan]]:
    """(path in the file, pool, its part in the cloud)."""
    assert plan.aws is not None  # noqa: S101 (check has seen to it)
    place = 0
    for pool, made in zip(plan.pools, plan.aws.pools, strict=True):
        path = "front_door" if pool.purpose == "front" else f"pools[{place}]"
        place += pool.purpose != "front"
        yield path, pool, made


def _offered(api: Api, plan: RegionPlan) -> Found:
    pools = list(_pools(plan))
    types = sorted({made.instance_type for _, _, made in pools})
    rows = api.pages(
        "ec2", "DescribeInstanceTypeOfferings", "InstanceTypeOfferings", LocationType="availability-zone",
        Filters=[{"Name": "instance-type", "Values": types}],
    )  # fmt: skip
    offered: dict[str, set[str]] = {}
    for row in rows:
        offered.setdefault(str(row["InstanceType"]), set()).add(str(row["Location"]))
    for path, pool, made in pools:
        where = offered.get(made.instance_type, set())
        for zone in sorted({node.zone or made.zone for node in pool.nodes} - where):
            instead = ", ".join(sorted(where))
            yield Problem(
                "PRE-204",
                f"{made.instance_type} is not offered in {zone}."
                + (f" Offered in {instead}." if instead else " No zone of the region offers it to this account."),
                path=f"{path}.{'zone' if path != 'front_door' else 'shape'}",
                nearest=tuple(sorted(where)),
                fix="another zone in provider.zones and the pool" if instead else "another shape, or another region",
            )


def _quotas(api: Api, plan: RegionPlan, deployment: str | None) -> Found:
    wanted: dict[str, tuple[int, list[str]]] = {}
    for path, pool, made in _pools(plan):
        vcpus = catalog.shapes()[pool.shape].vcpus
        kind = {"on_demand": "on_demand", "spot": "spot"}.get(made.capacity_kind)
        code = _quota(made.instance_type, kind) if kind else None
        if code and vcpus:
            so_far, paths = wanted.get(code, (0, []))
            wanted[code] = (so_far + vcpus * len(pool.nodes), [*paths, path])
    if api.cloud.card.endpoints_required and "service-quotas" not in api.cloud.endpoints:
        return  # a cloud without that API
    running = _running(api, deployment) if wanted else {}
    for code, (need, paths) in sorted(wanted.items()):
        row = catalog.quotas()[code]
        try:
            quota = api.call("service-quotas", "GetServiceQuota", ServiceCode="ec2", QuotaCode=code)["Quota"]
        except CloudError as error:
            if error.kind != "absent":
                raise
            quota = {"Value": 0.0}
        others = running.get(code, 0)
        if need + others > quota["Value"]:
            beside = f", beside {others:,} that run already" if others else ""
            yield Problem(
                "PRE-203",
                f"Quota {code} ({row.name}) is {quota['Value']:,.0f} vCPUs; the region needs {need:,}{beside}.",
                path=f"{paths[0]}.nodes" if paths[0] != "front_door" else "front_door.nodes",
                fix=f"ask the cloud for {need + others:,} or more of {code} in {api.cloud.region}, or fewer nodes",
            )


def _quota(instance_type: str, capacity: str) -> str | None:
    family = FAMILY.match(instance_type)
    rows = (q for q in catalog.quotas().values() if q.capacity == capacity)
    return next((q.code for q in rows if family and family[0] in q.families), None)


def _running(api: Api, deployment: str | None) -> Mapping[str, int]:
    """Quota → vCPUs that others than this deployment run. Types that the catalogue lacks are not counted."""
    counted: dict[str, int] = {}
    states = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
    for reservation in api.pages("ec2", "DescribeInstances", "Reservations", Filters=states, MaxResults=1000):
        for instance in reservation["Instances"]:
            mine = deployment and tags.read(instance.get("Tags")).get(tags.DEPLOYMENT) == deployment
            shape = catalog.shapes().get(str(instance["InstanceType"]))
            spot = "spot" if instance.get("InstanceLifecycle") == "spot" else "on_demand"
            code = _quota(str(instance["InstanceType"]), spot)
            if not mine and code and shape and shape.vcpus:
                counted[code] = counted.get(code, 0) + shape.vcpus
    return counted


def _reservations(api: Api, plan: RegionPlan, deployment: str | None) -> Found:
    for path, pool, made in _pools(plan):
        if made.capacity_id is None:
            continue
        where = f"{path}.capacity.id"
        try:
            ids = [made.capacity_id]
            rows = api.call("ec2", "DescribeCapacityReservations", CapacityReservationIds=ids)["CapacityReservations"]
        except CloudError as error:
            if error.kind != "absent":
                raise
            rows = []
        if not rows:
            yield Problem("PRE-205", f"The account has no capacity reservation {made.capacity_id}.", path=where)
            continue
        row = rows[0]
        if wrong := list(_unfit(row, made)):
            yield Problem("PRE-205", f"Reservation {made.capacity_id} {', '.join(wrong)}.", path=where)
            continue
        left, need = int(row["AvailableInstanceCount"]), len(pool.nodes) - _ours(api, pool, deployment)
        if left < need:
            yield Problem(
                "PRE-205",
                f"Reservation {made.capacity_id} has {left:,} of {int(row['TotalInstanceCount']):,} left; "
                f"pool {pool.name} needs {need:,} more.",
                path=where,
                fix="a larger reservation, or fewer nodes",
            )


def _unfit(row: Mapping[str, Any], made: AwsPoolPlan) -> Iterator[str]:
    if row["State"] != "active":
        yield f"is {row['State']}, not active"
    if row["InstanceType"] != made.instance_type:
        yield f"is for {row['InstanceType']}, not {made.instance_type}"
    if row["AvailabilityZone"] != made.zone:
        yield f"is in {row['AvailabilityZone']}, not in {made.zone}"


def _ours(api: Api, pool: PoolPlan, deployment: str | None) -> int:
    """Nodes of the pool that stand: they have their place in the reservation."""
    if not deployment:
        return 0
    alive = [{"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]}]
    mine = tags.filters({tags.DEPLOYMENT: deployment, f"{LABEL}pool": pool.name})
    rows = api.pages("ec2", "DescribeInstances", "Reservations", Filters=[*alive, *mine], MaxResults=1000)
    return sum(len(row["Instances"]) for row in rows)


def _images(api: Api, plan: RegionPlan) -> Found:
    wanted = [(path, made.image.value, made.instance_type) for path, _, made in _pools(plan) if made.image.value]
    if not wanted:
        return
    ids = sorted({image for _, image, _ in wanted})
    rows = api.call("ec2", "DescribeImages", Filters=[{"Name": "image-id", "Values": ids}])["Images"]
    found = {str(row["ImageId"]): row for row in rows}
    runs = _architectures(api, sorted({kind for _, _, kind in wanted}))
    for path, image, kind in wanted:
        where, row = f"{path}.image", found.get(image)
        if row is None:
            text = f"There is no image {image} in {api.cloud.region} for this account."
            yield Problem("PRE-206", text, path=where, fix="the id of an image of this region")
        elif row.get("State") != "available":
            yield Problem("PRE-206", f"Image {image} is {row.get('State')}.", path=where)
        elif kind in runs and row.get("Architecture") not in runs[kind]:
            text = f"Image {image} is for {row.get('Architecture')}; {kind} runs {', '.join(sorted(runs[kind]))}."
            yield Problem("PRE-206", text, path=where, fix="an image of that architecture")


def _architectures(api: Api, kinds: list[str]) -> dict[str, frozenset[str]]:
    """Instance type → architectures that it runs. One that the cloud does not know is told by what zones offer."""
    asked = [{"Name": "instance-type", "Values": kinds}]
    rows = api.pages("ec2", "DescribeInstanceTypes", "InstanceTypes", Filters=asked)
    return {str(row["InstanceType"]): frozenset(row["ProcessorInfo"]["SupportedArchitectures"]) for row in rows}


def _permissions(api: Api, plan: RegionPlan, who: str) -> Found:
    assert plan.aws is not None  # noqa: S101
    actions = permissions.needed(plan.aws)
    denied: list[str] = []
    for begin in range(0, len(actions), A_CALL):
        rows = api.pages(
            "iam", "SimulatePrincipalPolicy", "EvaluationResults",
            PolicySourceArn=_principal(who), ActionNames=list(actions[begin : begin + A_CALL]),
        )  # fmt: skip
        denied += [str(row["EvalActionName"]) for row in rows if row["EvalDecision"] != "allowed"]
    if denied:
        yield Problem(
            "PRE-208",
            f"{who} lacks {len(denied)} of {len(actions)} permissions: {', '.join(sorted(denied))}.",
            path="provider.credentials",
            fix="allow all of them to the credentials of provider.credentials",
        )


def _principal(who: str) -> str:
    """IAM judges a role, not one session of it: `…:assumed-role/name/session` → `…:role/name`."""
    match = re.fullmatch(r"(arn:[^:]+):sts::([0-9]+):assumed-role/([^/]+)/.+", who)
    return f"{match[1]}:iam::{match[2]}:role/{match[3]}" if match else who


def _names(api: Api, plan: RegionPlan, deployment: str | None) -> Found:
    """Names that only one may have: buckets (in the whole partition), the role, the key's alias."""
    assert plan.aws is not None  # noqa: S101
    places = {storage.name: i for i, storage in enumerate(plan.storage)}
    for bucket in plan.aws.buckets:
        if not _free_bucket(api, bucket.bucket, deployment):
            yield _taken("bucket", bucket.bucket, f"storage[{places[bucket.name]}].name")
    if not _free_alias(api, plan.aws.key_alias, deployment):
        yield _taken("alias", plan.aws.key_alias, "name")
    try:
        role = api.call("iam", "GetRole", RoleName=plan.aws.role)["Role"]
    except CloudError as error:
        if error.kind != "absent":
            raise
    else:
        if tags.read(role.get("Tags")).get(tags.DEPLOYMENT) != (deployment or "\0"):
            yield _taken("role", plan.aws.role, "name")


def _free_bucket(api: Api, name: str, deployment: str | None) -> bool:
    try:
        found = api.call("s3", "GetBucketTagging", Bucket=name)["TagSet"]
    except CloudError as error:
        if error.code == "NoSuchBucket" or (error.kind == "absent" and error.code != "NoSuchTagSet"):
            return True
        if error.kind not in ("denied", "absent") and error.status not in (301, 403):
            raise
        return False
    return bool(deployment) and tags.read(found).get(tags.DEPLOYMENT) == deployment


def _free_alias(api: Api, alias: str, deployment: str | None) -> bool:
    try:
        key = api.call("kms", "DescribeKey", KeyId=alias)["KeyMetadata"]["KeyId"]
    except CloudError as error:
        if error.kind != "absent":
            raise
        return True
    found = tags.read(api.call("kms", "ListResourceTags", KeyId=key)["Tags"], "TagKey", "TagValue")
    return bool(deployment) and found.get(tags.DEPLOYMENT) == deployment


def _taken(what: str, name: str, path: str) -> Problem:
    return Problem(
        "PRE-209", f"The {what} {name} exists already and belongs to somebody else.", path=path,
        fix="another name, or remove it where it was made",
    )  # fmt: skip
