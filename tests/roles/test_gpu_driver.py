"""The driver part of role `gpu`, and the play `reboot`, on simulated GPU nodes and a vendor's repository.

Real: apt, dpkg, the repository's signature and versions, systemd, ssh, ansible, the restart of the system. Simulated:
GPUs, kernel modules, DKMS, Secure Boot. The NVLink, power and readiness parts of the role are not run here.
"""

# ruff: noqa: F811 (fixtures are imported)
from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aifactory import catalog, paths
from aifactory.hosts import run as hosts_run
from aifactory.hosts.play import Play

from tests.roles.conftest import Node, Site
from tests.roles.gpu_nodes import (  # noqa: F401 (fixtures)
    GpuNodes,
    boot_id,
    faults,
    gpu_nodes,
    repositories,
)
from tests.roles.vendor_repo import WEB, Repositories, VendorRepo

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]

SHAPE, KIND = "hgx-h100", "h100-sxm"
OLDEST, OLD, NEW = "570.172.08", "580.126.20", "580.178.04"
DRIVER_ONLY = """
- hosts: gpu
  gather_facts: false
  become: true
  tasks:
    - ansible.builtin.import_role: {name: gpu, tasks_from: detect}
    - ansible.builtin.import_role: {name: gpu, tasks_from: driver}
- ansible.builtin.import_playbook: %s
"""
WEB_UNIT = f"[Service]\\nExecStart=python3 -m http.server 80 --directory {WEB}\\n"
"""The server's own unit is gone once it has been stopped."""
SERVICE = '[Service]\\nExecStart=/bin/sleep infinity\\nExecStop=/bin/sh -c "systemctl is-system-running >/var/ended"\\n'
VERSIONS = "dpkg-query -W -f '${Package} ${Version}\\n' | grep -E '^(nvidia|libcuda|libnvidia)' | grep -v pinning"


def platform(key: str) -> dict[str, Any]:
    """The catalogue's row as the plan hands it to the role."""
    row = catalog.gpus()[key]
    return {
        "key": key, "name": row.name, "pci_ids": list(row.pci_ids), "architecture": row.architecture,
        "first_driver": row.minimum_driver or row.first_driver or "", "open_modules": row.open_modules,
        "open_modules_required": row.open_modules_required, "modprobe": dict(row.modprobe),
        "needs_fabric_manager": row.needs_fabric_manager, "needs_nvlsm": row.needs_nvlsm,
    }  # fmt: skip


def variables(repository: VendorRepo, version: str, kind: str = KIND, **driver: str) -> dict[str, dict[str, Any]]:
    return {
        "gpu": {
            "gpus_per_node": 8, "kind": kind, "vendor": "nvidia", "platform": platform(kind),
            "driver": {"branch": version[:3], "version": version, **driver},
            "repository": {"url": repository.url, "fingerprint": repository.fingerprint},
            "reboot": {"timeout_s": 120},
        }
    }  # fmt: skip


class Fleet:
    """Nodes, and runs of the driver part on them; `reboot` adds the play that restarts them."""

    def __init__(self, site: Site, nodes: tuple[Node, ...], repository: VendorRepo, folder: Path) -> None:
        self.site, self.nodes, self.repository = site, nodes, repository
        (folder / "driver.yml").write_text(DRIVER_ONLY % "empty.yml")
        (folder / "driver_reboot.yml").write_text(DRIVER_ONLY % (paths.PLAYBOOKS / "reboot.yml"))
        (folder / "empty.yml").write_text("- hosts: gpu\n  gather_facts: false\n")
        self.folder = folder

    @property
    def node(self) -> Node:
        return self.nodes[0]

    def run(self, version: str, *, check: bool = False, reboot: bool = False, **more: Any) -> hosts_run.RunResult:
        given = more.pop("given", None) or variables(self.repository, version, **more)
        book = self.folder / ("driver_reboot.yml" if reboot else "driver.yml")
        hosts = tuple(node.host for node in self.nodes)
        return hosts_run.run_play(Play(str(book), "configuration", hosts, ("gpu",), given, check=check), self.site.ssh)

    def one(self, version: str, **more: Any) -> Any:
        """Outcome of the only node."""
        (outcome,) = self.run(version, **more).hosts.values()
        return outcome

    def versions(self) -> set[str]:
        return {line.split()[1] for line in self.node.sh(f"{VERSIONS} || true").splitlines()}


