"""The one place where clients of a cloud's API are made. Nothing else in the toolkit imports botocore.

What boto3 does by itself and this keeps it from (measured with botocore 1.44; docs/aws.md, Guarded clients):
it goes on to another host, even of another partition, when S3 answers with a redirect, body and all; it takes an
unknown region for one of commercial AWS; it obeys AWS_ENDPOINT_URL and whatever profile, environment or metadata
service lies about; for some services it speaks to a host that no region contains.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from aifactory.provider.aws.cloud import CloudInput
from aifactory.provider.aws.limiter import Limiter
from aifactory.provider.resource import Refused

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 24
"""Of one call: no answer after that is no answer. Together less than the half minute within which a verb that was told
to stop has stopped, since a call in flight hears no cancel."""
CONNECTIONS = 32
LOOPBACK = ("127.0.0.1", "localhost", "::1")
REDIRECTS = (301, 302, 303, 307, 308)
BUCKET_REGION = "x-amz-bucket-region"


class OffList(Refused):
    """A request to a host that is not on the region's list was stopped before a byte left."""


class Clients:
    """Guarded clients of one cloud, made at their first use, shared by all threads."""

    def __init__(self, cloud: CloudInput, environ: Mapping[str, str] | None = None) -> None:
        self.cloud = cloud
        self.limiter = Limiter()
        self._environ = os.environ if environ is None else environ
        self._mutex = threading.Lock()
        self._made: dict[str, Any] = {}
        self._session: Any = None
        self._account_known = False
        self.account_mutex = threading.Lock()
        """Held by who asks whose keys these are."""

    def client(self, service: str) -> Any:
        """The client of a service (`ec2`, `s3`). Raises Refused where its host may not be reached (LOC-02, 06, 07)."""
        with self._mutex:
            if service not in self._made:
                self._made[service] = self._make(service)
            return self._made[service]

    def host(self, service: str) -> str:
        """Host of a service, known without a call. Raises Refused like `client`."""
        return str(urlsplit(self.client(service).meta.endpoint_url).hostname)

    def _make(self, service: str) -> Any:
        url = self._endpoint(service)
        if self._session is None:
            from aifactory.provider.aws import sessions

            session = sessions.Bare()
            session._credentials = sessions.credentials(self.cloud, self._environ, self._guarded)
            self._session = session
        return self._guarded(service, endpoint_url=url, session=self._session)

    def _guarded(self, service: str, *, session: Any = None, config: Any = None, **given: Any) -> Any:
        """A client with every guard on it. Without `session`: one for getting the keys, which `given` may hold."""
        from botocore.exceptions import UnknownServiceError

        from aifactory.provider.aws import sessions

        url = given.pop("endpoint_url", None) or self._endpoint(service)
        given = {"region_name": self.cloud.region, **given, "endpoint_url": url, "verify": True}
        ours = self._config(url)
        try:
            client = (session or sessions.Bare()).create_client(
                service, config=ours if config is None else config.merge(ours), **given
            )
        except UnknownServiceError as error:
            raise Refused(f"{service}: the client library knows no such service") from error
        host = self._allowed(service, client.meta, explicit=url is not None)
        client.meta.events.register_first("before-send", _Guard(service, host))
        if service == "s3":
            client.meta.events.register_first("needs-retry.s3", _NoRedirect(self.cloud.region))
        return client

    def _config(self, url: str | None) -> Any:
        from botocore.config import Config

        return Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            retries={"total_max_attempts": 1, "mode": "standard"},  # api.py repeats: it hears cancel, looks first
            max_pool_connections=CONNECTIONS,
            ignore_configured_endpoint_urls=True,
            parameter_validation=True,
            proxies={},  # none, which None would not say
            request_checksum_calculation=self._checksums(),
            response_checksum_validation=self._checksums(),
            s3={"addressing_style": "path" if url else "virtual"},
            user_agent_extra="aifactory",
        )

    def _endpoint(self, service: str) -> str | None:
        """The file's URL; None where the library knows the region by name, which is no guess."""
        cloud = self.cloud
        url = cloud.endpoints.get(service)
        if url is None:
            if cloud.card.endpoints_required or cloud.region not in cloud.card.regions:
                why = (
                    "is reached only through endpoints that the region file names, which it does not for this service"
                    if cloud.card.endpoints_required
                    else f"does not list the region {cloud.region}"
                )
                raise Refused(
                    f"[LOC-06] {service}: {cloud.card.name} {why}; a guess would be a host of commercial AWS; "
                    f"fix: provider.endpoints: {{{service}: https://…}}"
                )
            return None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise Refused(f"{service}: {url} is not an endpoint; fix: https://HOST, without a login")
        if parts.scheme != "https" and parts.hostname not in LOOPBACK:
            raise Refused(f"{service}: {url} is not https; plain http is for this machine's loopback only")
        return url

    def _allowed(self, service: str, meta: Any, *, explicit: bool) -> SplitResult:
        """Where alone a client may speak to. Raises Refused where that is not this cloud's, or stands in no region."""
        cloud, card = self.cloud, self.cloud.card
        found = urlsplit(str(meta.endpoint_url))
        host = str(found.hostname)
        if explicit and host in LOOPBACK:
            return found
        if card.dns_suffix is None or not host.endswith(f".{card.dns_suffix}"):
            raise Refused(f"[LOC-02] {service}: {host} does not end in .{card.dns_suffix}, as all of {card.name} does")
        if not explicit and meta.partition != card.partition:
            raise Refused(f"[LOC-02] {service}: {host} is of partition {meta.partition}, {card.name} is not")
        if cloud.region not in host.split(".") and service not in cloud.off_region:
            raise Refused(
                f"[LOC-07] {service}: {host} is bound to no region, or to another one than {cloud.region}; "
                "fix: a waiver of LOC-07 for it, or a partition that has it inside"
            )
        return found

    def _checksums(self) -> str:
        """S3-compatible stores of other makers refuse the newer checksums (OVHcloud roadmap #781, 2025)."""
        return "when_required" if self.cloud.card.endpoints_required else "when_supported"

    def check_account(self, found: str) -> None:
        """Raises Refused where the keys are those of another account than the region file's."""
        if found != self.cloud.account:
            raise Refused(
                f"[LOC-02] the credentials are those of account {found}, the region is one of account "
                f"{self.cloud.account}; nothing was changed"
            )
        self._account_known = True

    @property
    def account_known(self) -> bool:
        return self._account_known


