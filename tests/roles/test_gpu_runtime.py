"""The GPU half of the role `runtime` on a simulated GPU node.

Real: ansible, ssh, apt and the toolkit's package from a signed repository, podman, which reads the CDI specification
and gives a real container its device nodes. Simulated: GPUs, driver, nvidia-smi, nvidia-ctk.
"""

# ruff: noqa: F811 (fixtures are imported)
from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from aifactory.hosts import run as hosts_run
from aifactory.hosts.play import HostOutcome, Play
from aifactory.provider.local import driver
from aifactory.provider.local.engine_flags import RunFlags

from tests.roles.conftest import Node, Site, _wait_for_ssh
from tests.roles.gpu_nodes import GpuNodes, gpu_nodes, repositories  # noqa: F401 (fixtures)
from tests.roles.vendor_repo import Repositories

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]

OLD, NEW = "580.126.20", "580.178.04"
APT = "DEBIAN_FRONTEND=noninteractive apt-get -yq -o APT::Update::Error-Mode=any"
DRIVER = f"{APT} update && {APT} install linux-headers-amd64 nvidia-driver-pinning-{{0}}"
DRIVER += f" && {APT} install --allow-downgrades nvidia-driver-cuda nvidia-kernel-open-dkms"
LIST = "nvidia-ctk cdi list 2>/dev/null"


@pytest.fixture(scope="module")
def node(gpu_nodes: GpuNodes, repositories: Repositories) -> Node:
    """An HGX H100 with the older driver loaded, by plain apt."""
    (node,) = gpu_nodes("hgx-h100")
    node.sh(f"{repositories.nvidia.sources()}{DRIVER.format(OLD)}", 300)
    node.sh("rm /etc/apt/sources.list.d/*nvidia* && modprobe nvidia && modprobe nvidia_uvm")
    return node


@pytest.fixture(scope="module")
def play(node: Node, repositories: Repositories) -> Play:
    nvidia = repositories.nvidia
    given: dict[str, Any] = {
        "gpus_per_node": 8, "vendor": "nvidia", "rdma": True,
        "repository": {"url": nvidia.url, "fingerprint": nvidia.fingerprint},
    }  # fmt: skip
    return Play("runtime.yml", "configuration", (node.host,), ("runtime",), {"runtime": given})


def run(site: Site, play: Play, **more: Any) -> HostOutcome:
    """Outcome on the only node; what is not `check` goes into the role's dict."""
    check = more.pop("check", False)
    given = {"runtime": {**play.role_vars["runtime"], **more}}
    (outcome,) = hosts_run.run_play(replace(play, role_vars=given, check=check), site.ssh).hosts.values()
    return outcome


def facts(node: Node) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(node.sh("cat /etc/ansible/facts.d/aifactory_runtime.fact"))
    return found


# The tests follow one node through its life, in this order.


def test_check_mode_passes_on_the_fresh_node(site: Site, play: Play, node: Node) -> None:
    outcome = run(site, play, check=True)
    assert (outcome.failed_task, outcome.message) == (None, None)
    assert outcome.changed >= 4
    assert node.sh("command -v nvidia-ctk || true") == ""


def test_cdi_names_every_gpu_and_a_container_sees_them(site: Site, play: Play, node: Node) -> None:
    outcome = run(site, play)
    assert (outcome.status, outcome.message) == ("changed", None)
    listed = node.sh(LIST).split()
    assert {f"nvidia.com/gpu={index}" for index in range(8)} | {"nvidia.com/gpu=all"} <= set(listed)
    found = facts(node)
    assert (found["containers"], found["gpus"], found["container_devices"][0]) == (True, 8, "nvidia.com/gpu=all")
    assert "/dev/infiniband/uverbs0" in found["container_devices"]
    assert node.sh(
        "dpkg-query -W -f '${Package}\\n' 'nvidia-container*' 'libnvidia-container*' 2>/dev/null || true"
    ) == ("nvidia-container-toolkit-base")
    assert "nvidia-container-toolkit-base" in node.sh("apt-mark showhold")
    limits = node.sh("cat /etc/containers/containers.conf.d/90-aifactory.conf 2>/dev/null || true")
    assert ("memlock=-1:-1" in limits) is found["memlock"], (
        "a limit that the machine below forbids ends every container"
    )


