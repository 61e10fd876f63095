"""The environment of every engine call: the toolkit's own homes, quiet, and free of what lies about in the shell."""

from __future__ import annotations

import os
import re
import secrets
import sys
import tempfile
from pathlib import Path

from aifactory import paths
from aifactory.errors import Exit, fail
from aifactory.region.spec import AwsProvider, Region
from aifactory.toolchain import Toolchain

QUIET = {
    "PULUMI_SKIP_UPDATE_CHECK": "true",
    "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
    "PULUMI_DISABLE_REGISTRY_RESOLVE": "true",
    "PULUMI_DIY_BACKEND_ZSTD": "true",
    "PULUMI_FALLBACK_TO_STATE_SECRETS_MANAGER": "true",
}
"""No update check, no telemetry, no downloads; state compressed (a twentieth of the size)."""

_AMBIENT = ("PULUMI_", "AWS_", "AZURE_", "ARM_", "GOOGLE_", "VAULT_", "ANSIBLE_")
_OF_AWS = ("s3", "awskms")
_KEYS = ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN")
"""What follows the prefix in the names of the variables that hold keys; AWS's own begin with `AWS_`."""
_TOKEN_FILE = "AIFACTORY_WEB_IDENTITY_TOKEN_FILE"  # noqa: S105 - a name; provider/aws/sessions.py reads it too
_NEEDED_BY = {
    "s3": ("AWS_",),
    "awskms": ("AWS_",),
    "azblob": ("AZURE_", "ARM_"),
    "azurekeyvault": ("AZURE_", "ARM_"),
    "gs": ("GOOGLE_",),
    "gcpkms": ("GOOGLE_",),
    "hashivault": ("VAULT_",),
}


def pulumi_home() -> Path:
    return paths.home() / "pulumi"


def passphrase_file() -> Path:
    return paths.home() / "passphrase"


def engine_logs(project: str, region: str) -> list[Path]:
    """The logs that the engine itself keeps of a stack, encrypted."""
    name = re.compile(re.escape(f"organization+{project}+{region}") + r"-\d{8}T\d{6}\.log")
    return [path for path in (pulumi_home() / "logs").glob("*.log") if name.fullmatch(path.name)]


def backend_url(spec: Region | None) -> str:
    """Where the state is: the spec's backend, else a folder in the toolkit's home."""
    if spec is not None and spec.state.backend:
        return spec.state.backend
    return f"file://{paths.home() / 'state'}"


def backend_dir(spec: Region | None) -> Path | None:
    """The state's folder when it is one on this machine, else None."""
    url = backend_url(spec)
    return Path(url.removeprefix("file://").split("?", 1)[0]) if url.startswith("file://") else None


def uses_passphrase(spec: Region | None) -> bool:
    return spec is None or spec.state.secrets is None or spec.state.secrets == "passphrase"


def references(spec: Region | None) -> dict[str, str]:
    """What the engine's own S3 and KMS clients read → the variable of the shell that holds it, by name alone.

    Only where state or secrets of a cloud region are kept there and its keys stand in variables: so whoever prints
    this shows no key.
    """
    cloud = _keys_of_the_file(spec)
    if cloud is None:
        return {}
    if prefix := cloud.credentials.env_prefix:
        return {f"AWS_{key}": f"{prefix}{key}" for key in _KEYS}
    return {"AWS_WEB_IDENTITY_TOKEN_FILE": _TOKEN_FILE} if cloud.credentials.role_arn else {}


def lies_around(spec: Region | None) -> list[str]:
    """Variables of this shell that would lead the engine's clients to other keys or hosts than the region file's."""
    cloud = _keys_of_the_file(spec)
    if cloud is None:
        return []
    own = {f"{cloud.credentials.env_prefix}{key}" for key in _KEYS}
    return sorted(name for name in os.environ if name.startswith("AWS_") and name not in own)


def _keys_of_the_file(spec: Region | None) -> AwsProvider | None:
    """The region's cloud, where the engine needs its keys for state or secrets."""
    if spec is None or not isinstance(spec.provider, AwsProvider):
        return None
    return spec.provider if _schemes(spec) & set(_OF_AWS) else None


