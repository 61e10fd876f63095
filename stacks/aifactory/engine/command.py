"""Runs the engine's command line: short calls that answer, and long ones whose events are read as they come.

The engine of a long call writes its events into a pipe of which it holds a read end itself: should we be
killed, it gets SIGTERM from the kernel and ends in order, instead of dying of a broken pipe half way. We keep
a log of the events that matter; never of the SDK's debug lines, which hold secrets in clear.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO

from aifactory import paths
from aifactory.engine import events, locks
from aifactory.engine.outcome import Outcome, Watch
from aifactory.toolchain import child, processes

OnEvent = Callable[[events.Event], None]
KEEP_LOGS = 20


@dataclass
class Stops:
    """Requests to stop, counted: the first lets the engine end in order, the second ends it at once."""

    received: list[signal.Signals] = field(default_factory=list)

    @property
    def first(self) -> signal.Signals | None:
        return self.received[0] if self.received else None

    def ask(self, signum: signal.Signals) -> None:
        self.received.append(signum)


@contextmanager
def listen() -> Iterator[Stops]:
    """Collects SIGINT, SIGTERM and SIGHUP instead of dying of them. Outside the main thread it hears nothing."""
    stops = Stops()
    if threading.current_thread() is not threading.main_thread():
        yield stops
        return

    def note(signum: int, _frame: FrameType | None) -> None:
        stops.ask(signal.Signals(signum))

    before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield stops
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@dataclass(frozen=True)
class Engine:
    """How to call the engine for one region."""

    region: str
    pulumi: Path
    project: Path
    env: dict[str, str]

    def call(self, *argv: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """A short call (export, output, config, init): its whole output, whatever its exit code."""
        return subprocess.run(
            [str(self.pulumi), *argv, "--non-interactive"],
            cwd=self.project,
            env=self.env,
            input=stdin or "",
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,  # a Ctrl-C of the terminal is ours to hear, not its
        )

    def run(
        self,
        operation: str,
        argv: list[str],
        on_event: OnEvent,
        stops: Stops,
        *,
        extra_env: dict[str, str] | None = None,
    ) -> Outcome:
        """A long call, followed to its end. Leaves no process behind, whatever ended it."""
        watch = Watch(operation)
        if stops.first is not None:
            return watch.end(1, stops.first, "stopped before it began", None)

        def hear(event: events.Event) -> None:
            watch.see(event)
            on_event(event)

        log = self._new_log(operation)
        errors = log.with_suffix(".stderr")
        began = time.time()
        reader, writer = _pipe()
        try:
            with errors.open("xb") as err:
                process = child.start(
                    [str(self.pulumi), *argv, "--json", "--non-interactive", "-s", self.region],
                    cwd=self.project,
                    env={**self.env, **(extra_env or {})},
                    stdin=subprocess.DEVNULL,
                    stdout=writer,
                    stderr=err,
                )
        finally:
            os.close(writer)
        try:
            locks.write_run(self.region, locks.Run(operation, os.getpid(), process.pid, began, str(log)))
            with log.open("xb") as kept:
                _follow(process, reader, kept, hear, stops)
        except BaseException:
            child.stop_group(process, grace_s=30.0)
            processes.end_session(process.pid, began)
            raise
        finally:
            os.close(reader)
        code = process.wait()
        processes.end_session(process.pid, began)
        if code >= 0:  # killed: what it leaves (a lock, half a resource) is for the next run to settle
            locks.clear_run(self.region)
        outcome = watch.end(code, stops.first, _last_words(errors, code), log)
        if not errors.stat().st_size:
            errors.unlink()
        return outcome

    def _new_log(self, operation: str) -> Path:
        folder = logs_dir(self.region)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for old in sorted(folder.glob("*.jsonl"))[: -(KEEP_LOGS - 1) or None]:
            old.unlink(missing_ok=True)
            old.with_suffix(".stderr").unlink(missing_ok=True)
        stamp = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%S.%f")
        return folder / f"{stamp}-{operation}.jsonl"


def logs_dir(region: str) -> Path:
    return paths.home() / "logs" / region


def _pipe() -> tuple[int, int]:
    """A pipe whose second end can be written and read: its holder never finds it broken. Room for 1 MiB unread."""
    reader, writer = os.pipe()
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError):  # a site may allow less; the default still holds what a stop writes
            fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 1 << 20)
        both = os.open(f"/proc/self/fd/{writer}", os.O_RDWR)
        os.close(writer)
        writer = both
    os.set_blocking(reader, False)
    return reader, writer


def _follow(process: subprocess.Popen[bytes], reader: int, kept: IO[bytes], hear: OnEvent, stops: Stops) -> None:
    """Hands every event to `hear` and the log until the engine has ended; passes on requests to stop."""
    passed_on = 0
    rest = b""
    while True:
        ended = process.poll() is not None
        select.select([reader], [], [], 0.0 if ended else 0.1)
        data = _read(reader)
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line and (event := events.parse(line.decode())) is not None:
                kept.write(line + b"\n")
                hear(event)
        if ended and not data:
            return
        if passed_on == 0 and stops.first is not None:
            # SIGTERM, not SIGINT: an engine started from a background job ignores the latter.
            process.send_signal(signal.SIGTERM)
            passed_on = 1
            hear(events.Note("stopping: what exists is kept; once more ends it at once"))
        elif passed_on == 1 and len(stops.received) > 1:
            process.kill()
            passed_on = 2


def _read(reader: int) -> bytes:
    try:
        return os.read(reader, 1 << 20)
    except BlockingIOError:
        return b""


def _last_words(errors: Path, code: int) -> str:
    """The engine's own last error lines; a word of our own when it was killed."""
    text = errors.read_text(encoding="utf-8", errors="replace")
    lines = [line.removeprefix("error: ") for line in text.splitlines() if line.strip()]
    if code < 0:
        name = signal.Signals(-code).name
        lines.append(f"the engine was ended by {name}; run the same command again, it goes on from what exists")
    return "\n".join(lines[-15:])
