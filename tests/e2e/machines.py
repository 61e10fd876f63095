"""Containers that stand for the instances of an emulated cloud: what starts there starts here, what ends there ends.

Real: the container, systemd, sshd, the login and the host key. A container gets what cloud-init would have done from
the user data that the instance was launched with, and nothing else; its host key is shown on the instance's console.
"""

from __future__ import annotations

import base64
import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from aifactory.provider.local import driver
from ruamel.yaml import YAML

from tests.emulator import Emulator
from tests.roles.conftest import LABEL, Site, _tar, key_pair

BOOTED = """\
Cloud-init v. 25.1 finished
-----BEGIN SSH HOST KEY KEYS-----
{key} root@node
-----END SSH HOST KEY KEYS-----
"""


@dataclass
class Machines:
    """Follows the emulator's instances from `with` to its end; at the end every container is gone."""

    emulator: Emulator
    site: Site
    publish: dict[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    """Node → (port on the loopback, port of the node), as a load balancer would lead there."""
    running: dict[str, str] = field(default_factory=dict)
    """Instance → container."""
    failed: list[BaseException] = field(default_factory=list)

    def __enter__(self) -> Machines:
        self._ec2 = self.emulator.boto("ec2")
        self._end = threading.Event()
        self._turn = threading.Lock()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end.set()
        self._thread.join(60)
        for name in self.running.values():
            self._remove(name)
        if self.failed and error is None:
            raise self.failed[0]

    def still(self) -> threading.Lock:
        """Held, nothing is asked of the emulator but what the product asks."""
        return self._turn

    def sh(self, node: str, script: str) -> str:
        """Output of a shell script on a node, as root, past SSH; a failing script fails the test."""
        done = self.site.engine.execute(node, "/bin/sh", "-c", script, timeout_s=60)
        assert done.returncode == 0, (script, done.stdout, done.stderr)
        return done.stdout.decode().strip()

    def _follow(self) -> None:
        try:
            while not self._end.wait(0.3):
                with self._turn:
                    self._once()
        except BaseException as error:
            self.failed.append(error)

    def _once(self) -> None:
        pages = self._ec2.get_paginator("describe_instances").paginate()
        every = [i for page in pages for r in page["Reservations"] for i in r["Instances"]]
        alive = {i["InstanceId"]: i for i in every if i["State"]["Name"] in ("pending", "running")}
        for gone in self.running.keys() - alive.keys():
            self._remove(self.running.pop(gone))
        for new in sorted(alive.keys() - self.running.keys()):
            if alive[new]["State"]["Name"] == "running":
                self.running[new] = self._start(alive[new])

    def _start(self, instance: dict[str, Any]) -> str:
        tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
        name = f"{tags['Name']}-{int(tags['aifactory.first']) + instance['AmiLaunchIndex']:03d}"
        told = self._user_data(instance["InstanceId"])
        engine = self.site.engine
        self.site.made += 1
        private, public = key_pair()
        address = f"{self.site.prefix}.{100 + self.site.made}"
        new = driver.NewContainer(
            name=name,
            image=self.site.image,
            network=self.site.network,
            address=address,
            mac=f"02:aa:bb:cc:de:{self.site.made:02x}",
            labels={LABEL: self.site.network},
            volumes=((f"{name}-containers", "/var/lib/containers"),),
            publish=self.publish.get(name, ()),
        )
        engine.create_volume(f"{name}-containers", {LABEL: self.site.network})
        engine.create(new, engine.flags(self.site.image, print))
        (user,) = told["users"]
        keys = "\n".join(user["ssh_authorized_keys"]) + "\n"
        engine.copy_in(
            name,
            _tar(
                ("etc/ssh/ssh_host_ed25519_key", private, 0o600),
                (f"etc/ssh/authorized_keys.d/{user['name']}", keys, 0o644),
            ),
        )
        engine.start(name)
        engine.hold_bridge_address(self.site.network)
        self.emulator.instance(instance["InstanceId"], address=address, console=BOOTED.format(key=public))
        return name

    def _user_data(self, instance: str) -> Any:
        found = self._ec2.describe_instance_attribute(InstanceId=instance, Attribute="userData")["UserData"]["Value"]
        return YAML(typ="safe").load(base64.b64decode(found).decode())

    def _remove(self, name: str) -> None:
        self.site.engine.remove(name)
        self.site.engine.remove_volume(f"{name}-containers")
