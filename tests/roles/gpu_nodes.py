"""Simulated GPU nodes for role tests, and the node that serves the vendors' packages.

    from tests.roles.gpu_nodes import faults, gpu_nodes, repositories  # noqa: F401 (fixtures)

    def test_it(gpu_nodes, repositories):
        (node,) = gpu_nodes("hgx-h100")                          # tests/roles/platforms/hgx-h100.yaml
        faults(node, "gpu-half-width 0000:1b:00.0", "xid 3 79")  # see tests/roles/simnode

A node that reboots itself comes back by itself; its boot id is another one then.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from aifactory.provider.local import driver, engine_errors

from tests.roles import simnode, vendor_repo
from tests.roles.conftest import Node, Site, _wait_for_ssh

PLATFORMS = Path(__file__).parent / "platforms"
REBOOTED = 129
"""Exit status of a container whose system rebooted; one that was stopped or killed has another."""

PREFERENCE = 'Package: *\\nPin: origin "{address}"\\nPin-Priority: 1001\\n'

GpuNodes = Callable[..., tuple[Node, ...]]


def platform(name: str) -> dict[str, Any]:
    """The description of that name."""
    found: dict[str, Any] = yaml.safe_load((PLATFORMS / f"{name}.yaml").read_text("utf-8"))
    return found


@pytest.fixture(scope="module")
def repositories(site: Site) -> Iterator[vendor_repo.Repositories]:
    """All vendors' repositories on a node of their own."""
    node = site.node(f"repo{site.made}")
    _wait_for_ssh(node, site.ssh)
    served = vendor_repo.serve(node)
    yield served
    served.close()
    _remove(node)


@pytest.fixture(scope="module")
def gpu_nodes(site: Site, repositories: vendor_repo.Repositories) -> Iterator[GpuNodes]:
    """`gpu_nodes("hgx-b200", 2)` starts nodes of that platform. `description` changes it, `changes` the FleetHost.

    The distribution's packages that look at hardware come from `repositories.debian`; the vendor's are not
    configured. Nothing of a vendor is installed. `archive=False` takes the distribution's real archive away: quicker,
    where no other package is needed.
    """
    made: list[tuple[Node, threading.Event]] = []

    def start(
        name: str,
        count: int = 1,
        *,
        description: dict[str, Any] | None = None,
        archive: bool = True,
        **changes: object,
    ) -> tuple[Node, ...]:
        found = {**platform(name), **(description or {})}
        changes = {"gpus": len(found["gpus"]), "shape": found["shape"], **changes}
        new = [_started(site, f"{name[:12]}-{site.made}", found, changes) for _ in range(count)]
        for node in new:
            over = threading.Event()
            made.append((node, over))
            threading.Thread(target=_restart_after_reboot, args=(node, over), daemon=True).start()
        for node in new:
            _wait_for_ssh(node, site.ssh)
            assert node.sh("cat /var/log/simnode.log; test -e /run/simnode/tree.pickle") == ""
            use_debian(node, repositories)
            if not archive:
                node.sh("rm -f /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources")
        return tuple(new)

    yield start
    for node, over in made:
        over.set()
        _remove(node)


@dataclass
class _Engine(driver.ContainerEngine):
    """Puts `contents` into a container before it starts."""

    contents: bytes = b""

    def start(self, name: str) -> None:
        self.copy_in(name, self.contents)
        super().start(name)


def _started(site: Site, name: str, description: dict[str, Any], changes: dict[str, object]) -> Node:
    engine = _Engine(site.engine.info, site.engine.program, contents=simnode.prepared(description))
    other = replace(site, engine=engine)
    node = other.node(name, **changes)
    site.made = other.made
    return replace(node, engine=site.engine)


def use_debian(node: Node, repositories: vendor_repo.Repositories) -> None:
    """Has the node take the distribution's hardware packages from the server."""
    address = repositories.debian.server.host.node_address
    pin = PREFERENCE.format(address=address).replace("Package: *", "Package: " + " ".join(_debian_names(repositories)))
    node.sh(f"{repositories.debian.sources()}printf '{pin}' >/etc/apt/preferences.d/00-hardware")


def _debian_names(repositories: vendor_repo.Repositories) -> list[str]:
    return [package.name for package in vendor_repo.debian_packages([repositories.kernel])]


def faults(node: Node, *lines: str) -> None:
    """Sets the node's faults, in place of those it had; they show at once."""
    text = "".join(f"{line}\n" for line in lines)
    node.sh(f"cat >{simnode.FAULTS} <<'EOF'\n{text}EOF\n/opt/simnode/bin/simnode refresh")


def reboot(node: Node, timeout_s: float = 60) -> None:
    """Reboots the node and waits until its systemd is up again."""
    before = boot_id(node)
    node.sh("systemctl --no-block reboot")
    deadline = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(AssertionError, engine_errors.EngineError):
            if boot_id(node) != before:
                done = node.engine.execute(node.name, "systemctl", "is-system-running", "--wait", timeout_s=timeout_s)
                if done.stdout.strip() in (b"running", b"degraded"):  # before systemd listens it is neither
                    return
        assert time.monotonic() < deadline, f"{node.name} did not come back"
        time.sleep(0.2)


def boot_id(node: Node) -> str:
    return node.sh("cat /proc/sys/kernel/random/boot_id")


def _restart_after_reboot(node: Node, over: threading.Event) -> None:
    """Starts the container again whenever its system has rebooted, until `over`."""
    while not over.is_set():
        argv = [node.engine.program, "wait", node.name]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if over.is_set() or done.returncode != 0:
            return
        if done.stdout.strip() == str(REBOOTED):
            with contextlib.suppress(engine_errors.EngineError):
                node.engine.start(node.name)
        else:
            over.wait(0.5)


def _remove(node: Node) -> None:
    node.engine.remove(node.name)
    with contextlib.suppress(engine_errors.EngineError):
        node.engine.remove_volume(f"{node.name}-containers")
