"""A node that says that it has GPUs: roles cannot tell it from a real one.

Real: container, systemd, sshd, apt, dpkg, kernel name, network devices. Simulated: what lspci, /sys/bus/pci,
/sys/class/infiniband, /sys/module, /proc/driver, the kernel log and the vendors' tools say. Vendors' tools are there
only when their package is installed (tests/roles/vendor_repo.py). `on_node/` is what runs there; see its `main.py`.

A description is a file of tests/roles/platforms. Faults are lines of /etc/simnode/faults, read at every call:

    gpu-missing BDF        gpu-revff BDF         gpu-half-width BDF    gpu-small-bar BDF     unknown-gpu [ID]
    nic-missing HCA        nic-down HCA          nic-half-width HCA    nic-rate HCA GBIT     acs [BDF]
    fabric-stuck           fabric-insufficient   nvlink-down INDEX N   imex-not-ready        fabric-delay SECONDS
    remap-pending INDEX    remap-failed INDEX    ecc INDEX [N]         xid INDEX NUMBER      clocks INDEX REASON
    smi-hang [SECONDS]     version-mismatch      cuda-fails CODE [INDEX]                     power-held INDEX WATT
    secure-boot            mok-enrolled          dkms-fails            no-module NAME        nouveau

`remap-pending`, `ecc` and `xid` end with a reboot.
"""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

from aifactory.provider.local.image_recipe import NODE_USER

from tests.roles.simnode.on_node.main import ALWAYS, names

HERE = Path(__file__).parent / "on_node"
FOLDER = "/opt/simnode"
FAULTS = "/etc/simnode/faults"

LAUNCHER = f"""\
#!/usr/bin/python3 -IS
import sys
sys.path.insert(0, "{FOLDER}")
from on_node.main import main
sys.exit(main(sys.argv))
"""
INIT = f"""\
#!/bin/sh
exec 3>&1 >>/var/log/simnode.log 2>&1
[ -e {FOLDER}/ready ] || sh {FOLDER}/setup
{FOLDER}/bin/simnode boot
exec >&3 2>&1 3>&-
# systemd looks at the simulated devices too, which are not in a file system of type sysfs.
export SYSTEMD_DEVICE_VERIFY_SYSFS=0
exec /lib/systemd/systemd "$@"
"""
"""Takes the place of /sbin/init: whatever systemd starts sees the simulated hardware, as after a real boot."""
SETUP = f"""\
set -e
python3 -m compileall -q {FOLDER}/on_node
mkdir -p {FOLDER}/bin /lib/modules/$(uname -r)/kernel /etc/modprobe.d /usr/src /boot /var/lib/dkms
touch /lib/modules/$(uname -r)/modules.builtin {FAULTS}
for name in {{every}}; do ln -sf {FOLDER}/run {FOLDER}/bin/$name; done
for name in {{always}}; do
  for dir in /usr/bin /usr/sbin; do
    [ -L $dir/$name ] || [ ! -e $dir/$name ] || mv $dir/$name $dir/$name.real
  done
  ln -sf {FOLDER}/run /usr/sbin/$name
  [ ! -e /usr/bin/$name.real ] || ln -sf {FOLDER}/run /usr/bin/$name
done
chown -R {NODE_USER}: /home/{NODE_USER}/.config
rm -f /etc/systemd/system/systemd-logind.service /etc/systemd/system/systemd-modules-load.service
ln -sf ../simnode-faults.path /etc/systemd/system/multi-user.target.wants/simnode-faults.path
update-grub 2>/dev/null
touch {FOLDER}/ready
"""
OF_A_USER = {"storage": '[storage]\ndriver = "vfs"\n', "containers": '[containers]\npidns = "host"\n'}
"""Two things that a node in a container cannot do for a user: an overlay on its disk, a /proc of its own."""
MODULES_LOAD = f"""\
[Unit]
ConditionCapability=
[Service]
ExecStart=
ExecStart={FOLDER}/bin/simnode modules-load
"""
WATCH = f"""\
[Unit]
Description=Changed faults show in /sys at once
[Path]
PathChanged={FAULTS}
[Install]
WantedBy=multi-user.target
"""
REFRESH = f"""\
[Unit]
Description=Changed faults show in /sys
[Service]
Type=oneshot
ExecStart={FOLDER}/bin/simnode refresh
"""


def prepared(description: dict[str, Any]) -> bytes:
    """A tar to unpack at the root of a container before its first start: it starts as the node that is described.

    Everything lasts over reboots. What went wrong at a start stands in /var/log/simnode.log of the node, one line a
    boot in /var/log/simnode-boots.
    """
    every = " ".join(names())
    files = {
        f"{FOLDER}/run": (LAUNCHER, 0o755),
        "usr/sbin/init": (INIT, 0o755),
        f"{FOLDER}/setup": (SETUP.format(every=every, always=" ".join(ALWAYS)), 0o755),
        "usr/lib/python3/dist-packages/simnode_cuda.pth": (
            f"import sys; sys.path.append('{FOLDER}'); import on_node.cuda\n", 0o644,
        ),
        "etc/default/grub": ('GRUB_CMDLINE_LINUX_DEFAULT="quiet"\nGRUB_CMDLINE_LINUX=""\n', 0o644),
        "etc/simnode/platform.json": (json.dumps(description), 0o644),
        "etc/systemd/system/simnode-faults.path": (WATCH, 0o644),
        "etc/systemd/system/simnode-faults.service": (REFRESH, 0o644),
        "etc/systemd/system/systemd-modules-load.service.d/simnode.conf": (MODULES_LOAD, 0o644),
        **{f"home/{NODE_USER}/.config/containers/{name}.conf": (text, 0o644) for name, text in OF_A_USER.items()},
        **{f"{FOLDER}/on_node/{path.name}": (path.read_text("utf-8"), 0o644) for path in HERE.glob("*.py")},
    }  # fmt: skip
    return packed(files)


def packed(files: dict[str, tuple[str, int]]) -> bytes:
    """A tar of (text, mode) by path."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, (text, mode) in files.items():
            info = tarfile.TarInfo(path.lstrip("/"))
            info.size, info.mode = len(text.encode()), mode
            tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()
