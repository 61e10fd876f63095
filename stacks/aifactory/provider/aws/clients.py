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
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from aifactory.provider.aws.cloud import CloudInput
from aifactory.provider.aws.limiter import Limiter
from aifactory.provider.resource import Refused

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest
    from botocore.session import Session

CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 45
"""Of one call: no answer after that is no answer. Together less than the minute that a fault may cost."""
CONNECTIONS = 32
LOOPBACK = ("127.0.0.1", "localhost", "::1")
REDIRECTS = (301, 302, 303, 307, 308)
TOKEN_FILE = "AIFACTORY_WEB_IDENTITY_TOKEN_FILE"  # noqa: S105 (a name, no password)


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
        self._session: Session | None = None
        self._account_known = False

    def client(self, service: str) -> Any:
        """The client of a service (`ec2`, `s3`). Raises Refused where its host may not be reached (LOC-05…07)."""
        with self._mutex:
            if service not in self._made:
                self._made[service] = self._make(service)
            return self._made[service]

    def host(self, service: str) -> str:
        """Host of a service, known without a call. Raises Refused like `client`."""
        return str(urlsplit(self.client(service).meta.endpoint_url).hostname)

    def _make(self, service: str) -> Any:
        from botocore.config import Config

        url = self._endpoint(service)
        config = Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            retries={"total_max_attempts": 1, "mode": "standard"},  # api.py repeats: it hears cancel, looks first
            max_pool_connections=CONNECTIONS,
            ignore_configured_endpoint_urls=True,
            parameter_validation=True,
            proxies={},
            request_checksum_calculation=self._checksums(),
            response_checksum_validation=self._checksums(),
            s3={"addressing_style": "path" if url else "virtual"},
            user_agent_extra="aifactory",
        )
        if self._session is None:
            self._session = self._open()
        client = self._session.create_client(
            service, region_name=self.cloud.region, endpoint_url=url, config=config, verify=True
        )
        allowed = self._allowed(service, str(client.meta.endpoint_url))
        client.meta.events.register_first("before-send", _Guard(service, allowed))
        if service == "s3":
            client.meta.events.register_first("needs-retry.s3", _no_redirect)
        return client

    def _endpoint(self, service: str) -> str | None:
        """The file's URL; None where the library knows the region by name, which is no guess."""
        cloud = self.cloud
        url = cloud.endpoints.get(service)
        if url is None:
            if cloud.card.endpoints_required or cloud.region not in cloud.card.regions:
                why = "names none" if cloud.card.endpoints_required else f"does not list the region {cloud.region}"
                raise Refused(
                    f"[LOC-06] {service}: {cloud.card.name} {why}, and a guess would be a host of commercial AWS; "
                    f"fix: provider.endpoints: {{{service}: https://…}}"
                )
            return None
        parts = urlsplit(url)
        if parts.scheme != "https" and parts.hostname not in LOOPBACK:
            raise Refused(f"{service}: {url} is not https; plain http is for this machine's loopback only")
        return url

    def _allowed(self, service: str, url: str) -> str:
        """The one host of a client. Raises Refused where it is not this cloud's, or stands in no region."""
        cloud, host = self.cloud, str(urlsplit(url).hostname)
        if service in cloud.endpoints:
            return host
        suffix = cloud.card.dns_suffix
        if suffix is None or not host.endswith(f".{suffix}"):
            raise Refused(f"[LOC-02] {service}: {host} does not end in .{suffix}, as all of {cloud.card.name} does")
        if cloud.region not in host and service not in cloud.off_region:
            raise Refused(
                f"[LOC-07] {service}: {cloud.card.name} serves {cloud.region} from {host}, "
                "which is bound to no region; fix: a waiver of LOC-07 for it, or a partition that has it inside"
            )
        return host

    def _checksums(self) -> str:
        """S3-compatible stores of other makers refuse the newer checksums (OVHcloud roadmap #781, 2025)."""
        return "when_required" if self.cloud.card.endpoints_required else "when_supported"

    def _open(self) -> Session:
        from botocore.credentials import create_credential_resolver
        from botocore.session import Session

        cloud, prefix = self.cloud, self.cloud.env_prefix
        if prefix:
            names = [f"{prefix}ACCESS_KEY_ID", f"{prefix}SECRET_ACCESS_KEY"]
            missing = [name for name in names if not self._environ.get(name)]
            if missing:
                raise Refused(f"credentials: {' and '.join(missing)} are not set, which provider.credentials names")
            session = Session()
            key, secret = (self._environ[name] for name in names)
            session.set_credentials(key, secret, self._environ.get(f"{prefix}SESSION_TOKEN"))
            return session
        if cloud.role_arn:
            return self._with_role()
        session = Session(profile=cloud.profile)
        if cloud.profile not in session.available_profiles:
            known = ", ".join(session.available_profiles) or "none"
            raise Refused(f"credentials: there is no profile {cloud.profile}; profiles here: {known}")
        resolver = create_credential_resolver(session)
        for ambient in ("env", "container-role", "iam-role"):
            if any(ambient == p.METHOD for p in resolver.providers):
                resolver.remove(ambient)
        session.register_component("credential_provider", resolver)
        return session

    def _with_role(self) -> Session:
        """A session that assumes the role with the token of a CI job; botocore renews its keys."""
        from botocore.credentials import DeferredRefreshableCredentials
        from botocore.session import Session

        path = self._environ.get(TOKEN_FILE, "")
        if not path or not Path(path).is_file():
            raise Refused(f"credentials: role_arn needs a web identity token: set {TOKEN_FILE} to its file")
        session = Session()
        session.set_credentials("none", "none")  # the call is not signed; without any, ambient ones would be looked for
        client = self._sts_of(session)

        def fetch() -> dict[str, Any]:
            answer = client.assume_role_with_web_identity(
                RoleArn=self.cloud.role_arn,
                RoleSessionName="aifactory",
                WebIdentityToken=Path(path).read_text(encoding="utf-8").strip(),
            )["Credentials"]
            return {
                "access_key": answer["AccessKeyId"],
                "secret_key": answer["SecretAccessKey"],
                "token": answer["SessionToken"],
                "expiry_time": answer["Expiration"].isoformat(),
            }

        session._credentials = DeferredRefreshableCredentials(fetch, "assume-role-with-web-identity")
        return session

    def _sts_of(self, session: Session) -> Any:
        previous, self._session = self._session, session
        try:
            return self._make("sts")
        finally:
            self._session = previous

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

    def __init__(self, service: str, host: str) -> None:
        self.service, self.host = service, host

    def __call__(self, request: AWSPreparedRequest, **_: Any) -> None:
        host = str(urlsplit(request.url).hostname)
        if host == self.host or (self.service == "s3" and host.endswith(f".{self.host}")):
            return
        raise OffList(
            f"[LOC-05] {self.service}: a request to {host} was stopped; this client may speak to {self.host} only"
        )


def _no_redirect(response: tuple[Any, dict[str, Any]] | None, **_: Any) -> None:
    """Stands before S3's redirect handling, which would sign the request again, body and all, for whatever region the
    answer names."""
    if response is None or response[0] is None:
        return
    error = response[1].get("Error", {})
    if response[0].status_code in REDIRECTS or error.get("Code") in ("PermanentRedirect", "TemporaryRedirect"):
        where = error.get("Endpoint") or error.get("Region") or "another region"
        raise OffList(f"[LOC-04] s3: the answer says that the bucket is elsewhere ({where}); it is not followed")


_clients: dict[str, Clients] = {}
_mutex = threading.Lock()


def of(cloud: CloudInput) -> Clients:
    """This process's clients of a cloud."""
    with _mutex:
        return _clients.setdefault(repr(cloud), Clients(cloud))