@pytest.mark.parametrize("check", [False, True])
def test_second_run_changes_nothing(site: Site, play: Play, check: bool) -> None:
    outcome = run(site, play, check=check)
    assert (outcome.status, outcome.changed) == ("converged", 0)


def test_specification_follows_the_driver(site: Site, play: Play, node: Node) -> None:
    node.sh(DRIVER.format(NEW), 300)  # from the repository that the role trusts by now
    node.sh("rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia || true; modprobe nvidia; modprobe nvidia_uvm")
    assert node.sh("cat /sys/module/nvidia/version") == NEW
    spec = facts(node)["cdi"]["spec"]
    node.sh(f"sed -i 's/{NEW}/{OLD}/g' {spec}")  # whatever the refresh unit has done already
    assert run(site, play, check=True).changed == 1
    assert run(site, play).changed == 1
    assert NEW in node.sh(f"cat {spec}")
    assert run(site, play).changed == 0


def test_removed_specification_comes_back(site: Site, play: Play, node: Node) -> None:
    node.sh("rm -f /etc/cdi/* /var/run/cdi/*")
    assert run(site, play).changed >= 1
    assert "nvidia.com/gpu=7" in node.sh(LIST)


def test_device_node_that_is_gone_is_named(site: Site, play: Play, node: Node) -> None:
    node.sh("mv /dev/nvidia5 /dev/away")
    outcome = run(site, play)
    node.sh("mv /dev/away /dev/nvidia5")
    assert outcome.status == "failed"
    assert "it names /dev/nvidia5, which the node has not" in (outcome.message or "")


def test_container_that_misses_a_gpu_is_told(site: Site, play: Play, node: Node) -> None:
    """The specification has every name, and its `all` is one device short: only a container finds that out."""
    spec = facts(node)["cdi"]["spec"]
    cut = f"t = open('{spec}').read(); a, b = t.split('name: all'); line = '            - path: /dev/nvidia5\\n'"
    node.sh(
        f"python3 -c \"{cut}; assert line in b; open('{spec}', 'w').write(a + 'name: all' + b.replace(line, '', 1))\""
    )
    outcome = run(site, play)
    assert outcome.failed_task == "runtime : Check what the container engine can do"
    assert "containers do not see the GPUs: /dev/nvidia5 cannot be read and written" in (outcome.message or "")
    node.sh(f"rm {spec}")
    assert run(site, play).message is None


def test_version_that_podman_cannot_read_is_refused_before_anything_changes(site: Site, play: Play, node: Node) -> None:
    before = node.sh("dpkg -l | sha256sum")
    old = """#!/bin/sh\ncase $1 in --version) echo podman version 4.9.3;; *) exec /usr/bin/podman "$@";; esac\n"""
    node.sh(f"cat > /usr/local/bin/podman <<'EOF'\n{old}EOF\nchmod 755 /usr/local/bin/podman")
    outcome = run(site, play, toolkit_version="1.19.1")
    assert outcome.failed_task == "runtime : Have GPUs in containers"
    assert "toolkit 1.19.1 writes CDI 0.7.0, which podman 4.9.3 cannot read" in (outcome.message or "")
    assert node.sh("dpkg -l | sha256sum") == before


def test_newer_version_that_is_there_is_replaced_for_old_podman(site: Site, play: Play, node: Node) -> None:
    outcome = run(site, play)
    node.sh("rm /usr/local/bin/podman")
    assert (outcome.failed_task, outcome.message) == (None, None)
    assert facts(node)["toolkit"] == "1.19.0"
    assert facts(node)["cdi"]["version"] == "0.5.0"


def test_version_asked_for_is_installed_and_one_that_is_not_offered_named(site: Site, play: Play, node: Node) -> None:
    assert run(site, play, toolkit_version="1.18.2").failed_task is None
    assert facts(node)["toolkit"] == "1.18.2"
    outcome = run(site, play, toolkit_version="1.18.9")
    assert "toolkit 1.18.9 is not in the repositories, which have 1.19.1-1" in (outcome.message or "")


def test_operators_own_containers_see_the_gpus_too(site: Site, play: Play, node: Node) -> None:
    node.sh("rm -rf /home/ops/.local/share/containers")
    outcome = run(site, play)
    assert (outcome.failed_task, outcome.message) == (None, None)
    assert facts(node)["rootless"] is True
    assert node.sh("ls -d /home/ops/.local/share/containers"), "no container was the operator's"


