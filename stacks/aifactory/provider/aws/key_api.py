"""KMS as a key needs it: reads as dataclasses, and what puts a key right.

KMS has no client token and no search by tag: a key without alias is found by asking every key for its tags. That
happens once, when a region's key is made, or after an answer was lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from aifactory.provider.aws import owned, policies, tags
from aifactory.provider.aws.api import Api
from aifactory.provider.aws.failures import CloudError
from aifactory.provider.aws.owned import Setting

USABLE = "Enabled"
ENDING = ("PendingDeletion", "PendingReplicaDeletion")
MADE = "AWS_KMS"
"""Origin of keys whose material KMS made: it rotates no others. Source: KMS API, EnableKeyRotation."""
IMPORTED = "EXTERNAL"
"""Origin of keys whose material the customer brings. Source: KMS API, CreateKey."""
NO_MATERIAL = "PendingImport"


@dataclass(frozen=True)
class Key:
    """What DescribeKey says."""

    key_id: str
    arn: str
    origin: str
    state: str
    description: str


def describe(api: Api, name: str, *, just_made: bool = False) -> Key | None:
    """The key behind an id, an ARN or an alias."""
    answer = owned.absent_is_none(lambda: api.call("kms", "DescribeKey", just_made=just_made, KeyId=name))
    return None if answer is None else _key(answer["KeyMetadata"])


def _key(found: dict[str, Any]) -> Key:
    return Key(
        str(found["KeyId"]), str(found["Arn"]), str(found.get("Origin", "")), str(found.get("KeyState", "")),
        str(found.get("Description", "")),
    )  # fmt: skip


def tags_of(api: Api, key_id: str) -> dict[str, str]:
    listed = api.pages("kms", "ListResourceTags", "Tags", KeyId=key_id)
    return tags.read(listed, "TagKey", "TagValue")


def by_tags(api: Api, mine: dict[str, str]) -> Key | None:
    """This resource's key, whatever its alias; keys that are being deleted are not it."""
    ids = [str(item["KeyId"]) for item in api.pages("kms", "ListKeys", "Keys")]

    def ours(key_id: str) -> Key | None:
        try:
            if not owned.is_ours(tags_of(api, key_id), mine):
                return None
        except CloudError as error:
            if error.kind in ("absent", "denied"):  # another's key, whose policy lets nobody look
                return None
            raise
        return describe(api, key_id)

    found = owned.at_once(*(lambda key_id=key_id: ours(key_id) for key_id in ids))
    return next((key for key in found if key is not None and key.state not in ENDING), None)


def mark(api: Api, key: Key, mine: dict[str, str]) -> None:
    """Gives a key that was found the tags of this resource's token."""
    if tags_of(api, key.key_id).get(tags.TOKEN) != mine[tags.TOKEN]:
        api.call("kms", "TagResource", KeyId=key.key_id, Tags=tags.pairs(mine, "TagKey", "TagValue"))


def make(api: Api, mine: dict[str, str], *, description: str, origin: str, services: Iterable[str]) -> tuple[Key, bool]:
    """This resource's key, and whether it was made just now."""

    def find() -> tuple[Key, bool] | None:
        key = by_tags(api, mine)
        return None if key is None else (key, False)

    return api.create(
        "kms",
        "CreateKey",
        find,
        lambda answer: (_key(answer["KeyMetadata"]), True),
        Description=description,
        Origin=origin,
        Policy=policies.text(policies.key(api.cloud, services)),
        Tags=tags.pairs(mine, "TagKey", "TagValue"),
    )


def point(api: Api, alias: str, key: Key) -> None:
    """Makes the alias, or moves it; it is this resource's already where it is there."""
    there = api.create(
        "kms",
        "CreateAlias",
        lambda: describe(api, alias),
        lambda _: key,
        just_made=True,
        AliasName=alias,
        TargetKeyId=key.key_id,
    )
    if there.key_id != key.key_id:
        api.call("kms", "UpdateAlias", AliasName=alias, TargetKeyId=key.key_id)


def revive(api: Api, key: Key) -> Key:
    """From any state in which a key is of no use while its material still is there."""
    if key.state in ENDING:
        api.call("kms", "CancelKeyDeletion", KeyId=key.key_id)
    api.call("kms", "EnableKey", KeyId=key.key_id)
    api.ctx.log(f"state: {key.state} → {USABLE}")
    return replace(key, state=USABLE)


def settings(api: Api, key: Key, description: str, services: Iterable[str]) -> list[Setting]:
    """What can be put right of a key that is usable. Two reads, at the same time."""
    rotates = key.origin == MADE
    wanted = policies.key(api.cloud, services)

    def rotation() -> Any:
        return api.call("kms", "GetKeyRotationStatus", just_made=True, KeyId=key.key_id)["KeyRotationEnabled"]

    def policy() -> Any:
        return policies.plain(api.call("kms", "GetKeyPolicy", just_made=True, KeyId=key.key_id)["Policy"])

    found = owned.at_once(policy, *([rotation] if rotates else []))
    put_policy: dict[str, Any] = {"KeyId": key.key_id, "Policy": policies.text(wanted)}
    put_text: dict[str, Any] = {"KeyId": key.key_id, "Description": description}
    made = [
        Setting("policy", found[0], policies.plain(wanted), lambda: api.call("kms", "PutKeyPolicy", **put_policy)),
        Setting(
            "description", key.description, description, lambda: api.call("kms", "UpdateKeyDescription", **put_text)
        ),
    ]
    if rotates:
        rotate = Setting("rotation", found[1], True, lambda: api.call("kms", "EnableKeyRotation", KeyId=key.key_id))
        made.append(rotate)
    return made
