"""`aifactory:aws:Key`: the key that everything stored in a region is encrypted with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from aifactory.provider import tokens
from aifactory.provider.aws import key_api, owned, tags
from aifactory.provider.aws.api import Api
from aifactory.provider.aws.cloud import CloudInput
from aifactory.provider.aws.key_api import Key as Found
from aifactory.provider.aws.owned import Owned, Setting, Work
from aifactory.provider.journal import Journal
from aifactory.provider.resource import UNKNOWN, CheckFailure, Context, HalfMade, Refused, prop

WINDOW_DAYS = 30


@dataclass(frozen=True)
class KeyInputs:
    region: str = prop(doc="Region name.", replaces=True)
    cloud: CloudInput = prop(doc="Where its API is.")
    alias: str = prop(doc="`alias/<name>`, unique in the account and region.")
    description: str = prop("", doc="What it is for.")
    deletion_window_days: int = prop(WINDOW_DAYS, doc="From its delete until it is gone for good, 7 to 30.")
    custody: Literal["provider", "customer"] = prop(
        "provider", doc="Whose the key material is: made by the provider, or imported by the customer."
    )
    services: tuple[Literal["flow_logs", "file_system"], ...] = prop(
        (), doc="Services of the cloud that write into encrypted buckets: flow logs, a file system's repository."
    )
    token: str = prop("", doc="Identity of the resource.", check=True)


@dataclass(frozen=True)
class KeyOutputs:
    key_id: str = prop(doc="Id of the cloud.")
    key_arn: str = prop(doc="ARN.")
    origin: str = prop(doc="Where its material comes from, in the cloud's word (rule KEY-02).")
    nonce: str = prop(doc="Fence of delete and update.")


class Key(Owned[KeyInputs, KeyOutputs]):
    """A key and its alias. It is never deleted at once: its delete can be taken back for some weeks."""

    token = tokens.AWS_KEY
    Inputs = KeyInputs
    Outputs = KeyOutputs

    def id_of(self, news: KeyInputs) -> str:
        return news.alias

    def check(self, ctx: Context, news: KeyInputs, olds: KeyInputs | None) -> tuple[KeyInputs, list[CheckFailure]]:
        failures = owned.refused(
            {
                "alias": ("kms_alias", news.alias),
                "description": ("kms_description", news.description),
                "deletion_window_days": ("kms_deletion_window", news.deletion_window_days),
            }
        )
        for field in () if olds is None else ("alias", "custody"):
            old, new = getattr(olds, field), getattr(news, field)
            if old != new:
                reason = (
                    f"cannot change from {old} to {new}: that would be another key, and what is encrypted with this "
                    "one would be lost with it; fix: a region of another name, and move the data"
                )
                failures.append(CheckFailure(field, reason))
        return news, failures

    def preview(self, ctx: Context, news: KeyInputs, outs: KeyOutputs | None) -> KeyOutputs:
        return outs or KeyOutputs(UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN)

    def changed(self, api: Api, olds: KeyInputs, outs: KeyOutputs) -> tuple[str, ...]:
        """Three reads of a key that is as it should be."""
        key = key_api.describe(api, olds.alias)
        if key is not None and key.key_id == outs.key_id:
            return owned.differing(_settings(api, key, olds))
        key = key_api.describe(api, outs.key_id)
        return ("key_id",) if key is None else ("alias", *owned.differing(_settings(api, key, olds)))

    def found(self, api: Api, olds: KeyInputs, outs: KeyOutputs) -> KeyOutputs | None:
        key = key_api.describe(api, outs.key_id)
        if key is None:
            return None
        made = _outputs(key, outs.nonce)
        if key.state == key_api.NO_MATERIAL:
            raise HalfMade(self.id_of(olds), made, [_import_it(key)])
        return made

    def make(self, work: Work[KeyOutputs], news: KeyInputs) -> KeyOutputs:
        api = work.api
        key, fresh = self._there(work, news), False
        if key is None:
            if work.outs is not None:
                api.ctx.log(f"key {work.outs.key_id} is gone, and with it what was encrypted; another is made")
            origin = key_api.IMPORTED if news.custody == "customer" else key_api.MADE
            key, fresh = key_api.make(
                api, work.tags, description=news.description, origin=origin, services=news.services
            )
        if (news.custody == "customer") != (key.origin != key_api.MADE):
            raise Refused(f"key {key.key_id} has the origin {key.origin}, which is no custody of the {news.custody}")
        work.exists(_outputs(key, work.nonce))
        if not fresh and (work.outs is None or work.outs.key_id != key.key_id):
            key_api.mark(api, key, work.tags)
        if key.state not in (key_api.USABLE, key_api.NO_MATERIAL):
            key = key_api.revive(api, key)
        key_api.point(api, news.alias, key)
        if key.state == key_api.NO_MATERIAL:
            raise Refused(_import_it(key))
        owned.mend(api, _settings(api, key, news), fresh=fresh)
        return _outputs(key, work.nonce)

    def _there(self, work: Work[KeyOutputs], news: KeyInputs) -> Found | None:
        """The key of the state, else the one that has the alias. Raises Refused where that is somebody else's."""
        api, known = work.api, work.outs.key_id if work.outs is not None else ""
        key = key_api.describe(api, news.alias)
        if key is not None and key.key_id != known:
            owned.claim(f"{news.alias} (key {key.key_id})", key_api.tags_of(api, key.key_id), work.tags)
        if known and (key is None or key.key_id != known):
            return key_api.describe(api, known) or key
        return key

    def remove(self, api: Api, journal: Journal, olds: KeyInputs, outs: KeyOutputs) -> None:
        key = key_api.describe(api, outs.key_id)
        if key is None or key_api.tags_of(api, key.key_id).get(tags.TOKEN) != olds.token:
            return
        named = key_api.describe(api, olds.alias)
        if named is not None and named.key_id == key.key_id:
            owned.removed(api, "kms", "DeleteAlias", AliasName=olds.alias)
        if key.state in key_api.ENDING:
            return
        days = olds.deletion_window_days
        api.call("kms", "ScheduleKeyDeletion", KeyId=key.key_id, PendingWindowInDays=days)
        api.ctx.log(
            f"key {key.key_id} is gone for good in {days} days, with all that is encrypted with it; "
            f"until then: aws kms cancel-key-deletion --key-id {key.key_id}"
        )


def _settings(api: Api, key: Found, inputs: KeyInputs) -> list[Setting]:
    """A key that cannot be used has its state to be mended first, and no other setting can be trusted."""
    if key.state != key_api.USABLE:
        return [Setting("state", key.state, key_api.USABLE, lambda: key_api.revive(api, key))]
    return key_api.settings(api, key, inputs.description, inputs.services)


def _import_it(key: Found) -> str:
    return (
        f"key {key.key_id} waits for its material; import it (KMS API: GetParametersForImport, then "
        "ImportKeyMaterial), and run up again"
    )


def _outputs(key: Found, nonce: str) -> KeyOutputs:
    return KeyOutputs(key.key_id, key.arn, key.origin, nonce)