@pytest.fixture(scope="module")
def fleet(
    site: Site,
    gpu_nodes: GpuNodes,
    repositories: Repositories,
    tmp_path_factory: pytest.TempPathFactory,
) -> Fleet:
    nodes = gpu_nodes(SHAPE)
    repositories.nvidia.server.sh(f"printf '{WEB_UNIT}' >/etc/systemd/system/repository.service")
    return Fleet(site, nodes, repositories.nvidia, tmp_path_factory.mktemp("books"))


@pytest.fixture
def mended(fleet: Fleet) -> Iterator[Fleet]:
    """What a test has broken is whole again after it."""
    yield fleet
    fleet.repository.mend()
    faults(fleet.node)


def state(node: Node) -> str:
    """Everything of the node that this part of the role owns."""
    return node.sh(
        "dpkg -l | grep '^.[^n]'; apt-mark showhold; find /etc/apt /etc/modprobe.d /etc/aifactory -type f 2>/dev/null"
        " | sort | xargs sha256sum; cat /sys/module/nvidia/version 2>/dev/null || true"
    )


def pinning(node: Node) -> list[str]:
    """Pinning packages that are installed, or have left a file that still pins."""
    return node.sh("dpkg -l 'nvidia-driver-pinning*' | awk '/^[a-z][a-z] / {print $2}' | grep pinning-").split()


# The tests of this module follow one node through its life, in this order.


def test_refusals_come_all_at_once_and_before_any_change(mended: Fleet) -> None:
    faults(mended.node, "secure-boot")
    before = state(mended.node)
    given = variables(mended.repository, OLDEST, kind="b300-sxm", modules="proprietary")
    given["gpu"]["platform"] = {
        **given["gpu"]["platform"],
        "pci_ids": platform(KIND)["pci_ids"],
        "needs_nvlsm": False,
    }
    given["gpu"]["repository"]["fingerprint"] = "3BF863CC"
    outcome = mended.one(OLDEST, given=given)
    assert (outcome.status, outcome.failed_task) == ("failed", "gpu : Have the driver")
    for words in ("needs driver 580", "open kernel modules only", "full fingerprint", "Secure Boot is on"):
        assert words in (outcome.message or "")
    assert state(mended.node) == before


def test_key_with_another_fingerprint_is_not_trusted(mended: Fleet) -> None:
    mended.repository.break_("key")
    before = state(mended.node)
    outcome = mended.one(OLDEST)
    assert outcome.status == "failed"
    assert mended.repository.fingerprint in (outcome.message or "")
    assert state(mended.node) == before


@pytest.mark.parametrize("how", ["down", "signature"])
def test_repository_that_fails_is_named_and_the_node_stays_as_it_was(mended: Fleet, how: str) -> None:
    mended.repository.break_(how)
    before = state(mended.node)
    outcome = mended.one(OLDEST)
    assert outcome.status == "failed"
    assert mended.repository.url in (outcome.message or "")
    assert state(mended.node) == before


def test_check_mode_on_a_fresh_node_says_what_would_change_and_changes_nothing(fleet: Fleet) -> None:
    before = state(fleet.node)
    result = fleet.run(OLDEST, check=True)
    assert result.failed() == {}
    assert [outcome.changed for outcome in result.hosts.values()] == [2]  # the fact and the driver
    assert state(fleet.node) == before


def test_fresh_node_gets_exactly_the_version_pinned_held_and_loaded(fleet: Fleet) -> None:
    result = fleet.run(OLDEST, end_of_life="2026-02-28")
    assert result.failed() == {}
    assert fleet.versions() == {f"{OLDEST}-1"}
    assert fleet.node.sh("cat /sys/module/nvidia/version") == OLDEST
    held = set(fleet.node.sh("apt-mark showhold").split())
    assert {"nvidia-driver-cuda", "nvidia-kernel-open-dkms", "libcuda1", "libnvidia-ml1"} <= held
    assert any(name.startswith("linux-headers-") for name in held)
    assert pinning(fleet.node) == [f"nvidia-driver-pinning-{OLDEST}"]
    assert "blacklist nouveau" in fleet.node.sh("cat /etc/modprobe.d/90-aifactory-nvidia.conf")
    assert '"nvidia";' in fleet.node.sh(
        "apt-config dump Unattended-Upgrade; cat /etc/apt/apt.conf.d/52aifactory-nvidia"
    )
    facts = json.loads(fleet.node.sh("cat /etc/ansible/facts.d/aifactory_gpu.fact"))
    assert len(facts["gpus"]) == 8
    assert [note for note in result.notes if "ended on 2026-02-28" in note]


