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
from aifactory.provider.aws.failures import CloudError
from aifactory.provider.resource import Context

PATIENCE_S = 300.0
"""How long a cloud that is unwell or throttles is asked again, where the verb has no shorter deadline."""
LONGEST_PAUSE_S = 10.0
VISIBLE_S = 60.0
"""How long an object that was just made may be unseen. EC2's reads follow its writes with a delay."""

Found = TypeVar("Found")


class Api:
    """One cloud during one verb. Raises CloudError, Refused (guard, credentials), Cancelled, TimedOut.

    `sleep` is the context's wait by default: it hears cancel.
    """

    def __init__(self, ctx: Context, cloud: CloudInput, clients: Clients | None = None) -> None:
        self.ctx, self.cloud = ctx, cloud
        self.clients = clients or guarded.of(cloud)

    # -- asking

    def call(self, service: str, action: str, *, just_made: bool = False, **params: Any) -> dict[str, Any]:
        """One call that may be repeated without harm: a read, a call with a client token, a set, a delete.

        `just_made`: what it names was made a moment ago, so that an answer "not found" is asked again for a minute.
        """
        return self._repeat(service, action, params, just_made=just_made)

    def pages(self, service: str, action: str, key: str, **params: Any) -> Iterator[dict[str, Any]]:
        """Every item of a paged read, in order; `key` names the list in an answer."""
        names = _page_names(self.clients.client(service), action)
        token: Any = None
        while True:
            answer = self.call(service, action, **params, **({names[0]: token} if token else {}))
            yield from answer.get(key) or ()
            token = answer.get(names[1]) if names[1] else None
            if not token:
                return

    def create(
        self,
        service: str,
        action: str,
        find: Callable[[], Found | None],
        made: Callable[[dict[str, Any]], Found],
        **params: Any,
    ) -> Found:
        """What `find` finds, or what the call makes: exactly one, also when the answer to a create is lost.

        `find` looks by a unique tag or name. It is asked before the first call, and again before every repetition
        of a call whose outcome is not known.
        """
        if (found := find()) is not None:
            return found

        def again() -> Found | None:
            self.ctx.wait(1.0)  # reads follow writes with a delay
            return find()

        try:
            answer = self._repeat(service, action, params, lost=again)
        except _Found as known:
            return known.value  # type: ignore[no-any-return]
        except CloudError as error:
            if error.kind == "exists" and (found := find()) is not None:
                return found
            raise
        return made(answer)

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
        lost: Callable[[], Any] | None = None,
    ) -> dict[str, Any]:
        started, tries = time.monotonic(), 0
        while True:
            try:
                return self._once(service, action, params)
            except CloudError as error:
                passed, words = time.monotonic() - started, error_of(error)
                patience = VISIBLE_S if error.kind == "absent" else PATIENCE_S
                again = error.kind in ("throttled", "transient", "lost") or (just_made and error.kind == "absent")
                if not again or passed > patience:
                    raise
                if lost is not None and error.kind in ("transient", "lost") and (found := lost()) is not None:
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
        if service != "sts" and not self.clients.account_known:
            self.clients.check_account(str(self._once("sts", "GetCallerIdentity", {})["Account"]))
        self.ctx.wait(self.clients.limiter.take(action) if service == "ec2" else 0.0)
        try:
            answer: dict[str, Any] = getattr(client, xform_name(action))(**params)
        except boto.ClientError as refused:
            error = refused.response.get("Error", {})
            status = int(refused.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            failure = CloudError(action, str(error.get("Code", status)), str(error.get("Message", "")), status=status)
            if failure.kind == "throttled" and service == "ec2":
                self.clients.limiter.refused(action)
            raise failure from refused
        except (
            boto.ConnectTimeoutError,
            boto.EndpointConnectionError,
            boto.SSLError,
            boto.ProxyConnectionError,
        ) as unsent:
            raise CloudError(action, type(unsent).__name__, str(unsent), kind="transient") from unsent
        except (boto.HTTPClientError, ResponseParserError, boto.IncompleteReadError) as lost:
            raise CloudError(action, type(lost).__name__, str(lost), kind="lost") from lost
        except (boto.NoCredentialsError, boto.CredentialRetrievalError, boto.PartialCredentialsError) as missing:
            raise CloudError(action, "NoCredentials", str(missing), kind="expired") from missing
        return answer


class _Found(Exception):
    """A lost create had made it."""

    def __init__(self, value: Any) -> None:
        self.value = value


def error_of(error: CloudError) -> str:
    """A few words for a status line."""
    return {"throttled": "asked too often", "lost": "no answer"}.get(error.kind, error.code)


def _page_names(client: Any, action: str) -> tuple[str, str | None]:
    """(input, output) names of the token of a paged read, as the service's model says."""
    from botocore import xform_name

    method = xform_name(action)
    if not client.can_paginate(method):
        return "NextToken", None
    config = client.get_paginator(method)._pagination_cfg
    given, answered = config["input_token"], config["output_token"]
    return (given if isinstance(given, str) else given[0]), (answered if isinstance(answered, str) else answered[0])