class _Guard:
    """Looks at every request, first of all handlers, right before it is sent; repeats and redirects come by too."""

    def __init__(self, service: str, allowed: SplitResult) -> None:
        self.service, self.allowed = service, allowed

    def __call__(self, request: AWSPreparedRequest, **_: Any) -> None:
        asked, allowed = urlsplit(request.url), self.allowed
        host, ours = str(asked.hostname), str(allowed.hostname)
        same = host == ours or (self.service == "s3" and host.endswith(f".{ours}"))  # buckets are names below it
        if same and (asked.scheme, asked.port) == (allowed.scheme, allowed.port):
            return
        raise OffList(
            f"[LOC-05] {self.service}: a request to {asked.scheme}://{asked.netloc} was stopped; "
            f"this client may speak to {allowed.scheme}://{allowed.netloc} only"
        )


class _NoRedirect:
    """Stands before S3's redirect handling, which would sign the request again, body and all, for whatever region the
    answer names, or ask for that region first."""

    def __init__(self, region: str) -> None:
        self.region = region

    def __call__(self, response: tuple[Any, dict[str, Any]] | None, **_: Any) -> None:
        if response is None or response[0] is None:
            return
        error = response[1].get("Error", {})
        where = response[0].headers.get(BUCKET_REGION) or error.get("Region") or ""
        refused = response[0].status_code >= 300 and where not in ("", self.region)
        if response[0].status_code in REDIRECTS or error.get("Code") == "PermanentRedirect" or refused:
            where = error.get("Endpoint") or where or "elsewhere, it does not say where"
            raise OffList(f"[LOC-04] s3: the answer says that the bucket is elsewhere ({where}); it is not followed")


_clients: dict[str, Clients] = {}
_mutex = threading.Lock()


def of(cloud: CloudInput) -> Clients:
    """This process's clients of a cloud. Endpoints come from the engine in any order, which tells nothing apart."""
    key = repr(replace(cloud, endpoints=dict(sorted(cloud.endpoints.items()))))
    with _mutex:
        return _clients.setdefault(key, Clients(cloud))
