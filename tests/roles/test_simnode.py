"""The simulated GPU node itself: what roles are tested on must behave as a node does."""

from __future__ import annotations

import json

import pytest

from tests.roles.conftest import Node
from tests.roles.gpu_nodes import (  # noqa: F401 (fixtures)
    GpuNodes,
    boot_id,
    faults,
    gpu_nodes,
    reboot,
    repositories,
)
from tests.roles.vendor_repo import Repositories

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]

APT = "DEBIAN_FRONTEND=noninteractive apt-get -yq -o APT::Update::Error-Mode=any"
OLD, NEW = "580.126.20", "580.178.04"
CUDA = """python3 - <<'EOF'
import ctypes
cuda = ctypes.CDLL("libcuda.so.1")
count, context = ctypes.c_int(), ctypes.c_void_p()
code = cuda.cuInit(0)
cuda.cuDeviceGetCount(ctypes.byref(count))
codes = [cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), index) for index in range(count.value)]
print(code, count.value, codes)
EOF"""


@pytest.fixture(scope="module")
def bare(gpu_nodes: GpuNodes) -> Node:  # noqa: F811
    """Nothing is ever installed on it."""
    (node,) = gpu_nodes("hgx-h100")
    return node


@pytest.fixture(scope="module")
def installed(gpu_nodes: GpuNodes, repositories: Repositories) -> Node:  # noqa: F811
    """An HGX B200 with the older driver, by plain apt from the signed repository."""
    (node,) = gpu_nodes("hgx-b200")
    node.sh(repositories.nvidia.sources())
    node.sh(f"{APT} update", 120)
    node.sh(f"{APT} install nvidia-driver-pinning-{OLD} linux-headers-amd64", 120)
    node.sh(f"{APT} install nvidia-driver-cuda nvidia-kernel-open-dkms", 120)
    return node


def said(node: Node, script: str) -> tuple[int, str]:
    """(exit status, output with errors) of a script that may fail."""
    done = node.engine.execute(node.name, "/bin/sh", "-c", f"exec 2>&1\n{script}", timeout_s=60)
    return done.returncode, done.stdout.decode().strip()


# -- the hardware


def test_lspci_and_sysfs_tell_of_the_same_cards(bare: Node) -> None:
    listed = bare.sh("lspci -Dnn -d 10de::0302").splitlines()
    assert len(listed) == 8
    assert all("[10de:2330]" in line for line in listed)
    bdf = listed[0].split()[0]
    folder = f"/sys/bus/pci/devices/{bdf}"
    shown = bare.sh(f"cd {folder}; cat vendor device class current_link_width numa_node")
    assert shown.split() == ["0x10de", "0x2330", "0x030200", "16", "0"]
    assert bare.sh(f"readlink -f {folder}").startswith("/sys/devices/pci0000:")
    assert bare.sh(f"awk 'NR == 3 {{print $2}}' {folder}/resource") == "0x0000201fffffffff"


def test_network_cards_stand_under_their_pci_device(bare: Node) -> None:
    hca = bare.sh("ls /sys/class/infiniband | head -1")
    assert "400 Gb/sec (4X NDR)" in bare.sh(f"cat /sys/class/infiniband/{hca}/ports/1/rate")
    device = bare.sh(f"readlink -f /sys/class/infiniband/{hca}/device")
    assert bare.sh(f"ls {device}/infiniband") == hca
    netdev = bare.sh(f"ls {device}/net")
    assert bare.sh(f"cat /sys/class/net/{netdev}/operstate") == "up"
    assert json.loads(bare.sh(f"ip -j link show {netdev}"))[0]["operstate"] == "UP"
    bare.sh(f"ip link set {netdev} mtu 4000")
    assert bare.sh(f"cat /sys/class/net/{netdev}/mtu") == "4000"


def test_node_goes_on_working_as_a_node(bare: Node) -> None:
    assert bare.sh("systemctl is-system-running --wait") == "running"
    assert bare.sh("systemctl is-active ssh") == "active"
    assert "eth0" in bare.sh("ls /sys/class/net")
    assert bare.sh("cat /sys/module/kernel/parameters/panic") != ""
    assert bare.sh("nproc") != ""


def test_without_the_package_there_is_no_tool(bare: Node) -> None:
    for tool in ("nvidia-smi", "dkms", "nv-fabricmanager", "nvidia-ctk", "ibstat"):
        assert said(bare, f"command -v {tool}")[0] != 0, tool
    assert "libcuda.so.1: cannot open" in said(bare, CUDA)[1]
    assert said(bare, "modprobe nvidia")[1].startswith("modprobe: FATAL: Module nvidia not found")


