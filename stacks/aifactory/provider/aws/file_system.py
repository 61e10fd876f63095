"""`aifactory:aws:FileSystem`: a Lustre file system of the region, and the bucket whose objects are its files."""

from __future__ import annotations

from dataclasses import dataclass

from aifactory.provider import tokens
from aifactory.provider.aws import file_system_api as fsx
from aifactory.provider.aws import owned, tags
from aifactory.provider.aws.api import Api
from aifactory.provider.aws.cloud import CloudInput
from aifactory.provider.aws.file_system_api import FileSystem as Found
from aifactory.provider.aws.owned import Owned, Work
from aifactory.provider.journal import Journal
from aifactory.provider.resource import UNKNOWN, CheckFailure, Context, HalfMade, Refused, prop

YOUNG = "young"
"""What the journal says from a create until its end: this file system was never ready, so that it holds no files."""
FIXED = ("region", "subnet_id", "security_group", "key_arn")


@dataclass(frozen=True)
class FileSystemInputs:
    region: str = prop(doc="Region name.", replaces=True)
    cloud: CloudInput = prop(doc="Where its API is.")
    name: str = prop(doc="Its tag `Name`: file systems have no name of their own.")
    capacity_gib: int = prop(doc="Grows in place, never shrinks.")
    throughput_mb_s_per_tib: int = prop(doc="MB/s for each TiB; changes in place.")
    subnet_id: str = prop(doc="Where its servers stand.", replaces=True)
    security_group: str = prop(doc="Who may speak to them.", replaces=True)
    key_arn: str = prop(doc="Key that its files are encrypted with.", replaces=True)
    bucket: str = prop("", doc="Bucket whose objects are its files; empty = none.")
    delete_data: bool = prop(False, doc="Its delete takes the files with it; otherwise it refuses.")
    token: str = prop("", doc="Identity of the resource.", check=True)


@dataclass(frozen=True)
class FileSystemOutputs:
    file_system_id: str = prop(doc="Id of the cloud.")
    dns_name: str = prop(doc="Name of the server that is mounted from.")
    mount_name: str = prop(doc="Name of the file system on that server.")
    nonce: str = prop(doc="Fence of delete and update.")


