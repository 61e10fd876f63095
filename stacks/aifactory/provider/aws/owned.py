"""What resources of a cloud do alike: the fence, what half-made means, whose an object is, several calls at once.

A resource says four things: where the world is no longer as the state says (`changed`), what is there (`found`), what
is made, adopted and mended (`make`), what is removed (`remove`). `make` says `work.exists` as soon as something is
there: from then on whatever stops it is HalfMade; before that, nothing was begun.
"""

from __future__ import annotations

import hashlib
import json
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from aifactory import catalog
from aifactory.provider.aws import tags
from aifactory.provider.aws.api import Api
from aifactory.provider.aws.cloud import CloudInput
from aifactory.provider.aws.failures import CloudError, told
from aifactory.provider.journal import Journal
from aifactory.provider.resource import UNKNOWN, Cancelled, CheckFailure, Context, Diff, HalfMade, Refused, Resource

AT_ONCE = 16
"""Calls at the same time."""
SHOWN = 200
"""Characters of a value in a line of what was mended."""


class Given(Protocol):
    """Inputs that every resource of a cloud has."""

    @property
    def region(self) -> str: ...
    @property
    def cloud(self) -> CloudInput: ...
    @property
    def token(self) -> str: ...


class Made(Protocol):
    """The output that every resource of a cloud has."""

    @property
    def nonce(self) -> str: ...


I = TypeVar("I", bound=Given)  # noqa: E741
O = TypeVar("O", bound=Made)  # noqa: E741
T = TypeVar("T")


@dataclass
class Work(Generic[O]):
    """One create or update under way. `outs` is None in a create."""

    id: str
    api: Api
    journal: Journal
    tags: dict[str, str]
    """What every object of this resource carries."""
    outs: O | None
    half: O | None = None

    def exists(self, outs: O) -> None:
        """Something of it is there, with these outputs as far as they are known."""
        self.half = outs

    @property
    def nonce(self) -> str:
        return self.journal.nonce

    def client_token(self, part: str) -> str:
        """For APIs that take one: the same until `done` says that the part was made, another for the next of its like.

        A cloud remembers tokens of objects that are long gone, and answers with what they were.
        """
        text = "\0".join((self.journal.token, part, self.nonce, str(self.journal.data.get(_count(part), 0))))
        return hashlib.sha256(text.encode()).hexdigest()[:48]

    def done(self, part: str) -> None:
        """The part was made with its client token."""
        self.journal.data[_count(part)] = self.journal.data.get(_count(part), 0) + 1
        self.journal.save()


def _count(part: str) -> str:
    return f"made/{part}"


class Owned(Resource[I, O]):
    """The verbs, from what a resource says. Diff and read take a few reads; the others wait where the cloud does."""

    name_stays: ClassVar[bool] = False
    """A replacement has the same name in the cloud, so the old object goes first."""

    @abstractmethod
    def id_of(self, news: I) -> str:
        """The engine's id, known beforehand; it never changes."""

    @abstractmethod
    def changed(self, api: Api, olds: I, outs: O) -> tuple[str, ...]:
        """Paths at which the world is no longer what the state says; as few reads as can be."""

    @abstractmethod
    def found(self, api: Api, olds: I, outs: O) -> O | None:
        """Outputs as the world has them; None when it is gone. Raises HalfMade while it is not ready."""

    @abstractmethod
    def make(self, work: Work[O], news: I) -> O:
        """Adopts what is there, makes what is missing, mends what drifted. Safe to repeat."""

    @abstractmethod
    def remove(self, api: Api, journal: Journal, olds: I, outs: O) -> None:
        """Removes what carries the token of `olds`, and nothing else. Gone already is fine."""

    def diff(self, ctx: Context, id: str, olds: I, outs: O, news: I) -> Diff:
        """Field by field, and a look at the world. Of the cloud only key, region and account say which object it is."""
        plain = super().diff(ctx, id, olds, outs, news)
        replaces = plain.replaces
        if which(olds.cloud) != which(news.cloud):
            replaces = (*replaces, "cloud")
        if replaces:
            return Diff(plain.updates, replaces, delete_before_replace=self.name_stays)
        with told():
            return Diff(plain.updates, (), self.changed(Api(ctx, news.cloud), olds, outs))

    def create(self, ctx: Context, news: I) -> tuple[str, O]:
        id = self.id_of(news)
        with Journal(news.region, news.token).held(ctx) as journal:
            known = journal.exists
            journal.new_nonce()
            mine = tags.of(ctx, news.region, news.token)
            try:
                return id, self._made(Work(id, Api(ctx, news.cloud), journal, mine, None), news)
            except Refused:
                if not known and not journal.data:
                    journal.remove()
                raise

    def read(self, ctx: Context, id: str, olds: I | None, outs: O | None) -> tuple[I, O] | None:
        """What is there now. Nothing is imported: an id alone does not say in which cloud it is."""
        if olds is None or outs is None:
            return None
        with told():
            found = self.found(Api(ctx, olds.cloud), olds, outs)
        return None if found is None else (olds, found)

    def update(self, ctx: Context, id: str, olds: I, outs: O, news: I) -> O:
        with Journal(news.region, news.token).held(ctx) as journal:
            if not journal.owns(outs.nonce):
                ctx.log(f"{id} belongs to a newer create; left alone")
                return outs
            journal.nonce = outs.nonce  # where the journal was lost, it begins anew with what the state knows
            mine = tags.of(ctx, news.region, news.token)
            return self._made(Work(id, Api(ctx, news.cloud), journal, mine, outs), news)

    def delete(self, ctx: Context, id: str, olds: I, outs: O) -> None:
        with Journal(olds.region, olds.token).held(ctx) as journal:
            if not journal.owns(outs.nonce):
                ctx.log(f"{id} belongs to a newer create; nothing was deleted")
                return
            with told():
                self.remove(Api(ctx, olds.cloud), journal, olds, outs)
            journal.remove()

    def _made(self, work: Work[O], news: I) -> O:
        try:
            return self.make(work, news)
        except (Cancelled, CloudError, Refused) as stop:
            if work.half is not None:
                raise HalfMade(work.id, work.half, [str(stop)]) from stop
            if isinstance(stop, CloudError):
                raise Refused(str(stop)) from stop
            raise