@pytest.mark.parametrize("check", [True, False])
def test_converged_node_needs_no_repository_and_changes_nothing(mended: Fleet, check: bool) -> None:
    mended.repository.break_("down")
    outcome = mended.one(OLDEST, check=check, end_of_life="2026-02-28")
    assert (outcome.status, outcome.changed) == ("converged", 0)


def test_upgrade_says_that_a_restart_is_needed_and_does_not_do_it(fleet: Fleet) -> None:
    before = boot_id(fleet.node)
    result = fleet.run(OLD)
    assert result.failed() == {}
    assert fleet.versions() == {f"{OLD}-1"}
    assert [note for note in result.notes if f"driver {OLDEST} is loaded, {OLD} is installed" in note]
    assert fleet.node.sh("cat /sys/module/nvidia/version") == OLDEST
    assert pinning(fleet.node) == [f"nvidia-driver-pinning-{OLD}"]
    assert f"Pin: version {OLD}-" in fleet.node.sh("cat /etc/apt/preferences.d/nvidia-driver-pinning*")
    assert boot_id(fleet.node) == before


def test_restart_is_done_once_drains_and_ends_the_reason(fleet: Fleet) -> None:
    fleet.node.sh(f"printf '{SERVICE}' >/etc/systemd/system/aifactory-chat-0.service; systemctl start aifactory-chat-0")
    before = boot_id(fleet.node)
    result = fleet.run(OLD, reboot=True)
    assert result.failed() == {}
    assert boot_id(fleet.node) != before
    assert fleet.node.sh("cat /sys/module/nvidia/version") == OLD
    assert fleet.node.sh("cat /var/ended") in ("running", "degraded")  # not "stopping": it ended before the restart
    assert [note for note in result.notes if note.startswith("reboot: ") and "was restarted" in note]
    after = boot_id(fleet.node)
    again = fleet.run(OLD, reboot=True)
    assert {(outcome.status, outcome.changed) for outcome in again.hosts.values()} == {("converged", 0)}
    assert boot_id(fleet.node) == after


def test_version_that_is_not_served_is_named_with_what_is(mended: Fleet) -> None:
    mended.repository.remove(NEW)
    before = mended.versions()
    try:
        outcome = mended.one(NEW)
    finally:
        mended.repository.versions.append(NEW)
    assert outcome.status == "failed"
    assert f"it serves {OLDEST}, {OLD}" in re.sub(r"of \S+ it", "it", outcome.message or "")
    assert mended.versions() == before


def test_damaged_package_leaves_the_driver_that_was_there(mended: Fleet) -> None:
    mended.repository.break_("package")
    before = mended.versions()
    outcome = mended.one(NEW)
    assert outcome.status == "failed"
    assert "download the driver" in (outcome.message or "")
    assert mended.versions() == before


def test_upgrade_that_was_killed_is_completed_by_the_next_run(fleet: Fleet) -> None:
    """dpkg is killed when the first package has been unpacked; then the node looks as after a power cut."""
    fleet.node.sh(
        'mv /usr/bin/dpkg /usr/bin/dpkg.whole; printf \'#!/bin/sh\\ncase "$*" in *--unpack*) /usr/bin/dpkg.whole "$@";'
        ' kill -9 $PPID;; esac\\nexec /usr/bin/dpkg.whole "$@"\\n\' >/usr/bin/dpkg; chmod 755 /usr/bin/dpkg'
    )
    try:
        broken = fleet.one(NEW)
    finally:
        fleet.node.sh("mv /usr/bin/dpkg.whole /usr/bin/dpkg")
    assert broken.status == "failed"
    assert fleet.node.sh("dpkg --audit") != ""
    outcome = fleet.one(NEW)
    assert outcome.status == "changed", outcome
    assert fleet.node.sh("dpkg --audit") == ""
    assert fleet.versions() == {f"{NEW}-1"}


