"""What this machine knows of one resource between runs: its nonce, and how far a gang has come.

One JSON file a token under `paths.journals(region)`, written before the world is touched, so that a run
killed at any point leaves a true record. It holds no secrets. The file goes when the resource goes.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aifactory import paths
from aifactory.provider import identity
from aifactory.provider.resource import Context, Refused

TOKEN_RE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
LOCK_PATIENCE_S = 30.0
"""How long a run waits for another one (the dying provider of a killed run) to let go of a resource."""


class Journal:
    """The journal of the object that `token` names. Loads at once; nothing is written before `new_nonce` or `save`.

    `data` is the resource's own (JSON values). Many threads may call `save`. A verb that changes the world
    holds the journal (`with journal.held(ctx):`), which keeps a second run out.
    """

    def __init__(self, region: str, token: str) -> None:
        if not TOKEN_RE.fullmatch(token):
            raise ValueError(f"{token!r} is not a token")
        self._path = paths.journals(region) / f"{token}.json"
        self._mutex = threading.RLock()
        self.token = token
        self.nonce = ""
        self.data: dict[str, Any] = {}
        self.exists = False
        self.load()

    def load(self) -> None:
        """Reads the file again; a journal that is not there is empty. Raises Refused when it is damaged."""
        with self._mutex:
            try:
                raw = json.loads(self._path.read_text(encoding="utf-8"))
                self.nonce, self.data, self.exists = str(raw["nonce"]), dict(raw["data"]), True
            except FileNotFoundError:
                self.nonce, self.data, self.exists = "", {}, False
            except (ValueError, KeyError, TypeError) as error:
                raise Refused(f"journal {self._path} is damaged; move it away and run again") from error

    def owns(self, nonce: str) -> bool:
        """Whether the object of a state with this nonce is still that state's to change or delete.

        False only when a later create or adoption wrote another nonce. A missing journal answers True: nothing
        on this machine took the object over, so it is gone already or its journal was lost.
        """
        return not self.exists or self.nonce == nonce

    def new_nonce(self) -> str:
        """Takes the object over: a fresh nonce, on disk before this returns. First step of every create."""
        with self._mutex:
            self.nonce = identity.new_nonce()
            self.save()
            return self.nonce

    def save(self) -> None:
        """Writes nonce and data, whole or not at all."""
        with self._mutex:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            text = json.dumps({"nonce": self.nonce, "data": self.data}, sort_keys=True)
            handle, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self.token}.")
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                Path(temporary).replace(self._path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
            self.exists = True

    def remove(self) -> None:
        """Forgets the object; last step of a delete. Gone already is fine."""
        with self._mutex:
            self._path.unlink(missing_ok=True)
            self.nonce, self.data, self.exists = "", {}, False

    @contextmanager
    def held(self, ctx: Context) -> Iterator[Journal]:
        """Keeps every other run and thread out of this resource, and loads what they left.

        Waits up to LOCK_PATIENCE_S, listens to Cancel, then raises Refused. Not re-entrant.
        """
        lock = self._path.with_suffix(".lock")
        handle = _lock(lock, ctx)
        try:
            self.load()
            yield self
        finally:
            if not self._path.exists():
                lock.unlink(missing_ok=True)
            os.close(handle)


def live_nonce(inputs: Any, outputs: Any) -> str | None:
    """The nonce that the journal has for what a state holds; None where no journal says anything.

    It differs from the state's after a run that was killed while it replaced the object by itself (taint): Diff
    then asks for an update, and the update takes the object back.
    """
    region, token = getattr(inputs, "region", ""), getattr(inputs, "token", "")
    if not (isinstance(region, str) and region and token and hasattr(outputs, "nonce")):
        return None
    journal = Journal(region, token)
    return journal.nonce if journal.exists else None


def _lock(path: Path, ctx: Context) -> int:
    """A descriptor that holds the lock; the kernel lets go when it is closed or the process dies."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    end = time.monotonic() + LOCK_PATIENCE_S
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is(path, handle):
                return handle
        except BlockingIOError:
            if time.monotonic() > end:
                os.close(handle)
                raise Refused(f"another run is working on {ctx.name}; wait for it to end and run again") from None
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
        ctx.wait(0.02)


def _is(path: Path, handle: int) -> bool:
    """Whether the path still names the open file: its last holder may have removed it meanwhile."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False
