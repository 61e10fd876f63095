"""Whose keys open the cloud, and sessions of the client library that know nothing else.

A plain botocore session obeys some fifty variables and two files: AWS_PROFILE, AWS_CONFIG_FILE, AWS_USE_FIPS_ENDPOINT,
AWS_CA_BUNDLE, AWS_DATA_PATH (service models of one's own), ~/.aws/models, AWS_CSM_ENABLED (a copy of every call's name
to a host of choice). `Bare` obeys none. Keys come from the one place that the region file names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from botocore.config import Config
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES, ConfigValueStore, ConstantProvider
from botocore.credentials import (
    AssumeRoleProvider,
    CanonicalNameCredentialSourcer,
    CredentialResolver,
    Credentials,
    DeferredRefreshableCredentials,
    ProfileProviderBuilder,
)
from botocore.exceptions import BotoCoreError, ClientError
from botocore.loaders import Loader
from botocore.session import Session
from botocore.tokens import TokenProviderChain

from aifactory.provider.aws.cloud import CloudInput
from aifactory.provider.resource import Refused

TOKEN_FILE = "AIFACTORY_WEB_IDENTITY_TOKEN_FILE"  # noqa: S105 (a name, no password)
MakeClient = Callable[..., Any]
"""(service, **arguments of Session.create_client) → a guarded client."""


class Bare(Session):  # type: ignore[misc]
    """Reads no variable, no file and no metadata service; what it does not know by name it does not have."""

    def __init__(self) -> None:
        super().__init__()
        defaults = {name: ConstantProvider(row[2]) for name, row in BOTOCORE_DEFAUT_SESSION_VARIABLES.items()}
        nothing = {name: ConstantProvider(None) for name in ("s3", "proxies_config")}
        self.register_component("config_store", ConfigValueStore(mapping={**defaults, **nothing}))
        self.register_component("data_loader", _models())
        self.register_component("credential_provider", CredentialResolver(providers=[]))
        self.register_component("token_provider", TokenProviderChain(providers=[]))

    @property
    def full_config(self) -> dict[str, Any]:
        return {"profiles": {}}

    def get_scoped_config(self) -> dict[str, Any]:
        return {}


@cache
def _models() -> Any:
    """The library's own service models; read once a process."""
    return Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)


class _ProfileSession(Session):  # type: ignore[misc]
    """Reads the two credential files for one profile; its own calls (a role, a sign-on) go through guarded clients."""

    def __init__(self, profile: str, region: str, make: MakeClient) -> None:
        super().__init__(profile=profile)
        self._region, self._make = region, make

    def create_client(self, service_name: str, **given: Any) -> Any:
        config: Config | None = given.get("config")
        region = given.pop("region_name", None) or getattr(config, "region_name", None) or self._region
        return self._make(service_name, region_name=region, **given)


def credentials(cloud: CloudInput, environ: Mapping[str, str], make: MakeClient) -> Any:
    """The cloud's credentials, which renew themselves where they can. Raises Refused where there are none."""
    if cloud.env_prefix:
        return _from_variables(cloud.env_prefix, environ)
    if cloud.role_arn:
        return _from_role(cloud.role_arn, environ, make)
    if cloud.profile:
        return _from_profile(cloud, make)
    raise Refused("credentials: provider.credentials names no profile, env_prefix or role_arn")


def _from_variables(prefix: str, environ: Mapping[str, str]) -> Any:
    names = [f"{prefix}ACCESS_KEY_ID", f"{prefix}SECRET_ACCESS_KEY"]
    missing = [name for name in names if not environ.get(name)]
    if missing:
        are = "is" if len(missing) == 1 else "are"
        raise Refused(f"credentials: {' and '.join(missing)} {are} not set, which provider.credentials names")
    key, secret = (environ[name] for name in names)
    return Credentials(key, secret, environ.get(f"{prefix}SESSION_TOKEN") or None)


def _from_role(arn: str, environ: Mapping[str, str], make: MakeClient) -> Any:
    """Keys of the role, got with the token of a CI job; the token is read anew each time."""
    from botocore import UNSIGNED

    path = environ.get(TOKEN_FILE, "")
    if not path or not Path(path).is_file():
        raise Refused(f"credentials: role_arn needs a web identity token: set {TOKEN_FILE} to its file")
    client = make("sts", config=Config(signature_version=UNSIGNED))

    def fetch() -> dict[str, Any]:
        answer = client.assume_role_with_web_identity(
            RoleArn=arn,
            RoleSessionName="aifactory",
            WebIdentityToken=Path(path).read_text(encoding="utf-8").strip(),
        )["Credentials"]
        return {
            "access_key": answer["AccessKeyId"],
            "secret_key": answer["SecretAccessKey"],
            "token": answer["SessionToken"],
            "expiry_time": answer["Expiration"].isoformat(),
        }

    return DeferredRefreshableCredentials(fetch, "assume-role-with-web-identity")


def _from_profile(cloud: CloudInput, make: MakeClient) -> Any:
    """Whatever the profile says itself; not what stands in the environment or a metadata service, though it says so."""
    session = _ProfileSession(cloud.profile, cloud.region, make)
    try:
        if cloud.profile not in session.available_profiles:
            known = ", ".join(session.available_profiles) or "none"
            raise Refused(f"credentials: there is no profile {cloud.profile}; profiles here: {known}")
        builder = ProfileProviderBuilder(session, cache={}, region_name=cloud.region)
        role = AssumeRoleProvider(
            load_config=lambda: session.full_config,
            client_creator=session.create_client,
            cache={},
            profile_name=cloud.profile,
            prompter=_no_prompt,
            credential_sourcer=CanonicalNameCredentialSourcer([]),
            profile_provider_builder=builder,
        )
        providers = [role, *builder.providers(cloud.profile, disable_env_vars=True)]
        found = CredentialResolver(providers=providers).load_credentials()
    except (BotoCoreError, ClientError) as error:
        raise Refused(f"credentials: profile {cloud.profile}: {error}") from error
    if found is None:
        raise Refused(f"credentials: profile {cloud.profile} holds no keys")
    return found


def _no_prompt(question: str) -> str:
    raise Refused("credentials: the profile asks for a code of a second factor; open a session first and name that")