def test_disk_that_is_full_is_named_and_the_next_run_completes(fleet: Fleet) -> None:
    """The modules' source has a full disk of its own."""
    fleet.node.sh("mkdir -p /tmp/src && cp -a /usr/src/. /tmp/src && mount -t tmpfs -o size=16k tmpfs /usr/src")
    fleet.node.sh("cp -a /tmp/src/nvidia-* /usr/src/; dd if=/dev/zero of=/usr/src/full bs=1k 2>/dev/null || true")
    try:
        broken = fleet.one(OLD)
    finally:
        fleet.node.sh("umount /usr/src")
    assert broken.status == "failed"
    assert "the disk is full" in (broken.message or "")
    assert fleet.one(OLD).status == "changed"
    assert fleet.versions() == {f"{OLD}-1"}
    assert fleet.node.sh("dpkg --audit") == ""


def test_way_back_moves_every_package_down(fleet: Fleet) -> None:
    assert fleet.run(NEW).failed() == {}
    assert fleet.versions() == {f"{NEW}-1"}
    assert fleet.run(OLDEST).failed() == {}
    assert fleet.versions() == {f"{OLDEST}-1"}
    assert fleet.run(NEW).failed() == {}


def test_libraries_that_somebody_changed_are_put_right(fleet: Fleet) -> None:
    """What an unattended upgrade does to a node without holds."""
    fleet.node.sh(
        f"apt-get -yq --allow-downgrades --allow-change-held-packages -o Dir::Etc::PreferencesParts=/none install"
        f" libnvidia-ml1={OLD}-1 libcuda1={OLD}-1 libnvidia-ptxjitcompiler1={OLD}-1 nvidia-persistenced={OLD}-1"
        f" nvidia-modprobe={OLD}-1 nvidia-driver-cuda={OLD}-1 nvidia-kernel-open-dkms={OLD}-1"
        f" nvidia-kernel-support={OLD}-1 firmware-nvidia-gsp={OLD}-1",
        120,
    )
    assert fleet.one(NEW, check=True).changed >= 1
    assert fleet.run(NEW).failed() == {}
    assert fleet.versions() == {f"{NEW}-1"}


def test_restart_that_mends_nothing_is_not_tried_again(fleet: Fleet) -> None:
    """A check that no restart can meet stands for a driver that does not load."""
    fleet.run(NEW, reboot=True)
    file = "/etc/aifactory/reboot.d/fabric.json"
    fleet.node.sh('echo \'[{"kind": "argument", "argument": "iommu=pt", "reason": "peer traffic"}]\' >' + file)
    before = boot_id(fleet.node)
    try:
        outcome = fleet.one(NEW, reboot=True)
        assert outcome.status == "failed"
        assert "was restarted once, and there is still: fabric: the kernel was started without iommu=pt" in (
            outcome.message or ""
        )
        assert boot_id(fleet.node) != before
        given = variables(fleet.repository, NEW)
        given["gpu"]["reboot"] = {"allowed": False}
        after = boot_id(fleet.node)
        refused = fleet.one(NEW, reboot=True, given=given)
        assert refused.status == "failed"
        assert "gpu.reboot.allowed is false" in (refused.message or "")
        assert boot_id(fleet.node) == after
    finally:
        fleet.node.sh(f"rm {file}")


def test_driver_that_cannot_be_built_is_named_with_its_log(mended: Fleet) -> None:
    other = OLD if mended.versions() != {f"{OLD}-1"} else NEW
    faults(mended.node, "dkms-fails")
    outcome = mended.one(other)
    assert outcome.status == "failed"
    assert "make.log" in (outcome.message or "")
    faults(mended.node)
    assert mended.one(other).status == "changed"
    assert mended.versions() == {f"{other}-1"}


def test_nouveau_is_told_kept_away_and_gone_after_the_restart(
    site: Site,
    gpu_nodes: GpuNodes,
    repositories: Repositories,
    tmp_path: Path,
) -> None:
    """Two nodes: one at a time restarts, both are well at the end."""
    nodes = gpu_nodes(SHAPE, 2)
    for node in nodes:
        faults(node, "nouveau")
        node.sh("modprobe nouveau")
    pool = Fleet(site, nodes, repositories.nvidia, tmp_path)
    result = pool.run(NEW, reboot=True)
    assert result.failed() == {}
    assert len([note for note in result.notes if "module nouveau is loaded" in note]) >= 1
    for node in nodes:
        assert node.sh("cat /sys/module/nvidia/version; ls /sys/module | grep -c nouveau || true").split() == [NEW, "0"]
    begun = [int(node.sh("cut -d ' ' -f 22 /proc/1/stat")) / 100 for node in nodes]  # s, of the machine below
    assert abs(begun[0] - begun[1]) > 2  # the second began when the first was through, not beside it
