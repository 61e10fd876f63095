"""What a container engine can answer when it does not do what it was asked, as types.

Both engines say the same things in different words; `classify` knows the words. A message keeps the
engine's own last line, since that is what a person will search for.
"""

from __future__ import annotations

import re


class EngineError(Exception):
    """The engine failed. `detail` is its own last line."""

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


class NotInstalled(EngineError):
    """No such program on PATH."""


class NotRunning(EngineError):
    """The program is there, its service does not answer."""


class NoPermission(EngineError):
    """The service is there, this user may not use it."""


class NameInUse(EngineError):
    """A container, network or volume of this name exists already."""


class PortInUse(EngineError):
    """A published port is taken by somebody else."""


class AddressInUse(EngineError):
    """The node address is taken by another container."""


class SubnetInUse(EngineError):
    """The subnet overlaps with another network or a route of this machine."""


class NoSpace(EngineError):
    """The disk is full."""


class ImageMissing(EngineError):
    """The engine does not have the image."""


class NotFound(EngineError):
    """No such container, network, volume or image."""


class StillInUse(EngineError):
    """What should go is used by something else."""


class WrongState(EngineError):
    """The container is not in the state that the verb needs (exec on a stopped one)."""


class CannotRun(EngineError):
    """The engine's runtime refuses to start a container with these flags."""


_WORDS: tuple[tuple[type[EngineError], str], ...] = (
    (NotRunning, r"cannot connect to the docker daemon|is the docker daemon running|unable to connect to podman"),
    (NoPermission, r"permission denied while trying to connect|dial unix .*permission denied"),
    (NoSpace, r"no space left on device|disk quota exceeded"),
    (
        PortInUse,
        r"bind: address already in use|port is already allocated|rootlessport .*in use|ports are not available",
    ),
    (AddressInUse, r"requested ip address .* is already allocated|daemon: address already in use"),
    (SubnetInUse, r"already used on the host or by another config|pool overlaps with other one"),
    (StillInUse, r"is being used|in use by a container|volume is in use|has active endpoints|container is using"),
    (NameInUse, r"already in use|already exists|name is already used"),
    (CannotRun, r"\boci (runtime|permission|not found)|\b(runc|crun): |setting rlimit|failed to create (shim )?task"),
    (ImageMissing, r"image not known|no such image|unable to find image|initializing source"),
    (
        NotFound,
        r"no such (object|container|volume|network)|no (container|volume) with|not found|unable to find network",
    ),
    (
        WrongState,
        r"container state improper|is not running|is not paused|is already paused|can only create exec sessions",
    ),
)


def last_line(stderr: str) -> str:
    """The engine's own verdict: its last line that says anything, without `Error:` before it."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return re.sub(r"^(Error: |Error response from daemon: |docker: )+", "", lines[-1]) if lines else ""


def classify(engine: str, what: str, stderr: str) -> EngineError:
    """The typed error for what the engine wrote; plain EngineError where its words are unknown."""
    detail = last_line(stderr)
    for kind, words in _WORDS:
        if re.search(words, stderr, re.IGNORECASE):
            return kind(f"{engine} {what}: {detail}", detail)
    return EngineError(f"{engine} {what}: {detail or 'failed without a word'}", detail)
