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
from typing import Any, Protocol

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
{FOLDER}/bin/simnode boot >/var/log/simnode.log 2>&1
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
rm -f /sbin/init
cp {FOLDER}/init /sbin/init
ln -sf {FOLDER}/simnode_cuda.pth /usr/lib/python3/dist-packages/simnode_cuda.pth
systemctl unmask -q systemd-logind.service systemd-modules-load.service
mkdir -p /etc/systemd/system/systemd-modules-load.service.d
printf '[Unit]\\nConditionCapability=\\n[Service]\\nExecStart=\\nExecStart={FOLDER}/bin/simnode modules-load\\n' \\
  >/etc/systemd/system/systemd-modules-load.service.d/simnode.conf
systemctl daemon-reload
systemctl enable -q --now simnode-faults.path
{FOLDER}/bin/simnode boot --first
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


class Machine(Protocol):
    """What is needed of tests.roles.conftest.Node."""

    @property
    def engine(self) -> Any: ...
    @property
    def name(self) -> str: ...

    def sh(self, script: str, timeout_s: float = 60) -> str: ...


def install(node: Machine, description: dict[str, Any]) -> None:
    """Makes the running node one with the hardware of the description. Everything lasts over reboots."""
    every = " ".join(names())
    files = {
        f"{FOLDER}/run": (LAUNCHER, 0o755),
        f"{FOLDER}/init": (INIT, 0o755),
        f"{FOLDER}/setup": (SETUP.format(every=every, always=" ".join(ALWAYS)), 0o755),
        f"{FOLDER}/simnode_cuda.pth": ("import sys; sys.path.append('/opt/simnode'); import on_node.cuda\n", 0o644),
        "/etc/simnode/platform.json": (json.dumps(description), 0o644),
        "/etc/systemd/system/simnode-faults.path": (WATCH, 0o644),
        "/etc/systemd/system/simnode-faults.service": (REFRESH, 0o644),
        **{f"{FOLDER}/on_node/{path.name}": (path.read_text("utf-8"), 0o644) for path in HERE.glob("*.py")},
    }
    node.engine.copy_in(node.name, packed(files))
    node.sh(f"sh {FOLDER}/setup")


def packed(files: dict[str, tuple[str, int]]) -> bytes:
    """A tar of (text, mode) by path."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, (text, mode) in files.items():
            info = tarfile.TarInfo(path.lstrip("/"))
            info.size, info.mode = len(text.encode()), mode
            tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()
