"""`aifactory:aws:Bucket`: objects of a region, encrypted with its key, in versions, for nobody without TLS."""

from __future__ import annotations

from dataclasses import dataclass

from aifactory.provider import tokens
from aifactory.provider.aws import owned, tags
from aifactory.provider.aws.api import Api
from aifactory.provider.aws.bucket_api import BucketApi, Wanted
from aifactory.provider.aws.cloud import CloudInput
from aifactory.provider.aws.owned import Owned, Work
from aifactory.provider.journal import Journal
from aifactory.provider.resource import UNKNOWN, CheckFailure, Context, Refused, prop

ASKED = "asked"
"""What the journal says from right before a bucket is asked for until its tags are on it: a bucket of that name that
has no tags is ours then. Stores of other makers take no tags with the create."""


@dataclass(frozen=True)
class BucketInputs:
    region: str = prop(doc="Region name.", replaces=True)
    cloud: CloudInput = prop(doc="Where its API is.")
    bucket: str = prop(doc="Name, unique in the partition.", replaces=True)
    key_arn: str = prop(doc="Key that every object is encrypted with by default.")
    location: str = prop(doc="Region of the cloud that it must be in (rule LOC-04).")
    retention_days: int | None = prop(None, doc="Nobody deletes an object for that long; none = no lock.")
    log_delivery: bool = prop(False, doc="The cloud may write flow logs into it.")
    token: str = prop("", doc="Identity of the resource.", check=True)


@dataclass(frozen=True)
class BucketOutputs:
    bucket: str = prop(doc="Name.")
    arn: str = prop(doc="ARN.")
    location: str = prop(doc="Region of the cloud that it is in, as the cloud says.")
    nonce: str = prop(doc="Fence of delete and update.")


class Bucket(Owned[BucketInputs, BucketOutputs]):
    """A bucket and its settings. Its delete refuses while anything is in it."""

    token = tokens.AWS_BUCKET
    Inputs = BucketInputs
    Outputs = BucketOutputs
    name_stays = True

    def id_of(self, news: BucketInputs) -> str:
        return news.bucket

    def check(
        self, ctx: Context, news: BucketInputs, olds: BucketInputs | None
    ) -> tuple[BucketInputs, list[CheckFailure]]:
        failures = owned.refused({"bucket": ("s3_bucket", news.bucket)})
        if news.retention_days is not None:
            failures += owned.refused({"retention_days": ("s3_retention", news.retention_days)})
        if news.location not in (UNKNOWN, news.cloud.region):
            reason = f"{news.location} is not {news.cloud.region}, where the API is that makes it [LOC-04]"
            failures.append(CheckFailure("location", reason))
        return news, failures

    def preview(self, ctx: Context, news: BucketInputs, outs: BucketOutputs | None) -> BucketOutputs:
        if outs is not None or news.bucket is UNKNOWN:
            return outs or BucketOutputs(UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN)
        return BucketOutputs(news.bucket, news.cloud.arn("s3", news.bucket), news.location, UNKNOWN)

    def changed(self, api: Api, olds: BucketInputs, outs: BucketOutputs) -> tuple[str, ...]:
        """Five reads. Raises Refused where the bucket is not where it was declared."""
        there = _api(api, olds)
        where = there.location()
        if where is None:
            return ("bucket",)
        _in_place(olds, where)
        return owned.differing(there.settings())

    def found(self, api: Api, olds: BucketInputs, outs: BucketOutputs) -> BucketOutputs | None:
        where = _api(api, olds).location()
        return None if where is None else _outputs(olds, where, outs.nonce)

    def make(self, work: Work[BucketOutputs], news: BucketInputs) -> BucketOutputs:
        there, journal = _api(work.api, news), work.journal
        where, fresh = there.location(), False
        if where is None:
            if work.outs is not None:
                work.api.ctx.log(f"bucket {news.bucket} is gone, and with it its objects; another is made")
            journal.data[ASKED] = news.bucket
            journal.save()
            where, fresh = there.make(work.tags)
        outs = _outputs(news, where, work.nonce)
        if fresh:
            work.exists(outs)
        found = there.tags()
        if not _is_ours(journal, news.bucket, found, work.tags):
            owned.claim(f"bucket {news.bucket}", found, work.tags)
        _in_place(news, where)
        work.exists(outs)
        if found.get(tags.TOKEN) != news.token:
            there.mark(found, work.tags)
        if journal.data.pop(ASKED, None):
            journal.save()
        settings = there.settings(fresh=fresh, every=True)
        owned.mend(work.api, [s for s in settings if s.field != "retention"], fresh=fresh)
        owned.mend(work.api, [s for s in settings if s.field == "retention"], fresh=fresh)
        return outs

    def remove(self, api: Api, journal: Journal, olds: BucketInputs, outs: BucketOutputs) -> None:
        there = _api(api, olds)
        if there.location() is None:
            return
        found = there.tags()
        if found.get(tags.TOKEN) == olds.token or (not found and journal.data.get(ASKED) == olds.bucket):
            there.delete()


def _is_ours(journal: Journal, bucket: str, found: dict[str, str], mine: dict[str, str]) -> bool:
    return owned.is_ours(found, mine) or (not found and journal.data.get(ASKED) == bucket)


def _in_place(inputs: BucketInputs, where: str) -> None:
    if where != inputs.location:
        raise Refused(
            f"[LOC-04] bucket {inputs.bucket} is in {where}, declared is {inputs.location}; nothing was changed"
        )


def _api(api: Api, inputs: BucketInputs) -> BucketApi:
    wanted = Wanted(inputs.bucket, inputs.location, inputs.key_arn, inputs.retention_days, inputs.log_delivery)
    return BucketApi(api, wanted)


def _outputs(inputs: BucketInputs, where: str, nonce: str) -> BucketOutputs:
    return BucketOutputs(inputs.bucket, inputs.cloud.arn("s3", inputs.bucket), where, nonce)