def test_faults_show_at_once_and_go(bare: Node) -> None:
    first, second = (line.split()[0] for line in bare.sh("lspci -Dnn -d 10de::0302").splitlines()[:2])
    hca = bare.sh("ls /sys/class/infiniband | head -1")
    faults(bare, f"gpu-missing {first}", f"gpu-revff {second}", f"nic-down {hca}", "xid 2 79", "secure-boot")
    assert first not in bare.sh("lspci -D; ls /sys/bus/pci/devices")
    assert "(rev ff)" in bare.sh(f"lspci -s {second}")
    assert bare.sh(f"cat /sys/class/infiniband/{hca}/ports/1/state") == "1: DOWN"
    assert "fallen off the bus" in bare.sh("dmesg")
    assert "fallen off the bus" in bare.sh("journalctl -k -o cat")
    assert bare.sh("mokutil --sb-state") == "SecureBoot enabled"
    faults(bare)
    assert len(bare.sh("lspci -d 10de::0302").splitlines()) == 8
    assert bare.sh(f"cat /sys/class/infiniband/{hca}/ports/1/state") == "4: ACTIVE"
    assert "Xid" not in bare.sh("dmesg")


def test_fault_file_written_by_hand_reaches_sysfs(bare: Node) -> None:
    """A systemd path unit looks at the file."""
    bdf = bare.sh("lspci -Dnn -d 10de::0302 | head -1").split()[0]
    bare.sh(f"echo gpu-half-width {bdf} >/etc/simnode/faults; sleep 2")
    assert bare.sh(f"cat /sys/bus/pci/devices/{bdf}/current_link_width") == "8"
    faults(bare)


# -- the driver


def test_package_builds_the_module_for_the_running_kernel(installed: Node, repositories: Repositories) -> None:  # noqa: F811
    assert installed.sh("dkms status") == f"nvidia/{OLD}, {repositories.kernel}, x86_64: installed"
    assert installed.sh("modinfo -F version nvidia") == OLD
    assert installed.sh("dpkg-query -W -f '${Version}' libcuda1") == f"{OLD}-1"


def test_pin_holds_the_version(installed: Node) -> None:
    assert installed.sh("apt-cache policy nvidia-driver-cuda | sed -n 's/ *Candidate: //p'") == f"{OLD}-1"


def test_driver_loads_and_answers(installed: Node) -> None:
    shown = installed.sh("nvidia-smi --query-gpu=index,driver_version,memory.total --format=csv,noheader,nounits")
    assert shown.splitlines()[7] == f"7, {OLD}, 183359"
    assert installed.sh("cat /sys/module/nvidia/version") == OLD
    assert OLD in installed.sh("cat /proc/driver/nvidia/version")
    assert installed.sh("stat -c %t:%T /dev/nvidia7") == "c3:7"


def test_cuda_waits_for_the_fabric(installed: Node) -> None:
    """Without its services an HGX B200 answers nvidia-smi and refuses CUDA."""
    assert installed.sh(CUDA) == f"802 8 {[3] * 8}"
    installed.sh(f"{APT} install nvidia-fabricmanager={OLD}-1 nvlsm infiniband-diags", 120)
    assert said(installed, "systemctl start nvidia-fabricmanager")[0] != 0  # no ib_umad
    installed.sh("modprobe ib_umad && systemctl start nvidia-fabricmanager")
    installed.sh("for i in $(seq 50); do nvidia-smi -q | grep -q ': Success' && exit 0; sleep 0.1; done; exit 1")
    assert installed.sh(CUDA) == f"0 8 {[0] * 8}"
    assert len(set(installed.sh("cat /run/simnode/contexts").splitlines())) == 8


def test_newer_packages_under_a_loaded_driver_do_not_match(
    installed: Node,
    repositories: Repositories,  # noqa: F811
) -> None:
    installed.sh(f"{APT} install nvidia-driver-pinning-{NEW} nvidia-driver-pinning-{OLD}-", 120)
    installed.sh(f"{APT} dist-upgrade", 120)
    status, told = said(installed, "nvidia-smi")
    assert (status, told.splitlines()[0]) == (18, "Failed to initialize NVML: Driver/library version mismatch")
    before = boot_id(installed)
    reboot(installed)
    assert boot_id(installed) != before
    assert installed.sh("cat /sys/module/nvidia/version") == NEW
    assert installed.sh("nvidia-smi --query-gpu=driver_version --format=csv,noheader -i 0") == NEW
    assert installed.sh("systemctl is-system-running") == "running"


def test_unsigned_modules_are_refused_under_secure_boot(installed: Node) -> None:
    faults(installed, "secure-boot")
    reboot(installed)
    assert said(installed, "modprobe nvidia") == (
        1, "modprobe: ERROR: could not insert 'nvidia': Key was rejected by service",
    )  # fmt: skip
    faults(installed)
    installed.sh("modprobe nvidia")


# -- the repository


def test_repository_that_is_not_signed_by_its_key_is_refused(
    bare: Node,
    repositories: Repositories,  # noqa: F811
) -> None:
    bare.sh(repositories.nvidia.sources())
    bare.sh(f"{APT} update", 120)
    repositories.nvidia.break_("signature")
    assert said(bare, f"{APT} update")[0] != 0
    repositories.nvidia.mend()
    repositories.nvidia.remove(NEW)
    bare.sh(f"{APT} update", 120)
    assert NEW not in bare.sh("apt-cache madison libcuda1")
    assert OLD in bare.sh("apt-cache madison libcuda1")
    repositories.nvidia.add(NEW)
    bare.sh("rm /etc/apt/sources.list.d/nvidia.list")