def _schemes(spec: Region) -> set[str]:
    return {url.split("://", 1)[0] for url in (spec.state.backend, spec.state.secrets) if url}


def _named(spec: Region | None) -> dict[str, str]:
    """Variables without a secret that lead the engine's clients to the keys that the region file names, to no other."""
    cloud = _keys_of_the_file(spec)
    if cloud is None:
        return {}
    found = {"AWS_EC2_METADATA_DISABLED": "true"}
    if cloud.credentials.profile:
        found["AWS_PROFILE"] = cloud.credentials.profile
    if cloud.credentials.role_arn:
        found |= {"AWS_ROLE_ARN": cloud.credentials.role_arn, "AWS_ROLE_SESSION_NAME": "aifactory"}
    return found


def exports(spec: Region | None, toolchain: Toolchain, project: Path) -> dict[str, str]:
    """What a plain `pulumi` needs in its environment to work on the same state as the toolkit."""
    venv = project / ".venv" / "bin"
    folders = [toolchain.bin_dir, *([venv] if venv.is_dir() else []), Path(sys.executable).parent]
    inherited = [p for p in os.environ.get("PATH", os.defpath).split(os.pathsep) if p]
    found = {
        "PATH": os.pathsep.join(dict.fromkeys([*(str(f) for f in folders), *inherited])),
        "PULUMI_HOME": str(pulumi_home()),
        "PULUMI_BACKEND_URL": backend_url(spec),
        "PULUMI_IGNORE_AMBIENT_PLUGINS": "false" if toolchain.ambient_host else "true",
        **QUIET,
        **_named(spec),
    }
    if uses_passphrase(spec):
        found["PULUMI_CONFIG_PASSPHRASE_FILE"] = str(passphrase_file())
    for name in ("AIFACTORY_HOME", "AIFACTORY_CACHE", "AIFACTORY_REGIONS"):
        if value := os.environ.get(name):
            found[name] = value
    return found


def environment(spec: Region, toolchain: Toolchain, project: Path) -> dict[str, str]:
    """The whole environment of an engine call.

    Credentials of the shell are passed on only to the state backend or secrets provider that needs them. A region of a
    cloud names its keys: the engine's own clients get these and nothing that lies around, and the variables that hold
    them are there for the plugin whatever they are called.
    """
    schemes = _schemes(spec) - set(_OF_AWS if isinstance(spec.provider, AwsProvider) else ())
    needed = tuple(prefix for scheme in schemes for prefix in _NEEDED_BY.get(scheme, ()))
    kept = {
        key: value
        for key, value in os.environ.items()
        if (not key.startswith(_AMBIENT) or (needed and key.startswith(needed))) and key != "PYTHONHOME"
    }
    if isinstance(spec.provider, AwsProvider) and (prefix := spec.provider.credentials.env_prefix):
        kept |= {name: os.environ[name] for key in _KEYS if (name := f"{prefix}{key}") in os.environ}
    taken = {name: os.environ[source] for name, source in references(spec).items() if os.environ.get(source)}
    return {**kept, **exports(spec, toolchain, project), **taken, "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}


def ensure_passphrase(*, state_exists: bool) -> None:
    """A passphrase file (0600): generated once, never when something encrypted with another one exists.

    Raises ProblemError (exit 3) when the file is gone but a state is there, or when others may read it.
    """
    path = passphrase_file()
    if path.exists():
        if path.stat().st_mode & 0o077:
            raise fail("ENG-002", f"{path} can be read by others.", code=Exit.PREFLIGHT, fix=f"chmod 600 {path}")
        return
    if state_exists:
        raise fail(
            "ENG-003",
            f"The passphrase file {path} is gone; the secrets in the state cannot be read without it.",
            code=Exit.PREFLIGHT,
            fix=f"put it back from your backup: {path}, mode 600",
        )
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, fresh = tempfile.mkstemp(prefix=".passphrase.", dir=path.parent)  # made with mode 0600
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(32) + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(fresh, path)  # fails when another process was first: then its passphrase is the one
    except FileExistsError:
        pass
    finally:
        Path(fresh).unlink()