def which(cloud: CloudInput) -> tuple[str, str, str]:
    """What of a cloud says which one it is; the rest says how it is reached."""
    return cloud.key, cloud.region, cloud.account


def refused(checks: Mapping[str, tuple[str, Any]]) -> list[CheckFailure]:
    """A failure for each value that its service does not take; `checks`: field → (key of the limits table, value)."""
    found = []
    for field, (key, value) in checks.items():
        if value is not UNKNOWN and (reason := catalog.refusal(catalog.limits()[key], value)):
            found.append(CheckFailure(field, reason))
    return found


def is_ours(found: Mapping[str, str], mine: Mapping[str, str]) -> bool:
    """Whether an object's tags say that it is this resource's, of this token or of an earlier one."""
    if found.get(tags.TOKEN) == mine[tags.TOKEN]:
        return True
    return all(found.get(name) == mine[name] for name in (tags.DEPLOYMENT, tags.URN))


def claim(what: str, found: Mapping[str, str], mine: Mapping[str, str]) -> None:
    """Raises Refused, with the holder, where an object of our name is somebody else's."""
    if not is_ours(found, mine):
        raise Refused(f"{what} exists already and belongs to {tags.holder(found)}; it was not touched")


def at_once(*jobs: Callable[[], T]) -> list[T]:
    """What the jobs return, in order. They run at the same time; the first failure is raised when all have ended."""
    if not jobs:
        return []
    with ThreadPoolExecutor(max_workers=min(AT_ONCE, len(jobs))) as pool:
        running = [pool.submit(job) for job in jobs]
    return [job.result() for job in running]


def absent_is_none(call: Callable[[], T]) -> T | None:
    """What a read returns; None where the cloud says that it is not there."""
    try:
        return call()
    except CloudError as error:
        if error.kind == "absent":
            return None
        raise


def removed(api: Api, service: str, action: str, *, busy_s: float = 0.0, **params: Any) -> None:
    """Deletes; gone already is fine; what is still in use is asked again for `busy_s` seconds."""
    end = time.monotonic() + busy_s
    while True:
        try:
            api.call(service, action, **params)
            return
        except CloudError as error:
            if error.kind == "absent":
                return
            if error.kind != "in_use" or time.monotonic() > end:
                raise
            api.ctx.progress(f"still in use: {error.message or error.code}")
        api.ctx.wait(2.0)


@dataclass(frozen=True)
class Setting:
    """One thing about an object that can be read, compared and put right."""

    field: str
    found: Any
    wanted: Any
    put: Callable[[], object]


def differing(settings: Iterable[Setting]) -> tuple[str, ...]:
    return tuple(setting.field for setting in settings if setting.found != setting.wanted)


def mend(api: Api, settings: Iterable[Setting], *, fresh: bool = False) -> None:
    """Puts right what differs, all at once, and says so, unless the object is `fresh` and has nothing yet."""
    wrong = [setting for setting in settings if setting.found != setting.wanted]
    at_once(*(setting.put for setting in wrong))
    for setting in () if fresh else wrong:
        api.ctx.log(f"{setting.field}: {_shown(setting.found)} → {_shown(setting.wanted)}")


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