def test_device_that_only_root_may_use_is_told_with_the_fix(site: Site, play: Play, node: Node) -> None:
    node.sh("chmod 600 /dev/nvidia5")
    outcome = run(site, play)
    node.sh("chmod 666 /dev/nvidia5")
    assert outcome.failed_task == "runtime : Check what the container engine can do"
    assert f"{node.name}: containers of ops do not see the GPUs, root's do: /dev/nvidia5" in (outcome.message or "")
    assert "Give the device mode 0666" in (outcome.message or "")


def test_user_without_a_namespace_is_told_with_the_fix(site: Site, play: Play, node: Node) -> None:
    assert run(site, play).message is None
    node.sh("chmod u-s /usr/bin/newuidmap && pkill -u ops podman")  # podman keeps the namespace that it has
    outcome = run(site, play)
    node.sh("chmod u+s /usr/bin/newuidmap")
    assert "should have setuid" in (outcome.message or "")
    assert "Have newuidmap and newgidmap set-uid root" in (outcome.message or "")


def test_devices_of_a_group_are_seen_by_its_members(site: Site, play: Play, node: Node) -> None:
    node.sh("chgrp video /dev/nvidia[0-9] && chmod 660 /dev/nvidia[0-9]")
    assert "Put ops into video, and run again" in (run(site, play).message or "")
    node.sh("usermod -aG video ops")
    outcome = run(site, play)
    node.sh("gpasswd -d ops video && chgrp root /dev/nvidia[0-9] && chmod 666 /dev/nvidia[0-9]")
    assert outcome.message is None
    kept = "/etc/containers/containers.conf.d/90-aifactory-groups.conf"
    assert "keep_original_groups=1" in node.sh(f"cat {kept}")
    assert run(site, play).message is None
    assert node.sh(f"ls {kept} 2>/dev/null || true") == "", "containers keep no groups where none is needed"


# An image: the same roles where nothing runs


class WithoutSystemd(driver.ContainerEngine):
    """Containers in which sshd is all that runs, as in a chroot."""

    def create_argv(self, new: driver.NewContainer, flags: RunFlags) -> list[str]:
        argv = [word for word in super().create_argv(new, flags) if word != "--systemd=always"]
        return [*argv, "/bin/sh", "-c", "mkdir -p /run/sshd && exec /usr/sbin/sshd -D"]


@pytest.fixture(scope="module")
def image(site: Site) -> Iterator[Node]:
    engine = WithoutSystemd(site.engine.info, site.engine.program)
    node = replace(site, engine=engine).node("image", gpus=8)
    _wait_for_ssh(node, site.ssh)
    yield node
    node.engine.remove(node.name)
    node.engine.remove_volume(f"{node.name}-containers")


def programs(node: Node) -> list[str]:
    """Names of what runs on the node."""
    return sorted(node.sh("cat /proc/[0-9]*/comm 2>/dev/null || true").split())


def test_image_gets_packages_and_files_and_starts_nothing(site: Site, play: Play, image: Node) -> None:
    layers = ("host", "fabric", "gpu", "runtime")
    given = {
        **{layer: {} for layer in layers}, "runtime": play.role_vars["runtime"],
        "gpu": {"vendor": "", "gpus_per_node": 0}, "fabric": {},
    }  # fmt: skip
    baked = Play("image.yml", "image", (replace(image.host, gpus=0),), layers, given)
    before = programs(image)
    (outcome,) = hosts_run.run_play(baked, site.ssh).hosts.values()
    assert (outcome.failed_task, outcome.message) == (None, None)
    assert image.sh("ls /usr/bin/podman /usr/bin/nvidia-ctk | wc -l") == "2"
    assert image.sh("ls /etc/cdi /var/run/cdi /etc/ansible/facts.d 2>/dev/null || true") == ""
    assert "00-aifactory.conf" in image.sh("ls /etc/ssh/sshd_config.d")
    deadline = time.monotonic() + 30  # the server's part of a connection ends a little after ours
    while programs(image) != before and time.monotonic() < deadline:
        time.sleep(0.5)
    assert programs(image) == before, "something was left running"
    (again,) = hosts_run.run_play(baked, site.ssh).hosts.values()
    assert (again.status, again.changed) == ("converged", 0)
