"""S3 as a bucket needs it: where it is, whose it is, and its settings, each read and put by one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from aifactory.provider.aws import owned, policies, tags
from aifactory.provider.aws.api import Api
from aifactory.provider.aws.failures import CloudError
from aifactory.provider.aws.owned import Setting
from aifactory.provider.resource import Refused

UNNAMED = "us-east-1"
"""The region that is never named as a location. Source: S3 API, CreateBucketConfiguration$LocationConstraint."""
OLD_NAMES = {"": UNNAMED, "EU": "eu-west-1"}
"""Source: S3 API, GetBucketLocationOutput$LocationConstraint."""
BLOCKED = dict.fromkeys(("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"), True)
LOCK_MODE = "COMPLIANCE"
"""Nobody, the account's root included, deletes an object before its time. Source: S3 User Guide, retention modes."""


@dataclass(frozen=True)
class Wanted:
    """What a bucket is to be."""

    name: str
    location: str
    key_arn: str
    retention_days: int | None
    log_delivery: bool


class BucketApi:
    """One bucket. Every call names the account that is to own it: a namesake elsewhere answers 403."""

    def __init__(self, api: Api, wanted: Wanted) -> None:
        self.api, self.wanted = api, wanted
        self._aws = not api.cloud.card.endpoints_required
        self._names: dict[str, Any] = {"Bucket": wanted.name}
        if self._aws:
            self._names["ExpectedBucketOwner"] = api.cloud.account

    def location(self) -> str | None:
        """The region that it is in; None where there is none. Raises Refused where it is another account's."""
        name = self.wanted.name
        try:
            answer = self.api.call("s3", "HeadBucket", **self._names)
        except CloudError as error:
            if error.kind == "absent":
                return None
            if error.kind == "denied":
                raise Refused(
                    f"bucket {name} exists already and belongs to another account, or s3:ListBucket on it is missing; "
                    "it was not touched"
                ) from error
            raise
        if answer.get("BucketRegion"):
            return str(answer["BucketRegion"])
        said = str(self.api.call("s3", "GetBucketLocation", **self._names).get("LocationConstraint") or "")
        return OLD_NAMES.get(said, said)

    def make(self, mine: Mapping[str, str]) -> tuple[str, bool]:
        """Its location, and whether it was made just now."""
        wanted, params = self.wanted, dict[str, Any]()
        where: dict[str, Any] = {} if wanted.location == UNNAMED else {"LocationConstraint": wanted.location}
        if self._aws:
            where["Tags"] = tags.pairs(mine)  # other makers' stores take no tags here
        if where:
            params["CreateBucketConfiguration"] = where
        if wanted.retention_days is not None:
            params["ObjectLockEnabledForBucket"] = True

        def find() -> tuple[str, bool] | None:
            there = self.location()
            return None if there is None else (there, False)

        return self.api.create(
            "s3", "CreateBucket", find, lambda _: (wanted.location, True), Bucket=wanted.name, **params
        )

    def tags(self) -> dict[str, str]:
        return tags.read((self._read("GetBucketTagging") or {}).get("TagSet"))

    def mark(self, found: Mapping[str, str], mine: Mapping[str, str]) -> None:
        """Ours beside those that others gave it: a set replaces them all."""
        self._put("PutBucketTagging", Tagging={"TagSet": tags.pairs({**found, **mine})})

    def settings(self, *, fresh: bool = False, every: bool = False) -> list[Setting]:
        """In the order in which they are put: the lock needs versions. `fresh`: nothing is set yet, and not read.

        Four reads. A lock keeps versions on for ever, so that of the two only the lock is read, unless `every`.
        Source: S3 User Guide, Object Lock considerations.
        """
        wanted, keeps = self.wanted, self.wanted.retention_days is not None
        chosen: list[tuple[str, Callable[[], Any], Any, Callable[[Any], object]]] = [
            ("encryption", self._encryption, _encryption(wanted.key_arn), self._put_encryption),
            ("public_access", self._public_access, BLOCKED, self._put_public_access),
            ("policy", self._policy, policies.plain(self._wanted_policy()), self._put_policy),
        ]
        if every or fresh or not keeps:
            chosen.insert(0, ("versioning", self._versioning, "Enabled", self._put_versioning))
        if keeps or (every and not fresh):
            chosen.append(("retention", self._retention, _retention(wanted.retention_days), self._put_retention))
        found = [None] * len(chosen) if fresh else owned.at_once(*(read for _, read, _, _ in chosen))
        return [
            Setting(field, is_now, value, partial(put, value))
            for (field, _, value, put), is_now in zip(chosen, found, strict=True)
        ]

    def delete(self) -> None:
        try:
            owned.removed(self.api, "s3", "DeleteBucket", **self._names)
        except CloudError as error:
            if error.kind != "in_use":
                raise
            raise Refused(
                f"bucket {self.wanted.name} still holds objects (not counted; old versions and delete markers are "
                "some too), and data is never deleted here; empty it, once nobody needs them and no retention holds "
                "them, and destroy again"
            ) from error

    # -- one setting each

    def _versioning(self) -> Any:
        return (self._read("GetBucketVersioning") or {}).get("Status", "")

    def _put_versioning(self, status: str) -> None:
        self._put("PutBucketVersioning", VersioningConfiguration={"Status": status})

    def _encryption(self) -> Any:
        answer = self._read("GetBucketEncryption") or {}
        rules = answer.get("ServerSideEncryptionConfiguration", {}).get("Rules") or [{}]
        by_default = rules[0].get("ApplyServerSideEncryptionByDefault", {})
        keyed = {name: by_default.get(name) for name in ("SSEAlgorithm", "KMSMasterKeyID")}
        return {**keyed, "BucketKeyEnabled": bool(rules[0].get("BucketKeyEnabled"))}

    def _put_encryption(self, wanted: dict[str, Any]) -> None:
        by_default = {name: wanted[name] for name in ("SSEAlgorithm", "KMSMasterKeyID")}
        rule = {"ApplyServerSideEncryptionByDefault": by_default, "BucketKeyEnabled": wanted["BucketKeyEnabled"]}
        self._put("PutBucketEncryption", ServerSideEncryptionConfiguration={"Rules": [rule]})

    def _public_access(self) -> Any:
        found = (self._read("GetPublicAccessBlock") or {}).get("PublicAccessBlockConfiguration", {})
        return {name: bool(found.get(name)) for name in BLOCKED}

    def _put_public_access(self, wanted: dict[str, bool]) -> None:
        self._put("PutPublicAccessBlock", PublicAccessBlockConfiguration=wanted)

    def _wanted_policy(self) -> policies.Document:
        return policies.bucket(self.api.cloud, self.wanted.name, log_delivery=self.wanted.log_delivery)

    def _policy(self) -> Any:
        return policies.plain((self._read("GetBucketPolicy") or {}).get("Policy"))

    def _put_policy(self, _: Any) -> None:
        self._put("PutBucketPolicy", Policy=policies.text(self._wanted_policy()))

    def _retention(self) -> Any:
        lock = (self._read("GetObjectLockConfiguration") or {}).get("ObjectLockConfiguration", {})
        by_default = lock.get("Rule", {}).get("DefaultRetention")
        return by_default and {name: by_default[name] for name in ("Mode", "Days", "Years") if by_default.get(name)}

    def _put_retention(self, wanted: dict[str, Any] | None) -> None:
        rule = {"Rule": {"DefaultRetention": wanted}} if wanted else {}
        self._put("PutObjectLockConfiguration", ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", **rule})

    def _read(self, action: str) -> dict[str, Any] | None:
        return owned.absent_is_none(lambda: self.api.call("s3", action, **self._names))

    def _put(self, action: str, **params: Any) -> None:
        self.api.call("s3", action, just_made=True, **self._names, **params)


def _encryption(key_arn: str) -> dict[str, Any]:
    return {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key_arn, "BucketKeyEnabled": True}


def _retention(days: int | None) -> dict[str, Any] | None:
    return None if days is None else {"Mode": LOCK_MODE, "Days": days}
