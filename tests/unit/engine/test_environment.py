"""The environment of engine calls. Real: the process environment and files in a temporary folder."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
from aifactory.engine import environment
from aifactory.errors import Exit, ProblemError
from aifactory.region.spec import Region
from aifactory.toolchain import Toolchain

TOOLCHAIN = Toolchain(Path("/engine/bin/pulumi"), Path("/engine/bin"), "3.259.0", "cache")


def spec(**state: str) -> Region:
    document = {
        "version": 1,
        "name": "t-env",
        "jurisdiction": {"country": "DE"},
        "provider": {"kind": "local"},
        "pools": [{"name": "a", "shape": "local-cpu", "nodes": 1}],
        "state": state,
    }
    return Region.model_validate_json(json.dumps(document))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIFACTORY_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_ambient_credentials_and_settings_are_dropped(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "PULUMI_ACCESS_TOKEN", "PULUMI_CONFIG_PASSPHRASE", "ANSIBLE_CONFIG", "VAULT_TOKEN"):
        monkeypatch.setenv(name, "ambient")
    monkeypatch.setenv("EU_SOVEREIGN_KEY", "named in the region's file")

    env = environment.environment(spec(), TOOLCHAIN, home)

    assert "ambient" not in env.values()
    assert env["EU_SOVEREIGN_KEY"]


def test_credentials_that_the_backend_needs_are_kept(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "state")
    monkeypatch.setenv("VAULT_TOKEN", "ambient")
    env = environment.environment(spec(backend="s3://b?region=x", secrets="awskms://k"), TOOLCHAIN, home)
    assert env["AWS_PROFILE"] == "state"
    assert "VAULT_TOKEN" not in env
    assert "PULUMI_CONFIG_PASSPHRASE_FILE" not in env
    assert env["PULUMI_BACKEND_URL"] == "s3://b?region=x"


def cloud(credentials: dict[str, str], **state: str) -> Region:
    document = spec(**state).model_dump(mode="json", exclude_defaults=True)
    document["provider"] = {
        "kind": "aws", "partition": "aws-eusc", "region": "eusc-de-east-1", "account": "123456789012",
        "credentials": credentials,
    }  # fmt: skip
    return Region.model_validate_json(json.dumps(document))


S3 = {"backend": "s3://b?region=eusc-de-east-1"}
KEYS = {"EU_ACCESS_KEY_ID": "id", "EU_SECRET_ACCESS_KEY": "s3cr3t"}


@pytest.fixture
def ambient(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "ambient")
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    return home


def test_cloud_state_elsewhere_gets_no_key_at_all(ambient: Path) -> None:
    env = environment.environment(cloud({"env_prefix": "EU_"}), TOOLCHAIN, ambient)
    assert not [name for name in env if name.startswith("AWS_")]
    assert {name: env[name] for name in KEYS} == KEYS, "the plugin reads them"


def test_cloud_state_in_s3_gets_the_keys_that_the_file_names_and_no_ambient_ones(ambient: Path) -> None:
    env = environment.environment(cloud({"env_prefix": "EU_"}, **S3), TOOLCHAIN, ambient)
    assert {name: value for name, value in env.items() if name.startswith("AWS_")} == {
        "AWS_EC2_METADATA_DISABLED": "true", "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "s3cr3t",
    }  # fmt: skip


def test_cloud_secrets_in_kms_get_the_profile_by_name(ambient: Path) -> None:
    env = environment.environment(cloud({"profile": "eu"}, secrets="awskms://alias/a"), TOOLCHAIN, ambient)
    assert {name: value for name, value in env.items() if name.startswith("AWS_")} == {
        "AWS_EC2_METADATA_DISABLED": "true", "AWS_PROFILE": "eu",
    }  # fmt: skip
    assert env["HOME"] == os.environ["HOME"], "where the profiles are"


def test_cloud_role_is_assumed_with_the_jobs_own_token(ambient: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIFACTORY_WEB_IDENTITY_TOKEN_FILE", "/token")
    role = "arn:aws-eusc:iam::123456789012:role/deploy"
    env = environment.environment(cloud({"role_arn": role}, **S3), TOOLCHAIN, ambient)
    assert (env["AWS_ROLE_ARN"], env["AWS_WEB_IDENTITY_TOKEN_FILE"]) == (role, "/token")
    assert "AWS_ACCESS_KEY_ID" not in env


def test_cloud_prefix_that_looks_ambient_is_the_files_all_the_same(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EU_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ambient")
    env = environment.environment(cloud({"env_prefix": "AWS_EU_"}), TOOLCHAIN, home)
    assert env["AWS_EU_ACCESS_KEY_ID"] == "id"
    assert "AWS_ACCESS_KEY_ID" not in env


def test_cloud_exports_hold_no_key(ambient: Path) -> None:
    region = cloud({"env_prefix": "EU_"}, **S3)
    assert "s3cr3t" not in environment.exports(region, TOOLCHAIN, ambient).values()
    assert environment.references(region)["AWS_SECRET_ACCESS_KEY"] == "EU_SECRET_ACCESS_KEY"
    assert environment.references(spec(**S3)) == environment.references(cloud({"env_prefix": "EU_"})) == {}


def test_what_lies_around_is_named_only_where_it_would_be_taken(ambient: Path) -> None:
    assert environment.lies_around(cloud({"profile": "eu"}, **S3)) == [
        "AWS_ACCESS_KEY_ID", "AWS_CONFIG_FILE", "AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_SESSION_TOKEN",
    ]  # fmt: skip
    assert environment.lies_around(cloud({"profile": "eu"})) == environment.lies_around(spec(**S3)) == []


def test_exports_are_quiet_and_point_at_the_toolkits_own_homes(home: Path) -> None:
    found = environment.exports(spec(), TOOLCHAIN, home)
    assert found["PULUMI_HOME"] == str(home / "pulumi")
    assert found["PULUMI_BACKEND_URL"] == f"file://{home}/state"
    assert found["PULUMI_CONFIG_PASSPHRASE_FILE"] == str(home / "passphrase")
    assert found["PATH"].split(os.pathsep)[0] == "/engine/bin"
    assert found["AIFACTORY_HOME"] == str(home)
    for name in ("SKIP_UPDATE_CHECK", "DISABLE_AUTOMATIC_PLUGIN_ACQUISITION", "DISABLE_REGISTRY_RESOLVE"):
        assert found[f"PULUMI_{name}"] == "true"


def test_the_passphrase_is_made_once_and_is_private(home: Path) -> None:
    environment.ensure_passphrase(state_exists=False)
    first = environment.passphrase_file().read_text()
    environment.ensure_passphrase(state_exists=True)
    assert environment.passphrase_file().read_text() == first
    assert len(first) > 40
    assert environment.passphrase_file().stat().st_mode & 0o777 == 0o600
    assert [p.name for p in home.iterdir()] == ["passphrase"]


def test_two_at_once_agree_on_one_passphrase(home: Path) -> None:
    seen: list[str] = []

    def make() -> None:
        environment.ensure_passphrase(state_exists=False)
        seen.append(environment.passphrase_file().read_text())

    threads = [threading.Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 2
    assert len(set(seen)) == 1


def test_a_readable_passphrase_is_refused(home: Path) -> None:
    environment.ensure_passphrase(state_exists=False)
    environment.passphrase_file().chmod(0o644)
    with pytest.raises(ProblemError, match="chmod 600") as caught:
        environment.ensure_passphrase(state_exists=False)
    assert caught.value.code == Exit.PREFLIGHT


def test_a_lost_passphrase_is_not_made_anew(home: Path) -> None:
    with pytest.raises(ProblemError, match="put it back"):
        environment.ensure_passphrase(state_exists=True)
    assert not home.exists()
