"""Calls of a cloud's API during one verb: paced, repeated where that is safe, stopped when the engine says so.

botocore repeats nothing here. Its sleeps hear no cancel, and it would repeat a create whose answer was lost: two VPCs
(measured). `create` looks for what the lost call may have made before it asks again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from aifactory.provider.aws import clients as guarded
from aifactory.provider.aws.clients import Clients
from aifactory.provider.aws.cloud import CloudInput
from aifactory.provider.aws.failures import CloudError, Kind
from aifactory.provider.resource import Context

PATIENCE_S = 300.0
"""How long a cloud that is unwell or throttles is asked again, where the verb has no shorter deadline."""
LONGEST_PAUSE_S = 10.0
VISIBLE_S = 60.0
"""How long an object that was just made may be unseen. EC2's reads follow its writes with a delay."""

LOOKS_S = {"lost": (0.5, 1.5, 3.0), "transient": (1.0,), "exists": (0.0, 1.0, 2.0)}
"""Pauses before each look for what a create may have made: no answer came, the service is unwell, the name is taken."""

Found = TypeVar("Found")


class Api:
    """One cloud during one verb, for all its threads. Raises CloudError, Refused (guard, credentials), Cancelled,
    TimedOut. Every pause is a wait of the context: it hears cancel."""

    def __init__(
        self, ctx: Context, cloud: CloudInput, clients: Clients | None = None, *, patience_s: float = PATIENCE_S
    ) -> None:
        self.ctx, self.cloud, self.patience_s = ctx, cloud, patience_s
        self.clients = clients or guarded.of(cloud)

    # -- asking

    def call(self, service: str, action: str, *, just_made: bool = False, **params: Any) -> dict[str, Any]:
        """One call that may be repeated without harm: a read, a call with a client token, a set, a delete.

        `just_made`: what it names was made a moment ago, so that an answer "not found" is asked again for a minute.
        """
        return self._repeat(service, action, params, just_made=just_made)

    def pages(self, service: str, action: str, key: str, **params: Any) -> Iterator[dict[str, Any]]:
        """Every item of a paged read, in order; `key` names the list in an answer."""
        import jmespath  # type: ignore[import-untyped]

        names, more = _page_names(self.clients.client(service), action)
        tokens: dict[str, Any] = {}
        while True:
            answer = self.call(service, action, **{**params, **tokens})
            yield from answer.get(key) or ()
            found = {given: jmespath.search(answered, answer) for given, answered in names.items()}
            tokens = {given: token for given, token in found.items() if token}
            if not tokens or (more and not jmespath.search(more, answer)):
                return

    def create(
        self,
        service: str,
        action: str,
        find: Callable[[], Found | None],
        made: Callable[[dict[str, Any]], Found],
        *,
        just_made: bool = False,
        **params: Any,
    ) -> Found:
        """What `find` finds, or what the call makes: exactly one, also when the answer to a create is lost.

        `find` looks by a unique tag or name. It is asked before the first call, and again, for some seconds, before
        every repetition of a call whose outcome is not known.
        """
        if (found := find()) is not None:
            return found
        try:
            answer = self._repeat(
                service, action, params, just_made=just_made, lost=lambda kind: self._look(find, LOOKS_S[kind])
            )
        except _Found as known:
            return known.value  # type: ignore[no-any-return]
        except CloudError as error:
            if error.kind == "exists" and (found := self._look(find, LOOKS_S["exists"])) is not None:
                return found
            raise
        return made(answer)

    def _look(self, find: Callable[[], Found | None], pauses_s: tuple[float, ...]) -> Found | None:
        """Reads follow writes with a delay: what one look does not find, the next may."""
        for pause in pauses_s:
            self.ctx.wait(pause)
            if (found := find()) is not None:
                return found
        return None

    def until(
        self, look: Callable[[], Found | None], what: str, *, timeout_s: float = 600.0, every_s: float = 2.0
    ) -> Found:
        """Waits until `look` gives something. Raises CloudError (kind other) when it takes too long."""
        end, pause = time.monotonic() + timeout_s, min(0.25, every_s)
        while (found := look()) is None:
            if time.monotonic() > end:
                raise CloudError(what, "Timeout", f"not so after {timeout_s:.0f} s", kind="other")
            self.ctx.wait(pause)
            pause = min(every_s, pause * 1.6)
        return found

    # -- how

    def _repeat(
        self,
        service: str,
        action: str,
        params: Mapping[str, Any],
        *,
        just_made: bool = False,
        lost: Callable[[str], Any] | None = None,
    ) -> dict[str, Any]:
        started, tries = time.monotonic(), 0
        while True:
            try:
                return self._once(service, action, params)
            except CloudError as error:
                passed, words = time.monotonic() - started, error_of(error)
                patience = VISIBLE_S if error.kind == "absent" else self.patience_s
                again = error.kind in ("throttled", "transient", "lost") or (just_made and error.kind == "absent")
                if not again or passed > patience:
                    raise
                if lost is not None and error.kind in ("transient", "lost") and (found := lost(error.kind)) is not None:
                    raise _Found(found) from error
            tries += 1
            pause = min(LONGEST_PAUSE_S, 0.3 * 2 ** min(tries, 6)) * random.uniform(0.5, 1.0)  # noqa: S311
            if tries >= 3:
                self.ctx.progress(f"{service} {action}: {words}; asked again ({passed:.0f} s)")
            self.ctx.wait(pause)

    def _once(self, service: str, action: str, params: Mapping[str, Any]) -> dict[str, Any]:
        from botocore import exceptions as boto
        from botocore import xform_name
        from botocore.parsers import ResponseParserError

        client = self.clients.client(service)
        if service != "sts":
            self._know_account()
        self.ctx.wait(self.clients.limiter.take(action) if service == "ec2" else 0.0)
        try:
            answer: dict[str, Any] = getattr(client, xform_name(action))(**params)
        except boto.ClientError as refused:
            error = refused.response.get("Error", {})
            status = int(refused.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            name = str(refused.operation_name or action)  # another's where it was the credentials' renewal
            failure = CloudError(name, str(error.get("Code", status)), str(error.get("Message", "")), status=status)
            if failure.kind == "throttled" and service == "ec2":
                self.clients.limiter.refused(action)
            raise failure from refused
        except (boto.ConnectTimeoutError, boto.EndpointConnectionError, boto.ProxyConnectionError) as unsent:
            raise CloudError(action, type(unsent).__name__, str(unsent), kind="transient") from unsent
        except boto.SSLError as broken:
            # A certificate that is wrong stays wrong; any other break of the channel is a lost answer.
            kind: Kind = "other" if "CERTIFICATE_VERIFY_FAILED" in str(broken) else "lost"
            raise CloudError(action, type(broken).__name__, str(broken), kind=kind) from broken
        except (boto.HTTPClientError, ResponseParserError, boto.IncompleteReadError) as lost:
            raise CloudError(action, type(lost).__name__, str(lost), kind="lost") from lost
        except (
            boto.NoCredentialsError,
            boto.CredentialRetrievalError,
            boto.PartialCredentialsError,
            boto.SSOError,
        ) as missing:
            raise CloudError(action, "NoCredentials", str(missing), kind="expired") from missing
        return answer

    def _know_account(self) -> None:
        """Asks once a process whose keys these are. Raises Refused where they are another account's."""
        clients = self.clients
        while not clients.account_known:
            if not clients.account_mutex.acquire(timeout=0.2):
                self.ctx.check_cancelled()
                continue
            try:
                if not clients.account_known:
                    clients.check_account(str(self.call("sts", "GetCallerIdentity")["Account"]))
            finally:
                clients.account_mutex.release()


class _Found(Exception):
    """A lost create had made it."""

    def __init__(self, value: Any) -> None:
        self.value = value


def error_of(error: CloudError) -> str:
    """A few words for a status line."""
    return {"throttled": "asked too often", "lost": "no answer"}.get(error.kind, error.code)


def _page_names(client: Any, action: str) -> tuple[dict[str, str], str | None]:
    """(input → output expression of the tokens, expression of whether there is more), as the service's model says."""
    from botocore import xform_name

    method = xform_name(action)
    if not client.can_paginate(method):
        return {"NextToken": "NextToken"}, None
    config = client.get_paginator(method)._pagination_cfg
    given, answered = ([names] if isinstance(names, str) else names for names in _tokens(config))
    return dict(zip(given, answered, strict=True)), config.get("more_results")


def _tokens(config: Mapping[str, Any]) -> tuple[Any, Any]:
    return config["input_token"], config["output_token"]