class FileSystem(Owned[FileSystemInputs, FileSystemOutputs]):
    """Made in some ten minutes, grown in some more. Its delete refuses unless the spec says that files may go."""

    token = tokens.AWS_FILE_SYSTEM
    Inputs = FileSystemInputs
    Outputs = FileSystemOutputs

    def id_of(self, news: FileSystemInputs) -> str:
        return news.name

    def check(
        self, ctx: Context, news: FileSystemInputs, olds: FileSystemInputs | None
    ) -> tuple[FileSystemInputs, list[CheckFailure]]:
        failures = owned.refused(
            {
                "capacity_gib": ("fsx_lustre_capacity", news.capacity_gib),
                "throughput_mb_s_per_tib": ("fsx_lustre_throughput", news.throughput_mb_s_per_tib),
            }
        )
        if olds is None:
            return news, failures
        if news.capacity_gib is not UNKNOWN and news.capacity_gib < olds.capacity_gib:
            reason = f"{news.capacity_gib} is less than the {olds.capacity_gib} GiB that there are; it cannot shrink"
            failures.append(CheckFailure("capacity_gib", reason))
        if news.delete_data:
            return news, failures
        fixed = {field: (getattr(olds, field), getattr(news, field)) for field in FIXED}
        fixed["cloud"] = (owned.which(olds.cloud), owned.which(news.cloud))
        for field, (old, new) in fixed.items():
            if new is not UNKNOWN and new != old:
                reason = (
                    f"cannot change from {old} to {new}: that would be another file system, and the files of this one "
                    "would be deleted with it; fix: save them, and set delete_data: true"
                )
                failures.append(CheckFailure(field, reason))
        return news, failures

    def preview(self, ctx: Context, news: FileSystemInputs, outs: FileSystemOutputs | None) -> FileSystemOutputs:
        return outs or FileSystemOutputs(UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN)

    def changed(self, api: Api, olds: FileSystemInputs, outs: FileSystemOutputs) -> tuple[str, ...]:
        """One read, and one more where there is a bucket. A file system that somebody made larger stays so."""
        there, joined = owned.at_once(
            lambda: fsx.one(api, outs.file_system_id), lambda: _joined(api, outs.file_system_id, olds.bucket)
        )
        if not isinstance(there, Found) or there.lifecycle == fsx.ENDING:
            return ("file_system_id",)
        wrong = {
            "lifecycle": there.lifecycle in (*fsx.BROKEN, "CREATING"),
            "capacity_gib": max(there.capacity_gib, there.growing_to) < olds.capacity_gib,
            "throughput_mb_s_per_tib": there.throughput != olds.throughput_mb_s_per_tib,
            "bucket": not joined,
        }
        return tuple(field for field, is_wrong in wrong.items() if is_wrong)

    def found(self, api: Api, olds: FileSystemInputs, outs: FileSystemOutputs) -> FileSystemOutputs | None:
        there = fsx.one(api, outs.file_system_id)
        if there is None or there.lifecycle == fsx.ENDING:
            return None
        made = _outputs(there, outs.nonce)
        if there.lifecycle in (*fsx.BROKEN, "CREATING"):
            reason = f"file system {there.id} is {there.lifecycle} {there.failure}".rstrip()
            raise HalfMade(self.id_of(olds), made, [reason])
        return made

    def make(self, work: Work[FileSystemOutputs], news: FileSystemInputs) -> FileSystemOutputs:
        api, mine = work.api, {**work.tags, "Name": news.name}
        there = self._there(work, news, mine)
        work.exists(_outputs(there, work.nonce))
        fsx.mark(api, there, mine)
        there = fsx.settled(api, there.id)
        if work.journal.data.pop(YOUNG, None):
            work.journal.save()
        there = self._resized(work, there, news)
        work.exists(_outputs(there, work.nonce))
        self._join(work, there.id, news.bucket)
        return _outputs(there, work.nonce)

    def _there(self, work: Work[FileSystemOutputs], news: FileSystemInputs, mine: dict[str, str]) -> Found:
        """The file system of the state, one with this resource's tags, or a new one."""
        api, journal = work.api, work.journal
        there = fsx.one(api, work.outs.file_system_id) if work.outs is not None else None
        if there is not None and there.lifecycle != fsx.ENDING and not _stillborn(journal, there):
            return there
        if there is not None and _stillborn(journal, there):
            api.ctx.log(f"file system {there.id} could not be made ({there.failure}); it is made again")
            fsx.remove(api, there)
        elif work.outs is not None:
            api.ctx.log(f"file system {work.outs.file_system_id} is gone, and with it its files; another is made")
        order = fsx.Order(
            news.capacity_gib, news.throughput_mb_s_per_tib, news.subnet_id, news.security_group, news.key_arn
        )
        made, fresh = fsx.make(api, order, mine, work.client_token("file-system"))
        if fresh:
            journal.data[YOUNG] = made.id
        work.done("file-system")
        return made

    def _resized(self, work: Work[FileSystemOutputs], there: Found, news: FileSystemInputs) -> Found:
        """Larger, faster or slower as wanted. What was asked for before a run was stopped is not asked for again."""
        api, gib, pace = work.api, news.capacity_gib, news.throughput_mb_s_per_tib
        if there.capacity_gib < gib:
            if there.growing_to != gib:
                fsx.update(api, there.id, work.client_token(f"capacity/{gib}"), StorageCapacity=gib)
                work.done(f"capacity/{gib}")
            api.ctx.log(f"capacity_gib: {there.capacity_gib} → {gib}")
            there = fsx.settled(api, there.id, capacity_gib=gib)
        if there.throughput != pace:
            change = {"PerUnitStorageThroughput": pace}
            fsx.update(api, there.id, work.client_token(f"throughput/{pace}"), LustreConfiguration=change)
            work.done(f"throughput/{pace}")
            api.ctx.log(f"throughput_mb_s_per_tib: {there.throughput} → {pace}")
            there = fsx.settled(api, there.id)
        return there

    def _join(self, work: Work[FileSystemOutputs], file_system_id: str, bucket: str) -> None:
        """Lets go of buckets that this resource joined before, and joins the one that is wanted."""
        api = work.api
        have = fsx.repositories(api, file_system_id)
        for other in have:
            if other.bucket != bucket and owned.is_ours(other.tags, work.tags):
                fsx.disconnect(api, file_system_id, other)
                api.ctx.log(f"bucket: {other.bucket} → {bucket or 'none'}")
        if bucket:
            fsx.connect(api, file_system_id, bucket, work.tags, work.client_token("repository"))
            if all(other.bucket != bucket for other in have):
                work.done("repository")

    def remove(self, api: Api, journal: Journal, olds: FileSystemInputs, outs: FileSystemOutputs) -> None:
        there = fsx.one(api, outs.file_system_id)
        if there is None or there.tags.get(tags.TOKEN) != olds.token:
            return
        if not olds.delete_data and there.lifecycle != fsx.ENDING and journal.data.get(YOUNG) != there.id:
            raise Refused(
                f"file system {there.id} ({olds.name}) holds files, and they are deleted only where the region file "
                "says so; fix: delete_data: true for this storage, run up, and destroy again"
            )
        fsx.remove(api, there)


def _stillborn(journal: Journal, there: Found) -> bool:
    """Whether its create failed for good: it was never ready, and there is nothing in it."""
    return there.lifecycle == "FAILED" and journal.data.get(YOUNG) == there.id


def _joined(api: Api, file_system_id: str, bucket: str) -> bool:
    """Whether that bucket is its repository, and works; true where none is wanted."""
    if not bucket:
        return True
    have = owned.absent_is_none(lambda: fsx.repositories(api, file_system_id)) or []
    return any(found.bucket == bucket and found.lifecycle not in fsx.BROKEN for found in have)


def _outputs(there: Found, nonce: str) -> FileSystemOutputs:
    return FileSystemOutputs(there.id, there.dns_name, there.mount_name, nonce)
