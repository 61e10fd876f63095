"""One region's stack: brought up, looked at, taken down through the engine's command line.

What a killed run leaves is settled before anything else: its processes, its lock, and creates of which nobody
knows what they made. Those are adopted by running the create again (the provider finds what exists by its
token) with the region file of that run, and only then forgotten. Nothing is destroyed while one is open.
"""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path
from typing import Any

from aifactory import paths
from aifactory.engine import environment, leftovers, locks, problems, stackfile, state
from aifactory.engine.command import Engine, OnEvent, Stops, listen, logs_dir
from aifactory.engine.events import Note
from aifactory.engine.outcome import Outcome, Watch
from aifactory.engine.state import Snapshot
from aifactory.errors import Exit, ProblemError, fail
from aifactory.region.spec import Region
from aifactory.toolchain import Toolchain, install_kubernetes, resolve

PARALLEL = 32
"""Operations at once, given explicitly: the engine's own default follows the number of cores, and ours wait."""

LEAST_FREE = 4 << 20
"""Bytes. A region's state is some 100 KB, compressed; the engine writes it anew for each step and keeps the last."""

CHANGE = ("--yes", "--skip-preview", "--parallel", str(PARALLEL))


def _silent(_event: object) -> None:
    return


class Stack:
    """Every method raises ProblemError for what is not a failure of the region itself (lock, passphrase, engine)."""

    def __init__(self, spec: Region, *, project: Path | None = None, toolchain: Toolchain | None = None) -> None:
        self.spec = spec
        self.name = spec.name
        self.project = project or paths.REPO
        self._toolchain = toolchain
        self._engine: Engine | None = None

    @property
    def toolchain(self) -> Toolchain:
        if self._toolchain is None:
            self._toolchain = resolve()
        return self._toolchain

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            env = environment.environment(self.spec, self.toolchain, self.project)
            self._engine = Engine(self.name, self.toolchain.pulumi, self.project, env)
        return self._engine

    # -- looking -----------------------------------------------------------------------------------------

    def exports(self) -> dict[str, str]:
        """Environment variables with which plain `pulumi` works on the same state."""
        return environment.exports(self.spec, self.toolchain, self.project)

    def exists(self) -> bool:
        """True when the stack has been made; asks the engine only where the state is not a folder here."""
        backend = environment.backend_dir(self.spec)
        if backend is None:
            return self.snapshot() is not None
        folder = backend / ".pulumi" / "stacks" / self._project_name
        return any((folder / f"{self.name}.json{suffix}").exists() for suffix in ("", ".zst", ".gz"))

    def deployment(self) -> str | None:
        """The deployment id, of the config file or, where that was lost, of the state; None before the first `up`."""
        known = stackfile.deployment(self.name)
        if known is None and self.exists() and (snapshot := self.snapshot()) is not None:
            known = snapshot.deployment
        return known

    def outputs(self, *, show_secrets: bool = False) -> dict[str, object]:
        """The stack's outputs, `[secret]` for secrets unless asked for; empty when it has never come up."""
        done = self.engine.call(
            "stack", "output", "--json", "-s", self.name, *(["--show-secrets"] if show_secrets else [])
        )
        if done.returncode == 0:
            return dict(json.loads(done.stdout or "{}"))
        if _no_stack(done.stderr):
            return {}
        raise problems.refused(self.name, done.stderr)

    def resource_outputs(self, *, show_secrets: bool = False) -> list[tuple[str, dict[str, Any]]]:
        """(type, outputs) of every resource in the state, half made ones too. For what an `up` that failed has left."""
        secrets = ["--show-secrets"] if show_secrets else []
        done = self.engine.call("stack", "export", "-s", self.name, *secrets)
        if done.returncode:
            raise problems.refused(self.name, done.stderr)
        return state.outputs(done.stdout)

    def snapshot(self) -> Snapshot | None:
        """The state, None when there is no such stack."""
        done = self.engine.call("stack", "export", "-s", self.name)
        if done.returncode == 0:
            return state.parse(done.stdout)
        if _no_stack(done.stderr):
            return None
        raise problems.refused(self.name, done.stderr)

    @property
    def _project_name(self) -> str:
        return stackfile.project_name(self.project)

    # -- making ------------------------------------------------------------------------------------------

    def ensure(self) -> Snapshot:
        """The stack with its passphrase, config file and deployment id, made where missing; its state.

        Safe to repeat and to interrupt at any point; never makes anew what exists.
        """
        paths.home().mkdir(parents=True, exist_ok=True, mode=0o700)
        backend = environment.backend_dir(self.spec)
        if backend is not None:
            backend.mkdir(parents=True, exist_ok=True)
        if environment.uses_passphrase(self.spec):
            known = backend is not None and any((backend / ".pulumi" / "stacks").glob("*/*.json*"))
            environment.ensure_passphrase(state_exists=known)
        if self.spec.platform.kind == "kubernetes":
            install_kubernetes(environment.pulumi_home())
        snapshot = self.snapshot()
        if snapshot is None:
            self._init()
            snapshot = self.snapshot()
        if snapshot is None:
            raise fail("ENG-004", f"The engine made the stack {self.name} but cannot find it.", code=Exit.FAILED)
        stackfile.move_beside_region(self.project, self.name)
        if stackfile.deployment(self.name) is None:
            self._configure(snapshot.deployment or str(uuid.uuid4()))
        return snapshot

    def _init(self) -> None:
        secrets = self.spec.state.secrets or "passphrase"
        done = self.engine.call("stack", "init", "-s", self.name, "--no-select", "--secrets-provider", secrets)
        if done.returncode and "already exists" not in done.stderr:
            raise problems.refused(self.name, done.stderr)

    def _configure(self, deployment: str) -> None:
        done = self.engine.call("config", "set", stackfile.KEY, deployment, "-s", self.name, *self._config_file())
        if done.returncode:
            raise problems.refused(self.name, done.stderr)

    def _config_file(self) -> list[str]:
        return ["--config-file", str(stackfile.path(self.name))]

    # -- running -----------------------------------------------------------------------------------------

    def preview(self, on_event: OnEvent = _silent) -> Outcome:
        """What `up` would change. Takes no lock and changes nothing but the stack's own first making."""
        self.ensure()
        with listen() as stops:
            return self._preview(on_event, stops)

    def _preview(self, on_event: OnEvent, stops: Stops) -> Outcome:
        extra = {"PULUMI_ENABLE_STREAMING_JSON_PREVIEW": "true"}
        return self._run("preview", ["preview", "--parallel", str(PARALLEL)], on_event, stops, extra)

    def up(self, on_event: OnEvent = _silent) -> Outcome:
        """Brings the region to what its file says; goes on from whatever an earlier run left."""
        with locks.hold(self.name, "up"), listen() as stops:
            snapshot = self._begin(on_event)
            if snapshot.creates and leftovers.file_changed(self.name) and self._gone_from_file(snapshot, stops):
                self._adopt(snapshot, on_event, stops)
                snapshot = self.ensure()
            leftovers.keep_file(self.name)
            outcome = self._run("up", ["up", *CHANGE], on_event, stops)
            self._forget_settled(snapshot, outcome, on_event)
            return outcome

    def refresh(self, on_event: OnEvent = _silent) -> Outcome:
        """Reads what is really there into the state."""
        with locks.hold(self.name, "refresh"), listen() as stops:
            self._begin(on_event)
            return self._run("refresh", ["refresh", *CHANGE], on_event, stops)

    def destroy(self, on_event: OnEvent = _silent) -> Outcome:
        """Removes all the region made. Adopts first what a killed run may have made, so that nothing is left over."""
        with locks.hold(self.name, "destroy"), listen() as stops:
            if not self.exists():
                return Watch("destroy").end(0, None, "", None)
            snapshot = self._begin(on_event)
            if snapshot.creates:
                outcome = self._adopt(snapshot, on_event, stops)
                left = self.ensure().creates
                if left and stops.first is None:
                    raise self._unsettled(left, outcome)
            return self._run("destroy", ["destroy", *CHANGE], on_event, stops)

    def remove(self) -> None:
        """Forgets a destroyed region: the stack, and of a local one also its config file, history and logs.

        The engine refuses while resources exist. Safe to repeat.
        """
        with locks.hold(self.name, "remove"):
            done = self.engine.call("stack", "rm", "--yes", "--preserve-config", "-s", self.name)
            if done.returncode and not _no_stack(done.stderr):
                raise problems.refused(self.name, done.stderr)
            locks.clear_run(self.name)
            if self.spec.provider.kind == "local":
                self._remove_traces()

    def _remove_traces(self) -> None:
        for path in (stackfile.path(self.name), stackfile.default_path(self.project, self.name)):
            path.unlink(missing_ok=True)
        for folder in (logs_dir(self.name), leftovers.applied_file(self.name).parent, paths.journals(self.name)):
            shutil.rmtree(folder, ignore_errors=True)
        for path in environment.engine_logs(self._project_name, self.name):
            path.unlink(missing_ok=True)
        backend = environment.backend_dir(self.spec)
        if backend is None:
            return
        for kind in ("history", "backups", "locks/organization"):
            shutil.rmtree(backend / ".pulumi" / kind / self._project_name / self.name, ignore_errors=True)
        for path in (backend / ".pulumi" / "stacks" / self._project_name).glob(f"{self.name}.json*"):
            path.unlink(missing_ok=True)

    def _begin(self, on_event: OnEvent) -> Snapshot:
        backend = environment.backend_dir(self.spec)
        if backend is not None:
            _refuse_full(backend)
        leftovers.settle(self.name, backend, self._project_name, on_event)
        return self.ensure()

    def _run(
        self, operation: str, argv: list[str], on_event: OnEvent, stops: Stops, extra_env: dict[str, str] | None = None
    ) -> Outcome:
        def run() -> Outcome:
            return self.engine.run(operation, [*argv, *self._config_file()], on_event, stops, extra_env=extra_env)

        outcome = run()
        if self._broke_dead_lock(outcome, on_event):
            outcome = run()
        if not outcome.ok and not outcome.touched:
            for failure in outcome.failures:
                known = None if failure.urn else problems.known(self.name, failure.reasons[0])
                if known is not None:
                    raise known
        return outcome

    def _broke_dead_lock(self, outcome: Outcome, on_event: OnEvent) -> bool:
        """Breaks the engine's lock of a run that was killed here, where the state is elsewhere; whether it did.

        While it stands nobody else can take one, so what is broken is what was named.
        """
        said = next((f.reasons[0] for f in outcome.failures if not f.urn and problems.LOCKED in f.reasons[0]), "")
        owners = locks.told(said)
        if outcome.touched or not owners or not all(lock.here and not lock.owner_lives for lock in owners):
            return False
        done = self.engine.call("cancel", "--yes", "-s", self.name)
        if done.returncode:
            raise problems.refused(self.name, done.stderr)
        for dead in owners:
            on_event(Note(f"broke the lock of a run that is no more (pid {dead.pid}, {locks.since(dead.started)})"))
        return True

    # -- creates that a killed run left open ---------------------------------------------------------------

    def _gone_from_file(self, snapshot: Snapshot, stops: Stops) -> bool:
        """True when the region's file may no longer have what a killed run was making: `up` would not adopt it."""
        planned = self._preview(_silent, stops)
        deleted = {change.urn for change in planned.changed if change.op.startswith("delete")}
        return not all(p.urn in planned.touched and p.urn not in deleted for p in snapshot.creates)

    def _adopt(self, snapshot: Snapshot, on_event: OnEvent, stops: Stops) -> Outcome:
        """Runs the open creates again, and nothing else, with the region file of the run that began them."""
        names = ", ".join(sorted(p.name for p in snapshot.creates))
        on_event(Note(f"a killed run had begun to make {names}: making sure of what exists first"))
        targets = [word for p in snapshot.creates for word in ("--target", p.urn)]
        kept = leftovers.applied_file(self.name)
        extra = {"AIFACTORY_REGIONS": str(kept.parent)} if kept.exists() else None
        outcome = self._run("adopt", ["up", *CHANGE, *targets], on_event, stops, extra)
        self._forget_settled(snapshot, outcome, on_event)
        return outcome

    def _forget_settled(self, snapshot: Snapshot, outcome: Outcome, on_event: OnEvent) -> None:
        """Drops the open creates from the state once each of them is a resource in it.

        All or none: the import that does it drops them all.
        """
        if not snapshot.creates:
            return
        now = self.snapshot()
        if now is None or not all(p.urn in now.urns and p.urn in outcome.touched for p in now.creates):
            return
        done = self.engine.call("stack", "import", "-s", self.name, stdin=now.text)
        if done.returncode:
            raise problems.refused(self.name, done.stderr)
        on_event(Note("what the killed run had made is in the state now"))

    def _unsettled(self, left: tuple[state.Pending, ...], outcome: Outcome) -> ProblemError:
        names = ", ".join(f"{p.name} ({p.type})" for p in left)
        why = "".join(f"\n{f.name}: {reason}" for f in outcome.failures for reason in f.reasons)
        return fail(
            "ENG-020",
            f"A killed run had begun to make {names}, and what exists of it could not be made sure of. "
            f"Nothing was destroyed, so that nothing is left over unseen.{why}",
            code=Exit.FAILED,
            fix="mend what is named above (or put the pool or service back into the region's file), "
            f"then: aifactory destroy {self.name}",
        )


def _refuse_full(folder: Path) -> None:
    """A state that cannot be written is found before anything is made: the engine only fails at its first write."""
    there = next(path for path in (folder, *folder.parents) if path.is_dir())
    if shutil.disk_usage(there).free < LEAST_FREE:
        raise fail(
            "ENG-013",
            f"No space left on device: {there}, where the state is kept, has less than {LEAST_FREE >> 20} MiB.",
            code=Exit.PREFLIGHT,
            fix="free space there, then run this again; nothing was changed",
        )


def _no_stack(stderr: str) -> bool:
    return "no stack named" in stderr
