"""Images: the slow layers are baked where nothing runs, and nodes that start from them have nothing slow to do.

Real: the root of an image (a container in which sshd is all that runs), its packages from signed repositories, the
image itself (the engine's commit), systemd and sshd of the nodes that start from it, ssh, ansible, the roles with the
dicts that the plan makes. Simulated: GPUs, cards, kernel modules, DKMS (tests/roles/simnode).
"""

# ruff: noqa: F811 (fixtures are imported)
from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from aifactory.components import role_vars
from aifactory.hosts import run as hosts_run
from aifactory.hosts.play import HostOutcome, Play
from aifactory.plan import build
from aifactory.provider.local import driver, engine_errors
from aifactory.provider.local.engine_flags import RunFlags

from tests.roles import simnode
from tests.roles.conftest import Node, Site, _wait_for_ssh
from tests.roles.gpu_nodes import _Engine, boot_id, platform, repositories, use_debian  # noqa: F401 (fixture)
from tests.roles.test_gpu_driver import WEB_UNIT
from tests.roles.vendor_repo import ROCM, Repositories
from tests.unit.plan import regions

pytestmark = [pytest.mark.containers, pytest.mark.timeout(1200)]

NVIDIA, AMD = "hgx-h100-spectrum", "mi300x"
OLD, NEW = "580.126.20", "580.178.04"
LAYERS = ("host", "fabric", "gpu")
START = f"""
mount -t tmpfs tmpfs /run  # what is there belongs to a run, not to the image
sh {simnode.FOLDER}/setup && {simnode.FOLDER}/bin/simnode boot
mkdir -p /run/sshd && exec /usr/sbin/sshd -D
"""
PACKAGES = "dpkg-query -W -f '${Package} ${Version} ${db:Status-Status}\\n' | sort"
LOGS = "sha256sum /var/log/dpkg.log /var/log/apt/history.log"
Given = dict[str, dict[str, Any]]


@dataclass
class Builder(driver.ContainerEngine):
    """Containers in which sshd is all that runs, on a machine without any card."""

    contents: bytes = b""

    def create_argv(self, new: driver.NewContainer, flags: RunFlags) -> list[str]:
        argv = [word for word in super().create_argv(new, flags) if word != "--systemd=always"]
        return [*argv, "/bin/sh", "-c", START]

    def start(self, name: str) -> None:
        self.copy_in(name, self.contents)
        super().start(name)


@dataclass(frozen=True)
class Image:
    """What was baked: a reference of the engine's, the root that it was made from, and with what."""

    reference: str
    root: Node
    play: Play
    outcome: HostOutcome


def of_the_plan(name: str, **sections: Any) -> Given:
    """The dicts of a region with one node of the platform's shape."""
    plan = build.plan(regions.static(platform(name)["shape"], **sections))
    given = role_vars.role_vars(plan, plan.pools[0])
    return {layer: given[layer] for layer in LAYERS}


@pytest.fixture(scope="module")
def nvidia(repositories: Repositories) -> Given:
    mirror = {"url": repositories.nvidia.url, "fingerprint": repositories.nvidia.fingerprint}
    software = {"driver_version": NEW, "repositories": {"nvidia": mirror}}
    given = of_the_plan(NVIDIA, software=software, fabric={"kind": "roce", "stack": "doca"})
    doca = repositories.doca
    given["fabric"]["repository"] = {"url": doca.url, "fingerprint": doca.fingerprint, "key_file": doca.key_file}
    return given


@pytest.fixture(scope="module")
def amd(repositories: Repositories) -> Given:
    mirror = {"url": repositories.amd.url + "/{distro}/{arch}", "fingerprint": repositories.amd.fingerprint}
    software = {"rocm_version": ROCM, "repositories": {"amdgpu": mirror}}
    given = of_the_plan(AMD, software=software, fabric={"kind": "tcp"})
    given["gpu"]["platform"]["kernel_arguments"] = []
    return given


Bake = Callable[[str, Given], Image]


