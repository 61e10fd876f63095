"""The first boot: what nodes are told, and the host key on their consoles. Real: the template, its shell script under
this machine's sh with commands that write down what they were asked. cloud-init itself does not run here.

Update the golden files with `UPDATE_GOLDEN=1 pytest tests/provider/aws/test_boot.py` and read the diff.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from aifactory.provider.aws import boot
from aifactory.provider.aws.boot import Boot
from aifactory.provider.host.key_material import ssh_key_pair
from aifactory.provider.resource import Refused

from tests.provider.aws.pools import HOST_KEY, console

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHtOReNwl7HPAz5EUR/6mRdACoNszPBcSS9tCUeot7CE"
BOOTS = {
    "data-volume": Boot("eu-sovereign-train", "ops", KEY, data_volume=True),
    "plain": Boot("eu-sovereign-front", "ops", f"{KEY} ops@lab", data_volume=False),
}
GOLDEN = Path(__file__).parents[2] / "golden" / "boot"


@pytest.mark.parametrize("which", BOOTS)
def test_user_data_is_the_golden_one(which: str) -> None:
    path, text = GOLDEN / f"{which}.yaml", boot.user_data(BOOTS[which])
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("which", BOOTS)
def test_user_data_lets_one_user_in_by_key_and_nobody_by_password(which: str) -> None:
    text = boot.user_data(BOOTS[which])
    told: dict[str, Any] = yaml.safe_load(text)
    assert text.splitlines()[0] == "#cloud-config", "cloud-init tells its kind by the first line"
    assert text.splitlines()[1].startswith("# Managed by aifactory (templates/boot/user-data.yaml.j2)")
    (user,) = told["users"]
    assert (user["name"], user["ssh_authorized_keys"]) == ("ops", [BOOTS[which].authorized_key])
    assert user["lock_passwd"] is True
    assert told["ssh_pwauth"] is False
    assert told["ssh_genkeytypes"] == ["ed25519"]
    assert told["ssh"]["emit_keys_to_console"] is True
    assert {one["path"] for one in told["write_files"]} >= {"/etc/ssh/sshd_config.d/10-aifactory-boot.conf"}


def test_values_are_data_and_no_yaml() -> None:
    key = 'ssh-ed25519 AAAA "a: b\n  - name: root'
    told = yaml.safe_load(boot.user_data(Boot("t", "ops", key, data_volume=False)))
    assert [user["name"] for user in told["users"]] == ["ops"]
    assert told["users"][0]["ssh_authorized_keys"] == [key]


def test_user_data_that_does_not_fit_is_refused() -> None:
    with pytest.raises(Refused, match="EC2 takes 16384"):
        boot.user_data(Boot("t", "ops", f"ssh-rsa {'A' * boot.USER_DATA_BYTES}", data_volume=False))


def test_host_key_is_the_ed25519_one_between_cloud_inits_lines() -> None:
    rsa = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC4yha3xcGv root@ip"
    text = console().replace("KEYS-----\r\n", f"KEYS-----\r\n{rsa}\r\n", 1)
    assert boot.host_key(text) == HOST_KEY
    assert boot.host_key("") is None
    assert boot.host_key(text.split("-----END SSH HOST KEY KEYS")[0]) is None, "it is still being printed"
    assert boot.host_key(f"{HOST_KEY} root@vm\n") is None, "not where cloud-init prints it"
    assert boot.host_key(console(f"{HOST_KEY[:40]}\r\n{HOST_KEY[40:]}")) is None, "torn by another writer"
    assert boot.host_key(console() + console()) == HOST_KEY


def test_two_different_host_keys_are_no_host_key() -> None:
    with pytest.raises(ValueError, match="more than one"):
        boot.host_key(console() + console(ssh_key_pair()[1]))


# -- the script


class Node:
    """A folder with stand-ins for the commands that the script calls; `log` is what they were asked."""

    def __init__(self, folder: Path, which: str) -> None:
        self.bin, self.root, self._log = folder / "bin", folder, folder / "log"
        self.bin.mkdir()
        told = yaml.safe_load(boot.user_data(BOOTS[which]))
        script = next(one["content"] for one in told["write_files"] if one["path"] == "/usr/local/sbin/aifactory-boot")
        for path in ("/dev/disk", "/dev/sdf", "/dev/xvdf", "/etc/", "/srv/", "/var/lib/"):
            script = script.replace(path, f"{folder}{path}")
        self.script = folder / "boot"
        self.script.write_text(script)
        (folder / "etc").mkdir()
        for name in ("hostnamectl", "mount", "mkfs.ext4", "sleep"):
            self.command(name, "")
        self.command("lsblk", "")
        self.command("blkid", "exit 2")
        self.metadata(first="64", index="7", address="10.0.0.9")

    def command(self, name: str, body: str) -> None:
        path = self.bin / name
        path.write_text(f'#!/bin/sh\necho {name} "$@" >> {self._log}\n{body}\n')
        path.chmod(0o755)

    def metadata(self, **values: str) -> None:
        paths = {"first": "tags/instance/aifactory.first", "index": "ami-launch-index", "address": "local-ipv4"}
        cases = "".join(f"*/{paths[name]}) echo {value};; " for name, value in values.items())
        self.command("curl", f"for a; do :; done; case $a in */api/token) echo t;; {cases} *) exit 22;; esac")

    def disk(self, name: str) -> Path:
        path = self.root / "dev/disk/by-id" / f"nvme-Amazon_Elastic_Block_Store_{name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return path

    def run(self) -> str:
        path = f"{self.bin}:/usr/bin:/bin"
        done = subprocess.run(
            ["sh", str(self.script)], capture_output=True, text=True, env={"PATH": path}, timeout=20, check=False
        )
        assert done.stderr == ""
        return done.stdout

    @property
    def log(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []

    def read(self, path: str) -> str:
        found = self.root / path
        return found.read_text() if found.exists() else ""


def test_node_takes_its_host_name_from_its_place_in_the_batch(tmp_path: Path) -> None:
    node = Node(tmp_path, "plain")
    assert node.run() == ""
    assert "hostnamectl set-hostname eu-sovereign-front-071" in node.log
    assert node.read("etc/hosts") == "10.0.0.9 eu-sovereign-front-071\n"
    tokens = [line for line in node.log if line.startswith("curl") and "api/token" in line]
    assert len(tokens) == 1
    assert "-X PUT" in tokens[0], "IMDSv2"


@pytest.mark.parametrize("first", [{}, {"first": "'a[$(touch /tmp/x)]'"}, {"first": "''"}])
def test_node_without_a_place_keeps_its_host_name(tmp_path: Path, first: dict[str, str]) -> None:
    node = Node(tmp_path, "plain")
    node.metadata(index="7", address="10.0.0.9", **first)
    assert "keeps its host name" in node.run()
    assert not any("hostnamectl" in line for line in node.log)


def test_blank_data_volume_is_formatted_and_mounted_where_the_roles_write(tmp_path: Path) -> None:
    node = Node(tmp_path, "data-volume")
    root, data = node.disk("vol0aaa"), node.disk("vol0bbb")
    node.disk("vol0bbb-part1")
    node.command("lsblk", f'case "$3" in {root}) echo /;; esac')
    node.run()
    assert f"mkfs.ext4 -q -L aifactory-data {data}" in node.log
    assert f"mount {data} {tmp_path}/srv/aifactory" in node.log
    for folder in ("containers", "aifactory"):
        at = f"{tmp_path}/var/lib/{folder}"
        assert f"mount --bind {tmp_path}/srv/aifactory{at} {at}" in node.log
    assert len(node.read("etc/fstab").splitlines()) == 3
    assert all("nofail" in line for line in node.read("etc/fstab").splitlines())
    assert any("hostnamectl" in line for line in node.log)


@pytest.mark.parametrize(
    ("found", "formatted", "said"),
    [
        ("echo aifactory-data", False, ""),
        ("echo somebodys", False, "not ours"),
        ("exit 8", False, "cannot be told"),
        ("exit 2", True, ""),
    ],
)
def test_data_volume_with_something_on_it_is_never_formatted(
    tmp_path: Path, found: str, formatted: bool, said: str
) -> None:
    node = Node(tmp_path, "data-volume")
    node.disk("vol0bbb")
    node.command("blkid", found)
    out = node.run()
    assert any("mkfs" in line for line in node.log) == formatted
    assert (said in out) if said else (out == "")
    assert any(line.startswith("mount") for line in node.log) == (said == "")


def test_data_volume_that_does_not_come_is_said_and_the_node_goes_on(tmp_path: Path) -> None:
    node = Node(tmp_path, "data-volume")
    assert "the data volume did not appear" in node.run()
    assert any("hostnamectl" in line for line in node.log)
    assert sum(line.startswith("sleep") for line in node.log) == 59


def test_folder_that_the_image_filled_is_not_hidden(tmp_path: Path) -> None:
    node = Node(tmp_path, "data-volume")
    node.disk("vol0bbb")
    (tmp_path / "var/lib/containers/storage").mkdir(parents=True)
    assert "var/lib/containers is not empty" in node.run()
    assert [line for line in node.log if "--bind" in line and "containers" in line] == []
