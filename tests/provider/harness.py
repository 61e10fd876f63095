"""The engine's part played in one process, for tests of resources: `Engine(resource).up({...})`.

Real: the resource, its journal, the identity rules, the wire conversion. Not real: Pulumi and gRPC
(tests/provider/test_engine_*.py have those). `AIFACTORY_HOME` must point into a temporary folder.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aifactory.provider import coerce, identity, wire
from aifactory.provider.journal import live_nonce
from aifactory.provider.resource import CheckFailure, Context, Diff, HalfMade, Resource

DEPLOYMENT = "t-deployment"


def urn(resource: Resource[Any, Any], name: str = "it") -> str:
    return f"urn:pulumi:test::aifactory::{resource.token}::{name}"


@dataclass
class Lines:
    """What a verb said: final facts and status lines, in order."""

    log: list[str] = field(default_factory=list)
    progress: list[str] = field(default_factory=list)


def context(
    resource: Resource[Any, Any] | None = None,
    *,
    name: str = "it",
    preview: bool = False,
    deployment: str = DEPLOYMENT,
    timeout_s: float | None = None,
    cancel: threading.Event | None = None,
    lines: Lines | None = None,
) -> Context:
    """A Context as the server makes it; what is said goes to `lines`."""
    lines = lines if lines is not None else Lines()
    return Context(
        urn=urn(resource, name) if resource else f"urn:pulumi:test::aifactory::test:index:Thing::{name}",
        name=name,
        preview=preview,
        deployment=deployment,
        deadline=None if timeout_s is None else time.monotonic() + timeout_s,
        cancel=cancel or threading.Event(),
        log=lines.log.append,
        progress=lines.progress.append,
    )


class CheckFailed(Exception):
    def __init__(self, failures: list[CheckFailure]) -> None:
        super().__init__("; ".join(f"{f.property}: {f.reason}" for f in failures))
        self.failures = failures


@dataclass
class State:
    """What the engine's state would hold of the resource."""

    id: str
    inputs: Any
    outputs: Any
    reasons: tuple[str, ...] = ()
    """Init errors: the next `up` calls update even without a diff."""


