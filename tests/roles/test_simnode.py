"""The simulated GPU node itself: what roles are tested on must behave as a node does."""

from __future__ import annotations

import json

import pytest

from tests.roles.conftest import Node
from tests.roles.gpu_nodes import (  # noqa: F401 (fixtures)
    PLATFORMS,
    GpuNodes,
    boot_id,
    faults,
    gpu_nodes,
    platform,
    reboot,
    repositories,
)
from tests.roles.simnode.on_node import pci, smi, sysfs
from tests.roles.simnode.on_node.core import View
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
    (node,) = gpu_nodes("hgx-h100", archive=False)
    return node


@pytest.fixture(scope="module")
def installed(gpu_nodes: GpuNodes, repositories: Repositories) -> Node:  # noqa: F811
    """An HGX B200 with the older driver, by plain apt from the signed repository."""
    (node,) = gpu_nodes("hgx-b200", archive=False)
    node.sh(repositories.nvidia.sources())
    node.sh(f"{APT} update", 120)
    node.sh(f"{APT} install nvidia-driver-pinning-{OLD} linux-headers-amd64", 120)
    node.sh(f"{APT} install nvidia-driver-cuda nvidia-kernel-open-dkms", 120)
    return node


def driver(node: Node, repositories: Repositories, more: str) -> None:  # noqa: F811
    """The newer driver, and `more`."""
    node.sh(f"{repositories.nvidia.sources()}{APT} update", 120)
    node.sh(f"{APT} install linux-headers-amd64 nvidia-driver-pinning-{NEW}", 120)
    node.sh(f"{APT} install nvidia-driver-cuda nvidia-kernel-open-dkms {more}", 120)


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
    assert said(bare, "systemd-detect-virt --vm") == (1, "none")
    assert bare.sh("systemd-detect-virt") != "none"  # a container all the same


def test_kernel_arguments_hold_from_the_next_boot_on(bare: Node) -> None:
    assert "quiet" in bare.sh("cat /proc/cmdline").split()
    bare.sh("mkdir -p /etc/default/grub.d")
    bare.sh("""echo 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX iommu=pt"' >/etc/default/grub.d/90-x.cfg; update-grub""")
    assert "iommu=pt" in bare.sh("cat /boot/grub/grub.cfg")
    assert "iommu=pt" not in bare.sh("cat /proc/cmdline")
    bare.sh("echo ib_umad >/etc/modules-load.d/x.conf")
    reboot(bare)
    assert "iommu=pt" in bare.sh("cat /proc/cmdline").split()
    assert bare.sh("ls /dev/infiniband | grep -c umad") != "0"


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


# -- other platforms


def test_fabric_manager_ends_where_there_is_nothing_to_manage(
    gpu_nodes: GpuNodes,  # noqa: F811
    repositories: Repositories,  # noqa: F811
) -> None:
    (node,) = gpu_nodes("l40s", archive=False)
    driver(node, repositories, f"nvidia-fabricmanager={NEW}-1 nvidia-container-toolkit-base=1.18.2-1")
    count = len(platform("l40s")["gpus"])
    assert node.sh(CUDA) == f"0 {count} {[0] * count}"
    assert said(node, "systemctl start nvidia-fabricmanager")[0] != 0
    assert "NV_WARN_NOTHING_TO_DO" in node.sh("journalctl -u nvidia-fabricmanager -o cat")
    # A specification that names the GPUs and the libraries of this driver.
    node.sh("nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml")
    assert "nvidia.com/gpu=all" in node.sh("nvidia-ctk cdi list").splitlines()
    assert f"libcuda.so.{NEW}" in node.sh("cat /etc/cdi/nvidia.yaml")
    # A limit holds until the driver is loaded anew, and others may hold it lower.
    assert "was set to 200.00 W from 350.00 W" in node.sh("nvidia-smi -pl 200")
    assert said(node, "nvidia-smi -pl 9999")[0] != 0
    faults(node, "power-held 1 150", "smi-hang 0", "clocks 2 hw_thermal_slowdown", "remap-pending 0")
    shown = node.sh("nvidia-smi --query-gpu=enforced.power.limit --format=csv,noheader,nounits").split()
    assert shown[:2] == ["200.00", "150.00"]
    assert "HW Thermal Slowdown                        : Active" in node.sh("nvidia-smi -i 2 -q -d PERFORMANCE")
    assert node.sh("nvidia-smi -i 0 -q -x | grep -o '<remapped_row_pending>[A-Za-z]*'") == "<remapped_row_pending>Yes"
    assert node.sh("nvidia-smi --query-remapped-rows=remapped_rows.pending --format=csv,noheader -i 0") == "1"
    faults(node, "smi-hang")
    assert said(node, "timeout 1 nvidia-smi")[0] == 124


