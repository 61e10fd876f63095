"""The generated OpenSSH configuration. Real: `ssh -G`, which prints what ssh makes of it. No connection."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from aifactory.errors import ProblemError
from aifactory.hosts import remote, ssh
from aifactory.hosts.play import SshAccess

from .conftest import HOST_KEY, fleet_host

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----"


def effective(config: Path, host: str) -> dict[str, str]:
    """What ssh would do for the host."""
    done = subprocess.run(["ssh", "-G", "-F", str(config), host], capture_output=True, text=True, check=True)
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)


def test_host_is_reached_at_its_address_with_its_key_checked(tmp_path: Path) -> None:
    config = ssh.write(tmp_path, [fleet_host("a"), fleet_host("b", port=22)], SshAccess(private_key=KEY))
    found = effective(config, "a")
    assert (found["hostname"], found["port"], found["user"]) == ("127.0.0.1", "2211", "ops")
    assert found["stricthostkeychecking"] == "true"
    assert found["userknownhostsfile"] == str(tmp_path / "known_hosts")
    assert found["globalknownhostsfile"] == "/dev/null"
    assert (found["batchmode"], found["identitiesonly"], found["forwardagent"]) == ("yes", "yes", "no")
    assert (found["serveraliveinterval"], found["serveralivecountmax"]) == ("10", "3")
    assert (tmp_path / "known_hosts").read_text() == f"[127.0.0.1]:2211 {HOST_KEY}\n127.0.0.1 {HOST_KEY}\n"


def test_key_text_goes_to_a_file_that_only_we_read(tmp_path: Path) -> None:
    config = ssh.write(tmp_path, [fleet_host()], SshAccess(private_key=KEY))
    assert effective(config, "a")["identityfile"] == str(tmp_path / "identity")
    assert stat.S_IMODE((tmp_path / "identity").stat().st_mode) == 0o600
    assert (tmp_path / "identity").read_text() == KEY + "\n"
    assert "AAAA\n" not in config.read_text()


def test_key_of_the_user_is_used_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    config = ssh.write(tmp_path, [fleet_host()], SshAccess(private_key_path=str(tmp_path / "mine")))
    assert effective(config, "a")["identityfile"] == str(tmp_path / "mine")


def test_missing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match=r"no-such-key does not exist"):
        ssh.write(tmp_path, [fleet_host()], SshAccess(private_key_path=str(tmp_path / "no-such-key")))


def test_a_shell_for_a_person_gets_a_terminal() -> None:
    with remote.session(fleet_host(), SshAccess(private_key=KEY)) as argv:
        done = subprocess.run([argv[0], "-G", *argv[1:]], capture_output=True, text=True, check=True)
    assert "requesttty auto" in done.stdout.splitlines()


def test_bastion_is_checked_too(tmp_path: Path) -> None:
    access = SshAccess(private_key=KEY, bastion="jump@gate.example.no:2200", bastion_host_key=HOST_KEY)
    config = ssh.write(tmp_path, [fleet_host()], access)
    assert effective(config, "a")["proxycommand"] == f'ssh -F "{tmp_path}/bastion_config" -W "[%h]:%p" bastion'
    hop = effective(tmp_path / "bastion_config", "bastion")
    assert (hop["hostname"], hop["port"], hop["user"]) == ("gate.example.no", "2200", "jump")
    assert hop["stricthostkeychecking"] == "true"
    assert (tmp_path / "bastion_known_hosts").read_text() == f"[gate.example.no]:2200 {HOST_KEY}\n"


def test_jump_host_may_be_let_in_by_the_agent_where_the_key_was_made_with_the_region(tmp_path: Path) -> None:
    way = {"bastion": "jump@gate.example.no", "bastion_host_key": HOST_KEY}
    (tmp_path / "mine").touch()
    made, own = tmp_path / "made", tmp_path / "own"
    for folder, access in ((made, SshAccess(KEY, **way)), (own, SshAccess(None, str(tmp_path / "mine"), **way))):
        folder.mkdir()
        ssh.write(folder, [fleet_host()], access)
    assert effective(made / "ssh_config", "a")["identityagent"] == "none"
    hop = effective(made / "bastion_config", "bastion")
    assert hop["identityfile"] == str(made / "identity")
    assert (hop["identitiesonly"], hop.get("identityagent", "SSH_AUTH_SOCK")) == ("no", "SSH_AUTH_SOCK")
    assert effective(own / "bastion_config", "bastion")["identityagent"] == "none"


@pytest.mark.parametrize(
    ("host", "access"),
    [
        ({"address": "-oProxyCommand=id"}, {}),
        ({"address": "a b"}, {}),
        ({"address": "10.0.0.1\n  ProxyCommand id"}, {}),
        ({"user": "-l"}, {}),
        ({"user": "ops\n  ProxyCommand id"}, {}),
        ({"host_key": "ssh-ed25519 AAAA\n* ssh-ed25519 BBBB"}, {}),
        ({"host_key": ""}, {}),
        ({}, {"bastion": "-oProxyCommand=id", "bastion_host_key": HOST_KEY}),
        ({}, {"bastion": "a:b:c", "bastion_host_key": HOST_KEY}),
        ({}, {"bastion": "gate.example.no"}),
    ],
)
def test_value_that_ssh_could_take_for_an_option_is_refused(
    tmp_path: Path, host: dict[str, Any], access: dict[str, str]
) -> None:
    with pytest.raises(ProblemError):
        ssh.write(tmp_path, [fleet_host(**host)], SshAccess(**access))
    assert list(tmp_path.iterdir()) == []
