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
