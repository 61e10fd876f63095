"""What NVIDIA's driver is called on each distribution, what speaks against it, and the commands that install it.

Nothing here asks a node: texts in, plan out. Used by the module `aifactory_gpu_driver`. Standard library only.

Source: NVIDIA driver installation guide 620 (9 November 2026), "Kernel Modules", "Compute-only and Desktop
Installation", "Version locking"; package names of Ubuntu 590 and later as installed by public scripts.
"""

from __future__ import annotations

import re

MANAGED = "aifactory: written by the playbooks; changes are undone."
NOUVEAU = "nouveau keeps NVIDIA's driver from the GPUs"
PINNED = "*nvidia* libcuda1 libcudadebugger1 libnvcuvid* libnvsdm* libnvoptix* libxnvctrl*"
"""Packages that carry the driver's version, in the words of apt's preferences."""
FAMILY = re.compile(
    r"(lib|firmware-)?(nvidia|nvcuvid|cuda(1|debugger1)|nvoptix|nvsdm|xnvctrl|gles-nvidia|(egl|glx)-nvidia).*"
)
FAMILY_VERSION = re.compile(r"(\d+:)?(\d{3}\.\d+(\.\d+)?)-")
NOT_FAMILY = ("nvidia-container", "libnvidia-container", "nvidia-driver-pinning")
KERNEL = re.compile(r"linux-(image|headers|modules|generic|virtual|aws|azure|gcp|oracle|nvidia)\b.*")
UNATTENDED = ("nvidia", "libnvidia", "libcuda", "libnvsdm", "nvlsm", "linux-image", "linux-headers", "linux-modules")
SECURE_BOOT = (
    "Secure Boot is on and this driver's modules are built on the node, so the kernel refuses them (Key was rejected "
    "by service): turn Secure Boot off in the firmware, or enrol the node's key at its console (mokutil --import "
    "/var/lib/dkms/mok.pub, on Ubuntu /var/lib/shim-signed/mok/MOK.der, then restart and confirm), or use an image "
    "with signed modules"
)


def number(version):
    """`580.178.04` → (580, 178, 4)."""
    return tuple(int(part) for part in re.findall(r"\d+", version))


def branch_of(driver):
    return driver.get("branch") or driver.get("version", "").partition(".")[0]


def refusals(driver, platform):
    """Why these GPUs cannot be driven with this driver; all reasons."""
    branch, version, name = branch_of(driver), driver.get("version", ""), platform.get("name") or "this GPU"
    first, wanted = platform.get("first_driver", ""), version or branch
    found = []
    if not re.fullmatch(r"\d{3}", branch):
        found.append(f'"{branch}" is no driver branch: give one of `aifactory catalog drivers`, as 580')
    if version and not re.fullmatch(r"\d{3}(\.\d+){1,2}", version):
        found.append(f'"{version}" is no full driver version: give one as 580.178.04')
    elif version and version.partition(".")[0] != branch:
        found.append(f"driver {version} is not of branch {branch}: give one of the two only")
    if not found and first and number(wanted) < number(first)[: len(number(wanted))]:
        found.append(f"{name} needs driver {first} or later, asked for is {wanted}: choose a later one")
    if driver.get("modules") == "proprietary" and platform.get("open_modules_required"):
        found.append(f"{name} is driven by the open kernel modules only, asked for are the proprietary: modules: open")
    if driver.get("modules", "open") == "open" and not platform.get("open_modules", True):
        found.append(f"{name} is not driven by the open kernel modules: modules: proprietary")
    return found


def expired(driver, today):
    """A sentence when the branch has ended; `today` as 2026-11-24."""
    end = driver.get("end_of_life", "")
    if end and end < today:
        return [f"driver branch {branch_of(driver)} ended on {end} and gets no more fixes: choose a later one"]
    return []


