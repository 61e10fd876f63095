"""host:Keys. Real: the cryptography, OpenSSL's verdict on a TLS connection, ssh-keygen. Not real: the clock."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import hashlib
import ssl
import subprocess
from pathlib import Path

import pytest
from aifactory.provider.host.keys import Keys, KeysOutputs
from aifactory.provider.resource import UNKNOWN

from tests.provider.harness import CheckFailed, Engine

START = dt.datetime(2026, 5, 4, 12, 0, tzinfo=dt.UTC)
VALUES = {"region": "t-keys", "server_names": ("localhost", "127.0.0.1")}


class Clock:
    def __init__(self, now: dt.datetime) -> None:
        self.now = now

    def __call__(self) -> dt.datetime:
        return self.now

    def forward(self, **span: int) -> None:
        self.now += dt.timedelta(**span)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIFACTORY_HOME", str(tmp_path))


@pytest.fixture
def clock() -> Clock:
    return Clock(START)


@pytest.fixture
def engine(clock: Clock) -> Engine:
    return Engine(Keys(clock))


@pytest.fixture
def today() -> KeysOutputs:
    return Engine(Keys()).up(VALUES).outputs


async def _handshake(outs: KeysOutputs, folder: Path, host: str) -> str:
    """Connects to a TLS server with the region's certificate as `host`, as strictly as Python 3.13 does."""
    pem = folder / "server.pem"
    pem.write_text(outs.server_certificate + outs.server_key)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(pem)
    client = ssl.create_default_context(cadata=outs.ca_certificate)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0, ssl=serving)
    async with server:
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname=host)
        version = writer.get_extra_info("ssl_object").version()
        writer.close()
        return str(version)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_create_server_certificate_is_accepted_by_name_and_address(
    today: KeysOutputs, tmp_path: Path, host: str
) -> None:
    assert asyncio.run(_handshake(today, tmp_path, host)) == "TLSv1.3"


def test_create_server_certificate_is_refused_for_another_name(today: KeysOutputs, tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        asyncio.run(_handshake(today, tmp_path, "elsewhere.example"))


def test_create_ssh_key_is_what_openssh_derives_from_the_private_one(today: KeysOutputs, tmp_path: Path) -> None:
    file = tmp_path / "id"
    file.touch(mode=0o600)
    file.write_text(today.ssh_private_key)
    shown = subprocess.run(["ssh-keygen", "-y", "-f", file], capture_output=True, text=True, check=True).stdout
    assert shown.split()[:2] == today.ssh_public_key.split()
    assert today.ssh_public_key.startswith("ssh-ed25519 ")


def test_create_client_key_matches_its_hash(today: KeysOutputs) -> None:
    assert today.client_key.startswith("sk-t-keys-")
    assert len(today.client_key.removeprefix("sk-t-keys-")) >= 43  # 32 bytes
    assert today.client_key_sha256 == hashlib.sha256(today.client_key.encode()).hexdigest()


def test_outputs_every_private_value_is_marked_secret() -> None:
    secret = {f.name for f in dataclasses.fields(KeysOutputs) if f.metadata["secret"]}
    assert secret == {"ssh_private_key", "ca_key", "server_key", "upstream_key", "client_key"}


def test_up_unchanged_makes_nothing_new(engine: Engine, clock: Clock) -> None:
    first = engine.up(VALUES).outputs
    clock.forward(days=366)
    assert engine.up(VALUES).outputs == first
    assert engine.operations == ["create"]


def test_up_changed_names_issues_a_certificate_under_the_same_ca(engine: Engine, tmp_path: Path, clock: Clock) -> None:
    clock.now = dt.datetime.now(dt.UTC)
    first = engine.up(VALUES).outputs
    second = engine.up({**VALUES, "server_names": ("api.example", "127.0.0.1")}).outputs
    assert engine.operations == ["create", "update"]
    changed = {f.name for f in dataclasses.fields(first) if getattr(first, f.name) != getattr(second, f.name)}
    assert changed == {"server_certificate", "server_key"}
    assert asyncio.run(_handshake(second, tmp_path, "api.example")) == "TLSv1.3"


def test_up_server_certificate_with_less_than_30_days_left_is_renewed(engine: Engine, clock: Clock) -> None:
    first = engine.up(VALUES).outputs
    clock.forward(days=368)
    diff, previewed = engine.preview(VALUES)
    assert diff is not None
    assert diff.output_updates == ("server_certificate",)
    assert previewed.server_certificate is UNKNOWN
    assert previewed.ca_certificate == first.ca_certificate
    second = engine.up(VALUES).outputs
    assert second.ca_certificate == first.ca_certificate
    assert second.client_key == first.client_key
    assert dt.datetime.fromisoformat(second.server_expires_at) == clock.now + dt.timedelta(days=397)


def test_up_server_certificate_never_outlives_its_ca(engine: Engine, clock: Clock) -> None:
    first = engine.up(VALUES).outputs
    clock.forward(days=3500)
    second = engine.up(VALUES).outputs
    assert second.server_expires_at == first.ca_expires_at


def test_up_ca_near_its_end_is_renewed_and_said(engine: Engine, clock: Clock) -> None:
    first = engine.up(VALUES).outputs
    clock.forward(days=3640)
    second = engine.up(VALUES).outputs
    assert second.ca_certificate != first.ca_certificate
    assert second.ssh_private_key == first.ssh_private_key
    assert any("new CA" in line for line in engine.lines.log)


def test_up_raised_generation_replaces_every_key(engine: Engine) -> None:
    first = engine.up(VALUES).outputs
    second = engine.up({**VALUES, "generation": 2}).outputs
    same = {f.name for f in dataclasses.fields(first) if getattr(first, f.name) == getattr(second, f.name)}
    assert same == {"ca_expires_at", "server_expires_at"}  # the clock stands still


def test_refresh_keeps_the_keys(engine: Engine) -> None:
    first = engine.up(VALUES).outputs
    state = engine.refresh()
    assert state is not None
    assert state.outputs == first


@pytest.mark.parametrize(
    ("names", "where"),
    [((), "server_names"), (("ok.example", "not a name"), "server_names[1]"), (("-x",), "server_names[0]")],
)
def test_check_wrong_server_names_are_named(engine: Engine, names: tuple[str, ...], where: str) -> None:
    with pytest.raises(CheckFailed) as failed:
        engine.up({**VALUES, "server_names": names})
    assert [f.property for f in failed.value.failures] == [where]


def test_preview_create_knows_nothing_yet(engine: Engine) -> None:
    diff, outs = engine.preview(VALUES)
    assert diff is None
    assert all(getattr(outs, f.name) is UNKNOWN for f in dataclasses.fields(outs))