@pytest.fixture(scope="module")
def bake(site: Site, repositories: Repositories) -> Iterator[Bake]:
    """Bakes an image for nodes of a platform."""
    repositories.nvidia.server.sh(f"printf '{WEB_UNIT}' >/etc/systemd/system/repository.service")
    made: list[Node] = []
    references: list[str] = []

    def baked(name: str, given: Given) -> Image:
        bare = {**platform(name), "gpus": [], "nics": [], "nvswitches": []}
        engine = Builder(site.engine.info, site.engine.program, contents=simnode.prepared(bare))
        other = replace(site, engine=engine)
        root = replace(other.node(f"root{site.made}", gpus=8), engine=site.engine)
        site.made = other.made
        made.append(root)
        _wait_for_ssh(root, site.ssh)
        use_debian(root, repositories)
        play = Play("image.yml", "image", (root.host,), LAYERS, given)
        (outcome,) = hosts_run.run_play(play, site.ssh).hosts.values()
        reference = f"localhost/{site.network}:{len(references)}"
        site.engine.run("commit", "--change", 'CMD ["/sbin/init"]', root.name, reference, timeout_s=600)
        references.append(reference)
        return Image(reference, root, play, outcome)

    yield baked
    for node in made:
        node.engine.remove(node.name)
        node.engine.remove_volume(f"{node.name}-containers")
    for reference in references:
        site.engine.remove_image(reference)


@pytest.fixture(scope="module")
def image(bake: Bake, nvidia: Given) -> Image:
    return bake(NVIDIA, nvidia)


@contextlib.contextmanager
def started(site: Site, image: Image, name: str) -> Iterator[Node]:
    """A node of the platform that starts from the image."""
    found = platform(name)
    engine = _Engine(site.engine.info, site.engine.program, contents=simnode.prepared(found))
    other = replace(site, engine=engine, image=image.reference)
    node = replace(other.node(f"baked{site.made}", gpus=len(found["gpus"]), shape=found["shape"]), engine=site.engine)
    site.made = other.made
    try:
        _wait_for_ssh(node, site.ssh)
        yield node
    finally:
        node.engine.remove(node.name)
        with contextlib.suppress(engine_errors.EngineError):
            node.engine.remove_volume(f"{node.name}-containers")


@pytest.fixture(scope="module")
def node(site: Site, image: Image) -> Iterator[Node]:
    with started(site, image, NVIDIA) as made:
        yield made


def run(site: Site, node: Node, given: Given, *, check: bool = False) -> hosts_run.RunResult:
    return hosts_run.run_play(Play("site.yml", "configuration", (node.host,), LAYERS, given, check=check), site.ssh)


@contextlib.contextmanager
def nothing_served(repositories: Repositories) -> Iterator[None]:
    """No repository of any vendor answers."""
    repositories.nvidia.break_("down")
    try:
        yield
    finally:
        repositories.nvidia.mend()


def test_image_has_driver_services_and_fabric_built_for_its_kernel_and_nothing_runs(image: Image) -> None:
    root = image.root
    assert (image.outcome.failed_task, image.outcome.message) == (None, None)
    have = dict(line.split()[:2] for line in root.sh(PACKAGES).splitlines())
    for name in ("nvidia-driver-cuda", "nvidia-kernel-open-dkms", "nvidia-fabricmanager", "libnvidia-nscq"):
        assert have[name] == f"{NEW}-1"
    assert {"doca-ofed", "mlnx-tools", "nvidia-persistenced"} <= have.keys()
    assert "installed" in root.sh("dkms status nvidia")
    assert {"nvidia-driver-cuda", "nvidia-fabricmanager"} <= set(root.sh("apt-mark showhold").split())
    assert root.sh("ls /etc/systemd/system/multi-user.target.wants | grep -c nvidia-fabricmanager") == "1"
    assert root.sh("ls -d /sys/module/nvidia 2>/dev/null || true") == ""
    assert root.sh("ls /etc/ansible/facts.d /etc/nccl.conf 2>/dev/null || true") == "", "a machine was looked at"
    assert (
        root.sh("for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline; echo; done | grep -cE '^/usr/bin/n' || true")
        == "0"
    )