def plan(distro, kernel, driver, platform):
    """What this distribution calls it. `distro` is an aifactory_vendor.Distribution, `kernel` the one that boots.

    packages: installed at exactly the version (with an empty version: the newest of the branch). pinning: the first
    one that the repository has goes in before them. headers: in whatever version they come. pins: packages of other
    parts of the layer that must have the driver's version. stream: dnf's module stream, empty where there are none.
    """
    branch, version, name = branch_of(driver), driver.get("version", ""), distro.folder
    open_ = driver.get("modules", "open") == "open"
    found = {"distribution": name, "family": distro.family, "repository": f"{name}/{distro.arch}/", "branch": branch}
    make = _apt if distro.family == "apt" else _dnf
    found.update(version=version, kernel=kernel, **make(distro, kernel, branch, open_))
    if distro.id == "ubuntu" and platform.get("needs_nvlsm"):
        found["headers"].append(f"linux-modules-extra-{kernel}")  # ib_umad and mlx5_ib of a cloud's kernel
    if distro.family == "apt":
        found["pinning"] = [f"nvidia-driver-pinning-{version}"] * bool(version) + [f"nvidia-driver-pinning-{branch}"]
        wanted = f"={version}-*" if version else f"={branch}.*"
    else:
        wanted = f"-{version}" if version else ""
        found["locks"] = [f"*{word}*{version or branch}*" for word in ("nvidia", "nvsdm")]
    found["specs"] = [package + wanted for package in found["packages"]]
    found["pins"] = {key: {"name": name, "spec": name + wanted} for key, name in found["pins"].items()}
    return found


def _apt(distro, kernel, branch, open_):
    late = int(branch) >= 590  # since then Ubuntu's names carry no branch, and nvidia-smi comes with the libraries
    if distro.id == "debian":
        packages = ["nvidia-driver-cuda", "nvidia-kernel-open-dkms" if open_ else "nvidia-kernel-dkms"]
        packages.append("nvidia-persistenced")
    elif late:
        packages = ["libnvidia-compute", "nvidia-dkms-open" if open_ else "nvidia-dkms", "nvidia-persistenced"]
    else:
        packages = [f"libnvidia-compute-{branch}", f"nvidia-dkms-{branch}" + "-open" * open_]
        packages += [f"nvidia-utils-{branch}", f"nvidia-compute-utils-{branch}"]
    suffix = "" if int(branch) >= 580 else f"-{branch}"
    names = {
        "fabricmanager": "nvidia-fabricmanager",
        "imex": "nvidia-imex",
        "nscq": "libnvidia-nscq",
        "nvsdm": "libnvsdm",
    }
    return {
        "packages": packages, "headers": [f"linux-headers-{kernel}"], "pinning": [], "stream": "", "locks": [],
        "unattended_upgrades": list(UNATTENDED), "pins": {key: name + suffix for key, name in names.items()},
    }  # fmt: skip


def _dnf(distro, kernel, branch, open_):
    headers = [f"kernel-devel-{kernel}", "dkms", "python3-dnf-plugin-versionlock"]
    if distro.id == "amzn":
        headers.insert(1, f"kernel-modules-extra-{kernel}")
    manager = "nvidia-fabricmanager" if int(branch) >= 580 else "nvidia-fabric-manager"
    return {
        "packages": ["nvidia-driver-cuda", "kmod-nvidia-open-dkms" if open_ else "kmod-nvidia-latest-dkms"],
        "headers": headers, "pinning": [], "unattended_upgrades": [],
        "stream": "" if distro.folder == "rhel10" else f"{branch}-{'open' if open_ else 'dkms'}",
        "kernel_lock": "kernel" if distro.id == "amzn" else "kernel-core",
        "pins": {"fabricmanager": manager, "imex": "nvidia-imex", "nscq": "libnvidia-nscq", "nvsdm": "libnvsdm"},
    }  # fmt: skip


def apt_steps(planned, specs, pinning, drop=()):
    """Name → arguments of apt-get, in order: nothing on the node changes before `pin`. `drop`: packages that go.

    A pinning package that is only removed leaves its file, which goes on pinning; so it is purged.
    """
    gone = [f"{name}-" for name in drop if not name.startswith("nvidia-driver-pinning")]
    pin = ["install", *filter(None, [pinning])]
    install = ["install", *planned["headers"], *specs, *gone]
    return {
        "ask": ["--simulate", *install],
        "download": ["--download-only", *install, *pin[1:]],
        "pin": ["--purge", *pin, *(f"{name}-" for name in drop if name.startswith("nvidia-driver-pinning"))],
        "install": install,
    }


