"""What a node's root file system holds, and the two ways to say it: mmdebstrap arguments and a Containerfile.

Only what a bare machine would have before anybody configured it: systemd, sshd, Python, sudo. Container
engine, front door and everything else are installed by the play, as on a real host. Pure: no files, no
processes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

NODE_USER = "ops"
"""Login of every local node; may use sudo without a password."""

REVISION = 1
"""Raised when the result changes without a change in this file's texts."""

PACKAGES = (
    "systemd", "systemd-sysv", "dbus", "openssh-server", "python3", "python3-apt", "sudo", "ca-certificates",
    "iproute2",
)  # fmt: skip

MASKED = (
    "systemd-modules-load.service", "systemd-udevd.service", "systemd-logind.service", "getty@tty1.service",
    "console-getty.service", "apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_reap.service",
)  # fmt: skip
"""Units that need hardware or a seat; without this the node calls itself `degraded`."""

APT_LEAN = ('APT::Install-Recommends "false"', 'Acquire::Languages "none"')
DPKG_LEAN = (
    "force-unsafe-io", "path-exclude=/usr/share/man/*", "path-exclude=/usr/share/doc/*",
    "path-exclude=/usr/share/locale/*",
)  # fmt: skip
"""Both stay in the node, so that what the play installs is as small and as quick. A broken node is rebuilt, not
repaired: fsync buys nothing."""

SSHD = """\
# Managed by aifactory (provider/local/image_recipe.py).
HostKey /etc/ssh/ssh_host_ed25519_key
AuthorizedKeysFile /etc/ssh/authorized_keys.d/%u
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin no
UseDNS no
"""

HOST_KEY_FILE = "etc/ssh/ssh_host_ed25519_key"
AUTHORIZED_KEYS_FILE = f"etc/ssh/authorized_keys.d/{NODE_USER}"


def _write(path: str, text: str) -> str:
    """A shell command that writes `text`; no single quote may stand in it."""
    return f"cat >{path} <<'EOF'\n{text}EOF\n"


SETUP = (
    "set -eu\n"
    # No two nodes may share an identity: host keys are put in between create and start, systemd makes the machine id.
    "rm -f /etc/ssh/ssh_host_*\n"
    ": >/etc/machine-id\n"
    "rm -f /var/lib/dbus/machine-id\n"
    "mkdir -p /etc/ssh/authorized_keys.d\n"
    + _write("/etc/ssh/sshd_config.d/10-aifactory.conf", SSHD)
    + f"useradd --create-home --shell /bin/bash {NODE_USER}\n"
    + _write(f"/etc/sudoers.d/{NODE_USER}", f"{NODE_USER} ALL=(ALL) NOPASSWD: ALL\n")
    + f"chmod 0440 /etc/sudoers.d/{NODE_USER}\n"
    + f"systemctl mask {' '.join(MASKED)}\n"
    # Ansible's cache_valid_time trusts the fresh time of an empty folder and then finds no package.
    + "apt-get clean\n"
    "rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin\n"
    "touch -d @0 /var/lib/apt/lists\n"
)


@dataclass(frozen=True)
class Recipe:
    """One node image. `mirror` is empty for the distribution's own; `base` is what the Containerfile starts from."""

    suite: str
    architecture: str
    mirror: str = ""
    base: str = ""

    @property
    def base_image(self) -> str:
        return self.base or f"debian:{self.suite}-slim"

    def key(self, builder: str) -> str:
        """Equal for equal content: 16 hex digits over everything that goes in, and who builds."""
        parts = [REVISION, builder, self.suite, self.architecture, self.mirror, PACKAGES, APT_LEAN, DPKG_LEAN, SETUP]
        if builder == "containerfile":
            parts.append(self.base_image)
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def mmdebstrap_argv(recipe: Recipe) -> list[str]:
    """Writes the root file system as a tar to standard output."""
    argv = ["mmdebstrap", "--mode=root", "--variant=minbase", "--format=tar", f"--include={','.join(PACKAGES)}"]
    argv += [f"--aptopt={line}" for line in APT_LEAN]  # both stay in the node, as 99mmdebstrap
    argv += [f"--dpkgopt={line}" for line in DPKG_LEAN]
    argv.append("--skip=cleanup/apt")  # it would come after the setup script and undo the folder's old time
    argv.append(f"--customize-hook=chroot \"$1\" sh -c '{_quoted(SETUP)}'")
    return [*argv, recipe.suite, "-", *([recipe.mirror] if recipe.mirror else [])]


def _quoted(script: str) -> str:
    return script.replace("'", "'\"'\"'")


def containerfile(recipe: Recipe) -> dict[str, str]:
    """The files of a build context with the same content, for machines without mmdebstrap or root."""
    files = {
        "setup.sh": SETUP,
        "apt.conf": "".join(f"{line};\n" for line in APT_LEAN),
        "dpkg.cfg": "".join(f"{line}\n" for line in DPKG_LEAN),
    }
    files["Containerfile"] = (
        f"FROM {recipe.base_image}\n"
        "COPY apt.conf /etc/apt/apt.conf.d/90aifactory\n"
        "COPY dpkg.cfg /etc/dpkg/dpkg.cfg.d/90aifactory\n"
        "COPY setup.sh /setup.sh\n"
        "RUN apt-get update \\\n"
        f" && DEBIAN_FRONTEND=noninteractive apt-get install -y {' '.join(PACKAGES)} \\\n"
        " && sh /setup.sh \\\n"
        " && rm /setup.sh\n"
        "STOPSIGNAL SIGRTMIN+3\n"
        'CMD ["/sbin/init"]\n'
    )
    return files