class Engine:
    """One resource of one stack. `state` is None while there is nothing.

    `up` with HalfMade keeps the state and raises. `forget()` is a run killed before its state was saved.
    `process()` is the next run: a new process knows no tokens of the last.
    """

    def __init__(self, resource: Resource[Any, Any], *, name: str = "it", deployment: str = DEPLOYMENT) -> None:
        self.resource, self.name, self.deployment = resource, name, deployment
        self.state: State | None = None
        self.lines = Lines()
        self.operations: list[str] = []
        """Verbs that changed something, oldest first: create, update, delete, replace."""
        self.process()

    def process(self) -> None:
        self._tokens = identity.Tokens()
        self.cancel = threading.Event()

    def forget(self) -> None:
        self.state = None
        self.process()

    def context(self, *, preview: bool = False, timeout_s: float | None = None) -> Context:
        return context(
            self.resource,
            name=self.name,
            preview=preview,
            deployment=self.deployment,
            timeout_s=timeout_s,
            cancel=self.cancel,
            lines=self.lines,
        )

    def inputs(self, values: Mapping[str, Any] | Any) -> Any:
        """An Inputs of the resource, over the wire; a mapping gives its top-level fields. Raises CheckFailed."""
        loaded = coerce.load(self.resource.Inputs, wire.decode(wire.dump(values, preview=True)))
        if loaded.failures:
            raise CheckFailed([CheckFailure(wire.show(f.path), f.reason) for f in loaded.failures])
        return loaded.value

    def over_the_wire(self, outputs: Any) -> Any:
        """The outputs as the next verb will see them. A resource whose outputs do not survive it is wrong."""
        back = coerce.load(self.resource.Outputs, wire.decode(wire.dump(outputs)), lenient=True).value
        assert "UNKNOWN" in repr(outputs) or back == outputs, f"the wire changes {outputs} into {back}"
        return back

    def check(self, values: Mapping[str, Any] | Any, *, olds: Any = None, preview: bool = False) -> Any:
        """The inputs completed as the server completes them. Raises CheckFailed."""
        news = self.inputs(values)
        if hasattr(news, "token"):
            token = self._tokens.fill(
                self.deployment,
                urn(self.resource, self.name),
                generation=getattr(news, "generation", 1),
                old_token=getattr(olds, "token", ""),
                old_generation=getattr(olds, "generation", None),
                given=news.token,
            )
            news = dataclasses.replace(news, token=token)
        news, failures = self.resource.check(self.context(preview=preview), news, olds)
        if failures:
            raise CheckFailed(failures)
        return news

    def preview(self, values: Mapping[str, Any] | Any) -> tuple[Diff | None, Any]:
        """The diff (None for a create) and the outputs as far as they are known."""
        self._tokens = identity.Tokens()
        state = self.state
        ctx = self.context(preview=True)
        news = self.check(values, olds=state.inputs if state else None, preview=True)
        if state is None:
            return None, self.resource.preview(ctx, news, None)
        diff = self.diff(news)
        outs = None if diff.replaces else state.outputs
        return diff, self.resource.preview(ctx, news, outs) if diff.changes else state.outputs

    def diff(self, news: Any) -> Diff:
        """The resource's diff, and the update that a state with a lost nonce needs, as the server asks for it."""
        state = self.state
        assert state
        found = self.resource.diff(self.context(preview=True), state.id, state.inputs, state.outputs, news)
        if self._taken_back(state) != state.outputs:
            found = dataclasses.replace(found, output_updates=(*found.output_updates, "nonce"))
        return found

    def _taken_back(self, state: State) -> Any:
        live = live_nonce(state.inputs, state.outputs)
        return state.outputs if live is None else dataclasses.replace(state.outputs, nonce=live)

    def up(self, values: Mapping[str, Any] | Any, *, timeout_s: float | None = None) -> State:
        """Creates, updates, replaces or leaves alone, as the engine would in a process of its own."""
        self._tokens = identity.Tokens()
        state = self.state
        ctx = self.context(timeout_s=timeout_s)
        if state is None:
            return self._create(ctx, self.check(values))
        news = self.check(values, olds=state.inputs)
        diff = self.diff(news)
        if diff.replaces:
            self.operations.append("replace")
            return self._replace(ctx, state, self.check(values), diff)
        if diff.changes or state.reasons:
            self.operations.append("update")
            try:
                outputs = self.resource.update(ctx, state.id, state.inputs, self._taken_back(state), news)
                self.state = State(state.id, news, self.over_the_wire(outputs))
            except HalfMade as half:
                self.state = State(half.id, news, self.over_the_wire(half.outputs), tuple(half.reasons))
                raise
        assert self.state
        return self.state

    def taint(self, values: Mapping[str, Any] | Any) -> State:
        """`up --replace URN`: one Check without olds, create, then delete of the old."""
        assert self.state
        self._tokens = identity.Tokens()
        return self._replace(self.context(), self.state, self.check(values), Diff(replaces=("taint",)))

    def refresh(self) -> State | None:
        """Reads the world into the state; None when the object is gone."""
        assert self.state
        found = self.resource.read(self.context(), self.state.id, self.state.inputs, self.state.outputs)
        self.state = State(self.state.id, found[0], self.over_the_wire(found[1])) if found else None
        return self.state

    def destroy(self) -> None:
        """Deletes what the state holds; nothing where it holds nothing."""
        if self.state is not None:
            self._delete(self.context(), self.state)
            self.state = None

    def _replace(self, ctx: Context, old: State, news: Any, diff: Diff) -> State:
        if diff.delete_before_replace:
            self._delete(ctx, old)
            self.state = None
            return self._create(ctx, news)
        new = self._create(ctx, news)
        self._delete(ctx, old)
        return new

    def _create(self, ctx: Context, news: Any) -> State:
        self.operations.append("create")
        try:
            id_, outputs = self.resource.create(ctx, news)
            self.state = State(id_, news, self.over_the_wire(outputs))
        except HalfMade as half:
            self.state = State(half.id, news, self.over_the_wire(half.outputs), tuple(half.reasons))
            raise
        return self.state

    def _delete(self, ctx: Context, old: State) -> None:
        self.operations.append("delete")
        self.resource.delete(ctx, old.id, old.inputs, old.outputs)
