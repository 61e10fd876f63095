"""Who a resource is: the token that Check keeps in its inputs, and the nonce of one create.

The engine's randomSeed is new in every run (measured), so it cannot name anything. A token can:
the same deployment, URN, generation and predecessor give the same token in the next run, and what a
killed run made is found again by it. See docs/decisions/0003-identity-token-and-nonce.md.
"""

from __future__ import annotations

import hashlib
import secrets
import threading

from aifactory.provider.resource import UNKNOWN

TOKEN_CHARACTERS = 32
"""Hex digits; fits client tokens (64), label values (63) and file names."""


def token(deployment: str, urn: str, generation: int = 1, previous: str = "") -> str:
    """The token of a URN's next object; `previous` is the token of the object that it replaces."""
    parts = "\0".join((deployment, urn, str(generation), previous))
    return hashlib.sha256(parts.encode()).hexdigest()[:TOKEN_CHARACTERS]


def new_nonce() -> str:
    """A value no other create or adoption has; the fence of delete and update."""
    return secrets.token_hex(8)


class Tokens:
    """The tokens of one process. Remembers the live token of each URN, since a replacement's Check hides it.

    The engine checks a replacement twice in one process: first with the old inputs, then without any.
    """

    def __init__(self) -> None:
        self._live: dict[str, str] = {}
        self._lock = threading.Lock()

    def fill(
        self,
        deployment: str,
        urn: str,
        *,
        generation: int,
        old_token: str = "",
        old_generation: int | None = None,
        given: str = "",
    ) -> str:
        """The token for these inputs: the old one while the generation stands, else the chain's next.

        `given` is a token already among the new inputs (an import); it counts only without old inputs.
        UNKNOWN where the deployment or the generation is not known yet (a preview).
        """
        if old_token:
            with self._lock:
                self._live[urn] = old_token
            if old_generation is None or generation == old_generation:
                return old_token
        elif given:
            return given
        if generation is UNKNOWN or not deployment:
            return UNKNOWN  # type: ignore[no-any-return]
        with self._lock:
            previous = self._live.get(urn, "")
        return token(deployment, urn, generation, previous)