def test_image_built_in_a_container_is_for_a_machine_with_its_own_kernel(image: Image) -> None:
    root = image.root
    assert root.sh("systemd-detect-virt --container || true") != "none", "the test would show nothing"
    assert "memlock unlimited" in root.sh("cat /etc/security/limits.d/90-aifactory.conf")
    assert "DefaultLimitMEMLOCK=infinity" in root.sh("cat /etc/systemd/system.conf.d/90-aifactory.conf")
    assert root.sh("dpkg-query -W -f '${db:Status-Status}' systemd-timesyncd") == "installed"


def test_image_that_is_baked_again_does_not_change(image: Image, site: Site) -> None:
    (outcome,) = hosts_run.run_play(image.play, site.ssh).hosts.values()
    assert (outcome.status, outcome.changed, outcome.message) == ("converged", 0, None)


def test_node_from_the_image_has_its_driver_from_the_start(node: Node) -> None:
    assert node.sh("cat /sys/module/nvidia/version") == NEW
    assert node.sh("systemctl is-active nvidia-fabricmanager") == "active"


def test_node_from_the_image_is_verified_and_nothing_slow_is_done(
    site: Site, node: Node, nvidia: Given, repositories: Repositories
) -> None:
    packages, built, started_at = node.sh(PACKAGES), node.sh("dkms status"), boot_id(node)
    log = node.sh(LOGS)
    with nothing_served(repositories):
        result = run(site, node, nvidia)
    assert result.failed() == {}, result.failed()
    assert node.sh(LOGS) == log, "a package was touched"
    assert (node.sh(PACKAGES), node.sh("dkms status"), boot_id(node)) == (packages, built, started_at)
    facts = json.loads(node.sh("cat /etc/ansible/facts.d/aifactory_gpu.fact"))
    assert len(facts["gpus"]) == 8, "the node was not looked at"
    assert "NCCL_IB_HCA==" in node.sh("cat /etc/nccl.conf")
    with nothing_served(repositories):
        again = run(site, node, nvidia)
    assert {outcome.changed for outcome in again.hosts.values()} == {0}


def test_node_that_is_a_container_is_not_taken_for_an_image(site: Site, node: Node, nvidia: Given) -> None:
    result = run(site, node, nvidia, check=True)
    assert any("nodes are containers" in note for note in result.notes), result.notes


def test_node_from_the_image_that_is_to_have_another_version_gets_it(site: Site, node: Node, nvidia: Given) -> None:
    other = {**nvidia, "gpu": {**nvidia["gpu"], "driver": {**nvidia["gpu"]["driver"], "version": OLD}}}
    result = run(site, node, other, check=True)
    assert result.failed() == {}
    assert {outcome.changed > 0 for outcome in result.hosts.values()} == {True}


def test_node_that_runs_is_refused_as_an_image_and_stays_as_it_is(site: Site, node: Node, nvidia: Given) -> None:
    before = node.sh(f"{PACKAGES}; find /etc -type f -newer /proc/1/cmdline | sort")
    (outcome,) = hosts_run.run_play(Play("image.yml", "image", (node.host,), LAYERS, nvidia), site.ssh).hosts.values()
    assert (outcome.status, outcome.changed) == ("failed", 0)
    assert "systemd runs here, so this is a node and no image" in (outcome.message or "")
    assert node.sh(f"{PACKAGES}; find /etc -type f -newer /proc/1/cmdline | sort") == before


def test_amd_node_from_an_image_is_verified_and_nothing_slow_is_done(site: Site, bake: Bake, amd: Given) -> None:
    made = bake(AMD, amd)
    assert (made.outcome.failed_task, made.outcome.message) == (None, None)
    assert "installed" in made.root.sh("dkms status amdgpu")
    assert made.root.sh("ls -d /sys/module/amdgpu 2>/dev/null || true") == ""
    with started(site, made, AMD) as node:
        log, built = node.sh(LOGS), node.sh("dkms status")
        result = run(site, node, amd)
        assert result.failed() == {}, result.failed()
        assert (node.sh(LOGS), node.sh("dkms status")) == (log, built), "a package was touched"
        assert node.sh("test -d /sys/module/amdgpu && amd-smi list --json | grep -c bdf") == "8"
        assert {outcome.changed for outcome in run(site, node, amd).hosts.values()} == {0}