def dnf_steps(planned, older=False):
    """Name → arguments of dnf, in order. `older`: what is installed is newer than what is wanted."""
    verb = ["downgrade" if older else "install", *planned["specs"]]
    guard = ["--exclude=kernel", "--exclude=kernel-core"]  # the driver brings no new kernel
    stream = f"nvidia-driver:{planned['stream']}"
    steps = {
        "headers": ["install", *planned["headers"]],
        "reset": ["module", "reset", "nvidia-driver"],  # enabling one stream does not leave another
        "enable": ["module", "enable", stream],
        "unlock": ["versionlock", "delete", "*nvidia*", "*nvsdm*"],
        "lock": ["versionlock", "add", *planned["locks"]],
        "download": [*guard, "--downloadonly", *verb],
        "install": [*guard, *verb],
        "hold": ["versionlock", "add", planned["kernel_lock"]],
    }
    return steps if planned["stream"] else {k: v for k, v in steps.items() if k not in ("reset", "enable")}


def modprobe_text(options):
    """File of /etc/modprobe.d. `options`: line → why."""
    lines = [f"# {MANAGED}", f"# {NOUVEAU}", "blacklist nouveau", "options nouveau modeset=0"]
    for line, reason in options.items():
        lines += [f"# {' '.join(reason.split())}", line]
    return "\n".join([*lines, ""])


def preferences_text(branch, version):
    """Apt's view: the driver and what follows its version come in that version, up or down."""
    wanted = f"{version}-*" if version else f"{branch}.*"
    return f"# {MANAGED}\nPackage: {PINNED}\nPin: version {wanted}\nPin-Priority: 1001\n"


def unattended_text(names):
    body = "".join(f'    "{name}";\n' for name in names)
    return f"// {MANAGED}\nUnattended-Upgrade::Package-Blacklist {{\n{body}}};\n"


def checks(modprobe):
    """What the play `reboot` looks at; `modprobe`: lines as `options nvidia NVreg_A=1 NVreg_B=x`."""
    options = [
        {"kind": "option", "module": words[1], "name": name, "value": value.strip('"')}
        for words in (line.split() for line in modprobe)
        if len(words) > 2 and words[0] == "options"
        for name, _equals, value in (word.partition("=") for word in words[2:])
    ]
    return [{"kind": "nvidia"}, {"kind": "absent", "name": "nouveau", "reason": NOUVEAU}, {"kind": "kernel"}, *options]


def parse_debs(out):
    """Package → (version, whole) of dpkg-query's lines; `whole` is False for a package that is half there."""
    rows = [line.split("\t") for line in out.splitlines() if line.count("\t") == 3]
    return {
        name: (version, status == "installed" and flag in ("ok", ""))
        for name, version, status, flag in rows
        if status not in ("not-installed", "config-files")
    }


def parse_madison(out):
    """Package → versions that apt's lists offer, newest first."""
    found = {}
    for line in out.splitlines():
        name, version = (part.strip() for part in [*line.split("|"), "", ""][:2])
        if version and version not in found.setdefault(name, []):
            found[name].append(version)
    return found


def parse_rpms(out):
    """Package, and package with its version, → version of rpm's lines `name version release.arch`."""
    rows = [line.split() for line in out.splitlines() if len(line.split()) == 3]
    return {key: row[1] for row in rows for key in (row[0], f"{row[0]}-{row[1]}-{row[2]}")}


def upstream(version):
    """`3:580.178.04-1ubuntu1` → `580.178.04`; empty for what is no driver version."""
    found = FAMILY_VERSION.match(version)
    return found.group(2) if found else ""


def family(packages, pins):
    """Package → driver version of those in `packages` that this module owns; `pins` belong to others of the layer."""
    bare = [re.sub(r"-\d{3}$", "", pin["name"]) for pin in pins.values()]
    return {
        name: upstream(version)
        for name, (version, _whole) in packages.items()
        if FAMILY.fullmatch(name)
        and upstream(version)
        and not name.startswith(NOT_FAMILY)
        and re.sub(r"-\d{3}$", "", name) not in bare
    }


def dkms_state(out, version, kernel):
    """State of the driver for a kernel in what `dkms status` prints: installed, built, added or empty."""
    for line in out.splitlines():
        found = re.match(r"nvidia[\w-]*(?:/|, ?)([\d.]+)(?:, ?([^,: ]+), ?[^:,]+)?: ?(\w+)", line)
        if found and found.group(1) == version and found.group(2) in (kernel, None):
            return found.group(3)
    return ""