def test_rack_is_up_when_its_services_are(gpu_nodes: GpuNodes, repositories: Repositories) -> None:  # noqa: F811
    (node,) = gpu_nodes("gb200-nvl72", archive=False)
    driver(node, repositories, f"nvidia-imex={NEW}-1")
    assert node.sh(CUDA) == f"0 4 {[0] * 4}"
    assert "CliqueId                                       : 32766" in node.sh("nvidia-smi -q")
    assert said(node, "systemctl start nvidia-imex")[0] != 0  # no nodes
    node.sh("printf '10.0.0.1\\n10.0.0.2\\n' >/etc/nvidia-imex/nodes_config.cfg; systemctl start nvidia-imex")
    assert "IMEX_CMD_ENABLED" in said(node, "nvidia-imex-ctl -N -j")[1]
    node.sh("sed -i s/IMEX_CMD_ENABLED=0/IMEX_CMD_ENABLED=1/ /etc/nvidia-imex/config.cfg")
    node.sh("systemctl restart nvidia-imex")
    assert json.loads(node.sh("nvidia-imex-ctl -N -j"))["status"] == "UP"
    faults(node, "imex-not-ready 10.0.0.2")
    told = json.loads(node.sh("nvidia-imex-ctl -N -j"))
    assert [told["status"], *(row["status"] for row in told["nodes"].values())] == ["DEGRADED", "READY", "UNAVAILABLE"]
    node.sh("echo 'options nvidia NVreg_CreateImexChannel0=1' >/etc/modprobe.d/x.conf")
    reboot(node)
    assert node.sh("stat -c %F /dev/nvidia-caps-imex-channels/channel0") == "character special file"
    assert "CreateImexChannel0: 1" in node.sh("cat /proc/driver/nvidia/params")


def test_amd_node_has_its_own_tools(gpu_nodes: GpuNodes, repositories: Repositories) -> None:  # noqa: F811
    (node,) = gpu_nodes("mi300x", archive=False)
    assert len(node.sh("lspci -Dnn -d 1002::1200").splitlines()) == 8
    node.sh(f"{repositories.amd.sources()}{repositories.doca.sources()}{APT} update", 120)
    packages = "linux-headers-amd64 amdgpu-dkms amd-smi-lib amd-container-toolkit mlnx-ofed-kernel-dkms mlnx-tools"
    node.sh(f"{APT} install {packages}", 120)
    node.sh("rmmod amdgpu; modprobe amdgpu")  # in place of the one that the kernel brought
    assert json.loads(node.sh("amd-smi list --json"))[0]["bdf"] == "0000:05:00.0"
    assert node.sh("cat /sys/module/amdgpu/version") == "6.16.6"
    assert node.sh("stat -c %F /dev/kfd /dev/dri/renderD135 | sort -u") == "character special file"
    faults(node, "ecc 3 7")
    rows = json.loads(node.sh("amd-smi metric --ecc --json"))["gpu_data"]
    assert rows[3]["ecc"]["total_uncorrectable_count"] == 7
    node.sh("amd-ctk cdi generate")
    assert "amd.com/gpu=all" in node.sh("amd-ctk cdi list").splitlines()
    # RoCE classes of a card are set, and forgotten with a reboot; systemd has a unit for the card.
    node.sh("mlnx_qos -i rdma0 --trust dscp --pfc 0,0,0,1,0,0,0,0 && mlnx_qos -i rdma0 --dscp2prio set,26,5")
    shown = node.sh("mlnx_qos -i rdma0")
    assert "Priority trust state: dscp" in shown
    assert "prio:5 dscp:47,46,45,44,43,42,41,40,\n\tprio:5 dscp:26," in shown
    node.sh("echo 104 >/sys/class/infiniband/mlx5_0/tc/1/traffic_class")
    assert node.sh("cat /sys/class/infiniband/mlx5_0/tc/1/traffic_class") == "104"
    assert node.sh("systemctl is-active sys-subsystem-net-devices-rdma0.device") == "active"
    reboot(node)
    assert node.sh("systemctl is-active sys-subsystem-net-devices-rdma0.device") == "active"
    assert "Priority trust state: pcp" in node.sh("mlnx_qos -i rdma0")


@pytest.mark.parametrize("name", sorted(path.stem for path in PLATFORMS.glob("*.yaml")))
def test_every_described_platform_can_be_shown(name: str) -> None:
    """Without a node: what would be written and printed."""
    description = platform(name)
    modules = {module: {"srcversion": "", "version": NEW} for module in ("nvidia", "mlx5_ib", "efa", "mlx5_core")}
    view = View(description, [], {"modules": modules})
    made = sysfs.tree(view)
    functions = {entry["bdf"]: entry for entry in pci.functions(view)}
    devices = [*description["gpus"], *description["nvswitches"], *description["nics"]]
    assert {device["bdf"]: device["id"] for device in devices}.items() <= {
        bdf: entry["id"] for bdf, entry in functions.items()
    }.items()
    assert {f"/sys/bus/pci/devices/{bdf}" for bdf in functions} <= made.keys()
    assert {f"/sys/class/infiniband/{nic['hca']}" for nic in description["nics"] if nic["hca"]} <= made.keys()
    assert sum(b"SW_MNG" in made.get(f"{sysfs.folder(nic)}/vpd", b"") for nic in description["nics"]) == sum(
        nic["vpd_sw_mng"] for nic in description["nics"]
    )
    if "nvidia" in description:
        assert len(smi.gpus(view)) == len(description["gpus"])
        assert all(smi.report(view, gpu) and smi.fields(view, gpu) for gpu in smi.gpus(view))


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
