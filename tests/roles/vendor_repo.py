"""Vendors' package repositories for tests: real .deb files of the real names, in signed repositories, over HTTP.

Real: the package format, apt's own index and signature (gpg makes it, apt checks it), names, versions, dependencies,
unit files, maintainer scripts as far as they change what a role sees. Not real: the programs in the packages, which
are the simulation's (tests/roles/simnode). Where a package's exact content is not public it is ours and says so.

    repositories = serve(node)                 # a node of its own
    repositories.nvidia.url, .fingerprint      # `<url>/debian13/x86_64/` with the key file in it
    repositories.nvidia.remove("580.178.04")   # gone from the index
    repositories.nvidia.break_("signature")    # also: key, package, down; mend() puts it right
"""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any, Protocol

DRIVERS = ("570.172.08", "580.126.20", "580.178.04")
TOOLKITS = ("1.17.8", "1.18.2", "1.19.0", "1.19.1")
DCGM, NVLSM, DOCA, ROCM, AMDGPU = "4.6.0", "2025.10.11", "3.2.3", "7.0.3", "6.16.6"
DISTRO = "debian13/x86_64"
KEY_FILES = {
    "nvidia": "3bf863cc.pub", "doca": "GPG-KEY-Mellanox.pub", "amd": "rocm.gpg.key", "debian": "archive-key.asc",
}  # fmt: skip
WEB = "/srv/www"
LIBRARIES = "usr/lib/x86_64-linux-gnu"
RUNNER = '#!/bin/sh\nexec /opt/simnode/bin/{name} "$@"\n'


# -- one package


@dataclass(frozen=True)
class Deb:
    """A package. `files` are text, or ("->", target) of a symbolic link, by path without the leading slash."""

    name: str
    version: str
    depends: tuple[str, ...] = ()
    files: Mapping[str, str | tuple[str, str]] = field(default_factory=dict)
    programs: Mapping[str, str] = field(default_factory=dict)
    """Path → command of the simulation."""
    conffiles: tuple[str, ...] = ()
    postinst: str = ""
    prerm: str = ""
    fields: tuple[tuple[str, str], ...] = ()
    architecture: str = "amd64"

    @property
    def file_name(self) -> str:
        return f"{self.name}_{self.version.partition(':')[2] or self.version}_{self.architecture}.deb"

    def control(self) -> str:
        lines = [f"Package: {self.name}", f"Version: {self.version}", f"Architecture: {self.architecture}"]
        lines += ["Maintainer: Tests <tests@example.invalid>", "Section: misc", "Priority: optional"]
        lines += [f"Depends: {', '.join(self.depends)}"] if self.depends else []
        lines += [f"{name}: {value}" for name, value in self.fields]
        return "\n".join([*lines, f"Description: {self.name} (for tests)"]) + "\n"

    def build(self) -> bytes:
        control = {"control": (self.control(), 0o644)}
        for script, text in (("postinst", self.postinst), ("prerm", self.prerm)):
            if text:
                control[script] = (f"#!/bin/sh\nset -e\n{text}\n", 0o755)
        if self.conffiles:
            control["conffiles"] = ("".join(f"/{path}\n" for path in self.conffiles), 0o644)
        data: dict[str, tuple[str | tuple[str, str], int]] = {path: (text, 0o644) for path, text in self.files.items()}
        for path, command in self.programs.items():
            data[path] = (RUNNER.format(name=command), 0o755)
        for path, (content, _) in data.items():
            if isinstance(content, str) and content.startswith("#!"):
                data[path] = (content, 0o755)
        members = (("debian-binary", b"2.0\n"), ("control.tar.gz", _tar(control)), ("data.tar.gz", _tar(data)))
        return b"!<arch>\n" + b"".join(_member(name, content) for name, content in members)


def _member(name: str, content: bytes) -> bytes:
    head = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
    return head + content + b"\n" * (len(content) % 2)


def _tar(files: Mapping[str, tuple[str | tuple[str, str], int]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        folders = {parent for path in files for parent in list(Path(path).parents)[:-1]}
        for folder in sorted(folders):
            info = tarfile.TarInfo(f"./{folder}")
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(info)
        for path, (text, mode) in sorted(files.items()):
            info = tarfile.TarInfo(f"./{path}")
            info.mode = mode
            if isinstance(text, tuple):
                info.type, info.linkname = tarfile.SYMTYPE, text[1]
                tar.addfile(info)
            else:
                content = text.encode()
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return gzip.compress(out.getvalue(), compresslevel=1, mtime=0)


# -- what a signed folder holds


class Key:
    """A signing key of this run; `fingerprint` is the full 40 hex digits."""

    def __init__(self, owner: str) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="gpg-")
        self._gpg("--quick-generate-key", f"{owner} <{owner}@example.invalid>", "ed25519", "sign", "never")
        listed = self._gpg("--list-keys", "--with-colons").decode()
        self.fingerprint = next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:"))
        self.public = self._gpg("--armor", "--export").decode()

    def _gpg(self, *arguments: str, stdin: bytes = b"") -> bytes:
        argv = ["gpg", "--homedir", self._home.name, "--batch", "--quiet", "--pinentry-mode", "loopback"]
        done = subprocess.run(
            [*argv, "--passphrase", "", *arguments], input=stdin, capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        # the agent that gpg has started would hold two of the user's few inotify instances until the end
        kill = ["gpgconf", "--homedir", self._home.name, "--kill", "all"]
        subprocess.run(kill, capture_output=True, timeout=60, check=False)
        return done.stdout

    def sign(self, text: bytes) -> bytes:
        return self._gpg("--digest-algo", "SHA256", "--clearsign", stdin=text)

    def close(self) -> None:
        self._home.cleanup()


def signed_folder(packages: Sequence[Deb], key: Key, origin: str) -> dict[str, bytes]:
    """Files of a flat repository: packages, their index, its signature."""
    files, index = {}, []
    for package in packages:
        content = package.build()
        files[package.file_name] = content
        digest = hashlib.sha256(content).hexdigest()
        index.append(f"{package.control()}Filename: ./{package.file_name}\nSize: {len(content)}\nSHA256: {digest}\n")
    listed = "\n".join(index).encode()
    parts = {"Packages": listed, "Packages.gz": gzip.compress(listed, mtime=0)}
    lines = [f"Origin: {origin}", f"Label: {origin}", f"Date: {formatdate(usegmt=True)}", "Architectures: amd64"]
    lines += ["SHA256:", *(f" {hashlib.sha256(text).hexdigest()} {len(text)} {name}" for name, text in parts.items())]
    release = ("\n".join(lines) + "\n").encode()
    return {**files, **parts, "Release": release, "InRelease": key.sign(release)}


# -- the server


class Machine(Protocol):
    """What is needed of tests.roles.conftest.Node."""

    @property
    def engine(self) -> Any: ...
    @property
    def name(self) -> str: ...
    @property
    def host(self) -> Any: ...

    def sh(self, script: str, timeout_s: float = 60) -> str: ...


@dataclass
class VendorRepo:
    """One vendor's repository on the server node. `publish()` puts up what is in `versions`."""

    maker: str
    server: Machine
    key: Key
    versions: list[str]

    @property
    def url(self) -> str:
        return f"http://{self.server.host.node_address}/{self.maker}"

    @property
    def fingerprint(self) -> str:
        return self.key.fingerprint

    @property
    def key_file(self) -> str:
        return KEY_FILES[self.maker]

    @property
    def folder(self) -> str:
        return f"{WEB}/{self.maker}/{DISTRO}"

    def add(self, version: str) -> None:
        self.versions.append(version)
        self.publish()

    def remove(self, version: str) -> None:
        self.versions.remove(version)
        self.publish()

    def publish(self) -> None:
        files = signed_folder(list(MAKERS[self.maker](self.versions)), self.key, self.maker)
        files[self.key_file] = self.key.public.encode()
        self._upload(files)

    def _upload(self, files: Mapping[str, bytes]) -> None:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for name, content in files.items():
                info = tarfile.TarInfo(f"{self.folder}/{name}".lstrip("/"))
                info.size, info.mode = len(content), 0o644
                tar.addfile(info, io.BytesIO(content))
        self.server.sh(f"rm -rf {self.folder}; mkdir -p {self.folder}")
        self.server.engine.copy_in(self.server.name, out.getvalue())

    def break_(self, how: str) -> None:
        """signature: the index is not the signed one. key: another key than promised. package: damaged packages.

        down: nobody answers, for all repositories of the server.
        """
        script = {
            "signature": f"sed -i 's/^Origin: .*/Origin: somebody/' {self.folder}/InRelease",
            "package": f"for f in {self.folder}/*.deb; do printf x >>$f; done",
            "down": "systemctl stop repository",
            "key": "true",
        }[how]
        self.server.sh(script)
        if how == "key":
            stranger = Key("stranger")
            self._upload_key(stranger.public)
            stranger.close()

    def _upload_key(self, text: str) -> None:
        self.server.sh(f"cat >{self.folder}/{self.key_file} <<'EOF'\n{text}EOF")

    def mend(self) -> None:
        self.publish()
        self.server.sh("systemctl start repository")

    def sources(self) -> str:
        """Lines of a shell script that makes a node trust and use this repository, as an administrator would."""
        key = f"/etc/apt/keyrings/{self.maker}.asc"
        return (
            f"mkdir -p /etc/apt/keyrings\ncat >{key} <<'EOF'\n{self.key.public}EOF\n"
            f"echo 'deb [signed-by={key}] {self.url}/{DISTRO}/ /' >/etc/apt/sources.list.d/{self.maker}.list\n"
        )


@dataclass
class Repositories:
    """All repositories of one server node. `debian` stands for the distribution's own hardware packages."""

    nvidia: VendorRepo
    doca: VendorRepo
    amd: VendorRepo
    debian: VendorRepo
    kernel: str

    def close(self) -> None:
        for repository in (self.nvidia, self.doca, self.amd, self.debian):
            repository.key.close()


def serve(server: Machine) -> Repositories:
    """Puts all repositories on the node and serves them on its port 80."""
    server.sh(
        f"mkdir -p {WEB} && systemd-run -q --unit repository -p Restart=on-failure"
        f" python3 -m http.server 80 --directory {WEB}"
    )
    kernel = server.sh("uname -r")
    versions = {"nvidia": list(DRIVERS), "doca": [DOCA], "amd": [ROCM], "debian": [kernel]}
    made = {maker: VendorRepo(maker, server, Key(maker), versions[maker]) for maker in MAKERS}
    for repository in made.values():
        repository.publish()
    return Repositories(**made, kernel=kernel)


# -- NVIDIA


def nvidia_packages(versions: Sequence[str]) -> Iterator[Deb]:
    """What developer.download.nvidia.com/compute/cuda/repos/debian13 has of a driver, and what goes with it."""
    for branch in sorted({version.partition(".")[0] for version in versions}):
        yield pinning(branch, f"{branch}-1", f"{branch}.*")
    for version in versions:
        yield pinning(version, f"{version}-1", f"{version}-*")
        yield from driver(version)
        yield from nvlink(version)
    yield nvlsm()
    for version in TOOLKITS:
        yield from toolkit(version)
    yield from dcgm()


PINNED = "*nvidia* libcuda* libnvsdm* firmware-nvidia-gsp"


def pinning(name: str, version: str, pin: str) -> Deb:
    """The text is ours: what apt does with it is what NVIDIA's guide says the package does."""
    path = "etc/apt/preferences.d/nvidia-driver-pinning"
    text = f"Package: {PINNED}\nPin: version {pin}\nPin-Priority: 1000\n"
    return Deb(
        f"nvidia-driver-pinning-{name}", version, files={path: text}, conffiles=(path,), architecture="all",
        fields=(("Provides", "nvidia-driver-pinning"), ("Conflicts", "nvidia-driver-pinning")),
    )  # fmt: skip


def driver(upstream: str) -> Iterator[Deb]:
    version = f"{upstream}-1"
    same = f"(= {version})"
    yield Deb("nvidia-open", version, (
        f"nvidia-driver {same}", f"nvidia-driver-cuda {same}", f"nvidia-kernel-open-dkms {same}",
    ))  # fmt: skip
    yield Deb("cuda-drivers", version, (
        f"nvidia-driver {same}", f"nvidia-driver-cuda {same}", f"nvidia-kernel-dkms {same}",
    ))  # fmt: skip
    either = f"nvidia-kernel-open-dkms {same} | nvidia-kernel-dkms {same}"
    yield Deb("nvidia-driver", version, (f"nvidia-driver-libs {same}", either))
    yield Deb("nvidia-driver-libs", version, (f"libnvidia-ml1 {same}",))
    yield Deb("nvidia-driver-cuda", version, (
        f"libcuda1 {same}", f"libnvidia-ml1 {same}", f"nvidia-persistenced {same}", f"nvidia-modprobe {same}", either,
    ), programs={"usr/bin/nvidia-smi": "nvidia-smi"})  # fmt: skip
    yield Deb("libcuda1", version, (f"libnvidia-ptxjitcompiler1 {same}",), files=_library("cuda", upstream))
    yield Deb("libnvidia-ml1", version, files=_library("nvidia-ml", upstream))
    yield Deb("libnvidia-ptxjitcompiler1", version, files=_library("nvidia-ptxjitcompiler", upstream))
    yield Deb("firmware-nvidia-gsp", version, files={f"lib/firmware/nvidia/{upstream}/gsp_ga10x.bin": "gsp\n"})
    yield Deb("nvidia-modprobe", version, programs={"usr/bin/nvidia-modprobe": "nvidia-modprobe"})
    yield Deb("nvidia-kernel-support", version, (f"firmware-nvidia-gsp {same}",), files={
        "usr/lib/modprobe.d/nvidia-kernel-support.conf": "blacklist nouveau\nblacklist nova_core\n",
        "usr/lib/udev/rules.d/60-nvidia.rules": "# devices are made by nvidia-modprobe\n",
    }, postinst="command -v update-initramfs >/dev/null && update-initramfs -u || true")  # fmt: skip
    for name, other, flavour in (
        ("nvidia-kernel-open-dkms", "nvidia-kernel-dkms", "open"),
        ("nvidia-kernel-dkms", "nvidia-kernel-open-dkms", "proprietary"),
    ):
        yield Deb(
            name, version, ("dkms", f"nvidia-kernel-support {same}"), files=_dkms_source(upstream, flavour),
            postinst=DKMS_POSTINST.format(version=upstream), prerm=DKMS_PRERM.format(version=upstream),
            fields=(("Conflicts", other), ("Replaces", other)),
        )  # fmt: skip
    yield Deb(
        "nvidia-persistenced", version, (f"libnvidia-ml1 {same}",),
        programs={"usr/bin/nvidia-persistenced": "nvidia-persistenced"},
        files={"usr/lib/systemd/system/nvidia-persistenced.service": PERSISTENCED},
        postinst="systemctl daemon-reload || true\nsystemctl enable -q nvidia-persistenced || true\n"
        "systemctl try-restart nvidia-persistenced || true",
    )  # fmt: skip


def _library(name: str, version: str) -> dict[str, str | tuple[str, str]]:
    return {
        f"{LIBRARIES}/lib{name}.so.{version}": f"lib{name} {version}\n",
        f"{LIBRARIES}/lib{name}.so.1": ("->", f"lib{name}.so.{version}"),
    }


def _dkms_source(version: str, flavour: str) -> dict[str, str | tuple[str, str]]:
    conf = f'PACKAGE_NAME="nvidia"\nPACKAGE_VERSION="{version}"\nBUILT_MODULE_NAME[0]="nvidia"\nAUTOINSTALL="yes"\n'
    return {f"usr/src/nvidia-{version}/dkms.conf": f"{conf}# flavour: {flavour}\n"}


DKMS_POSTINST = """\
dkms add -m nvidia -v {version}
kernel=$(uname -r)
if [ -e /lib/modules/$kernel/build/Makefile ]; then
  dkms install -m nvidia -v {version} -k $kernel
else
  echo "Module build for kernel $kernel was skipped since the"
  echo "kernel headers for this kernel do not seem to be installed."
fi"""
DKMS_PRERM = "dkms remove -m nvidia -v {version} --all || true"

PERSISTENCED = """\
[Unit]
Description=NVIDIA Persistence Daemon
Wants=syslog.target
[Service]
Type=forking
PIDFile=/run/nvidia-persistenced/nvidia-persistenced.pid
Restart=on-failure
ExecStart=/usr/bin/nvidia-persistenced --verbose
ExecStopPost=/bin/rm -rf /run/nvidia-persistenced
[Install]
WantedBy=multi-user.target
"""
FABRIC_MANAGER = """\
[Unit]
Description=NVIDIA fabric manager service
After=network-online.target
Requires=network-online.target
[Service]
User=root
PrivateTmp=false
Type=forking
TimeoutStartSec=720
Environment="FM_CONFIG_FILE=/usr/share/nvidia/nvswitch/fabricmanager.cfg"
Environment="FM_PID_FILE=/var/run/nvidia-fabricmanager/nv-fabricmanager.pid"
Environment="NVLSM_CONFIG_FILE=/usr/share/nvidia/nvlsm/nvlsm.conf"
Environment="NVLSM_PID_FILE=/var/run/nvidia-fabricmanager/nvlsm.pid"
PIDFile=/run/nvidia-fabricmanager/nv-fabricmanager.pid
ExecStart=/usr/bin/nvidia-fabricmanager-start.sh --mode start --fm-config-file $FM_CONFIG_FILE --fm-pid-file \
$FM_PID_FILE --nvlsm-config-file $NVLSM_CONFIG_FILE --nvlsm-pid-file $NVLSM_PID_FILE
LimitCORE=infinity
[Install]
WantedBy=multi-user.target
"""
FABRIC_MANAGER_CONFIG = """\
LOG_LEVEL=4
LOG_FILE_NAME=/var/log/fabricmanager.log
DAEMONIZE=1
BIND_INTERFACE_IP=127.0.0.1
STARTING_TCP_PORT=16000
FABRIC_MODE=0
FABRIC_MODE_RESTART=0
STATE_FILE_NAME=/tmp/fabricmanager.state
FM_CMD_BIND_INTERFACE=127.0.0.1
FM_CMD_PORT_NUMBER=6666
FM_STAY_RESIDENT_ON_FAILURES=0
ACCESS_LINK_FAILURE_MODE=0
TRUNK_LINK_FAILURE_MODE=0
NVSWITCH_FAILURE_MODE=0
"""
IMEX = """\
[Unit]
Description=NVIDIA IMEX service
After=network-online.target
Requires=network-online.target
[Service]
User=root
PrivateTmp=false
Type=forking
TimeoutStartSec=infinity
ExecStart=/usr/bin/nvidia-imex -c /etc/nvidia-imex/config.cfg
PIDFile=/var/run/nvidia-imex.pid
LimitCORE=infinity
[Install]
WantedBy=multi-user.target
"""
IMEX_CONFIG = """\
LOG_LEVEL=4
LOG_FILE_NAME=/var/log/nvidia-imex.log
DAEMONIZE=1
IMEX_NODE_CONFIG_FILE=/etc/nvidia-imex/nodes_config.cfg
SERVER_PORT=50000
BIND_INTERFACE_IP=
IMEX_WAIT_FOR_QUORUM=RECOVERY
IMEX_CONN_WAIT_TIMEOUT=70
IMEX_CMD_ENABLED=0
IMEX_CMD_PORT=50005
"""


def nvlink(upstream: str) -> Iterator[Deb]:
    """Names carry the branch before 580. None of these depends on the driver: a mismatch can be installed."""
    version, branch = f"{upstream}-1", upstream.partition(".")[0]
    suffix = f"-{branch}" if int(branch) < 580 else ""
    configuration = "usr/share/nvidia/nvswitch/fabricmanager.cfg"
    yield Deb(
        f"nvidia-fabricmanager{suffix}", version,
        programs={
            "usr/bin/nv-fabricmanager": "nv-fabricmanager",
            "usr/bin/nvidia-fabricmanager-start.sh": "nvidia-fabricmanager-start.sh",
        },
        files={
            "usr/lib/systemd/system/nvidia-fabricmanager.service": FABRIC_MANAGER,
            configuration: FABRIC_MANAGER_CONFIG, "usr/share/nvidia/nvswitch/version": upstream,
        },
        conffiles=(configuration,), postinst="systemctl daemon-reload || true",
        fields=(("Provides", "fabricmanager"), ("Conflicts", "fabricmanager")),
    )  # fmt: skip
    yield Deb(
        f"nvidia-imex{suffix}", version,
        programs={"usr/bin/nvidia-imex": "nvidia-imex", "usr/bin/nvidia-imex-ctl": "nvidia-imex-ctl"},
        files={
            "usr/lib/systemd/system/nvidia-imex.service": IMEX, "etc/nvidia-imex/config.cfg": IMEX_CONFIG,
            "etc/nvidia-imex/nodes_config.cfg": "", "usr/share/nvidia/imex/version": upstream,
        },
        conffiles=("etc/nvidia-imex/config.cfg", "etc/nvidia-imex/nodes_config.cfg"),
        postinst="systemctl daemon-reload || true",
        fields=(("Provides", "imex"), ("Conflicts", "imex")),
    )  # fmt: skip
    for name in ("libnvidia-nscq", "libnvsdm"):
        plain = name.removeprefix("lib")
        path = f"{LIBRARIES}/lib{plain}.so.{upstream}"
        yield Deb(f"{name}{suffix}", version, files={path: f"{upstream}\n"})


def nvlsm() -> Deb:
    return Deb(
        "nvlsm", f"{NVLSM}-1", programs={"opt/nvidia/nvlsm/sbin/nvlsm": "nvlsm"},
        files={"usr/share/nvidia/nvlsm/nvlsm.conf": "# nvlsm\n"}, conffiles=("usr/share/nvidia/nvlsm/nvlsm.conf",),
    )  # fmt: skip


CDI_PATH = """\
[Unit]
Description=Trigger CDI refresh on NVIDIA driver install / uninstall events
[Path]
PathChanged=/lib/modules/%v/modules.dep
PathChanged=/lib/modules/%v/modules.dep.bin
[Install]
WantedBy=multi-user.target
"""
CDI_SERVICE = """\
[Unit]
Description=Refresh NVIDIA CDI specification file
ConditionPathExists=|/usr/bin/nvidia-smi
ConditionPathExists=|/usr/sbin/nvidia-smi
ConditionPathExists=/usr/bin/nvidia-ctk
[Service]
Type=oneshot
EnvironmentFile=-/etc/nvidia-container-toolkit/nvidia-cdi-refresh.env
ExecCondition=/usr/bin/grep -qE '/nvidia.ko' /lib/modules/%v/modules.dep
ExecStart=/usr/bin/nvidia-ctk cdi generate --output=/var/run/cdi/nvidia.yaml
CapabilityBoundingSet=CAP_SYS_MODULE CAP_SYS_ADMIN CAP_MKNOD
[Install]
WantedBy=multi-user.target
"""


def toolkit(upstream: str) -> Iterator[Deb]:
    version = f"{upstream}-1"
    same = f"(= {version})"
    tools = ("nvidia-ctk", "nvidia-cdi-hook", "nvidia-container-runtime")
    units = {
        "usr/lib/systemd/system/nvidia-cdi-refresh.path": CDI_PATH,
        "usr/lib/systemd/system/nvidia-cdi-refresh.service": CDI_SERVICE,
    }
    has_refresh = tuple(int(part) for part in upstream.split(".")) >= (1, 18)
    yield Deb(
        "nvidia-container-toolkit-base", version, programs={f"usr/bin/{tool}": tool for tool in tools},
        files={**(units if has_refresh else {}), "usr/share/nvidia/container-toolkit-version": upstream},
        postinst="systemctl daemon-reload || true\n"
        + ("systemctl enable -q --now nvidia-cdi-refresh.path || true\n"
           "systemctl enable -q nvidia-cdi-refresh.service || true" if has_refresh else ""),
    )  # fmt: skip
    yield Deb("libnvidia-container1", version, files={f"{LIBRARIES}/libnvidia-container.so.1": upstream})
    yield Deb(
        "libnvidia-container-tools", version, (f"libnvidia-container1 {same}",),
        programs={"usr/bin/nvidia-container-cli": "nvidia-container-cli"},
    )  # fmt: skip
    yield Deb("nvidia-container-toolkit", version, (
        f"nvidia-container-toolkit-base {same}", f"libnvidia-container-tools {same}",
    ))  # fmt: skip


HOSTENGINE = """\
[Unit]
Description=NVIDIA DCGM service
[Service]
User=root
PrivateTmp=false
Environment=DCGM_HOME_DIR=/var/log/nvidia-dcgm
ExecStart=/usr/bin/nv-hostengine -n --service-account nvidia-dcgm
Restart=on-abort
[Install]
WantedBy=multi-user.target
"""


def dcgm() -> Iterator[Deb]:
    version = f"1:{DCGM}-1"
    yield Deb(
        "datacenter-gpu-manager-4-core", version,
        programs={"usr/bin/dcgmi": "dcgmi", "usr/bin/nv-hostengine": "nv-hostengine"},
        files={"usr/lib/systemd/system/nvidia-dcgm.service": HOSTENGINE}, postinst="systemctl daemon-reload || true",
    )  # fmt: skip
    for major in (12, 13):
        yield Deb(
            f"datacenter-gpu-manager-4-cuda{major}", version, (f"datacenter-gpu-manager-4-core (= {version})",),
            files={f"usr/libexec/datacenter-gpu-manager-4/plugins/cuda{major}/libDiag.so": "diag\n"},
        )  # fmt: skip


# -- DOCA-Host, AMD, the distribution


def doca_packages(versions: Sequence[str]) -> Iterator[Deb]:
    """`doca-ofed`, the profile for InfiniBand and RoCE hosts; kernel modules are built for the running kernel."""
    for upstream in versions:
        version = f"{upstream}-1"
        yield Deb("doca-ofed", version, (
            "mlnx-ofed-kernel-dkms", "mlnx-tools", "rdma-core", "ibverbs-utils", "infiniband-diags", "perftest", "mft",
        ))  # fmt: skip
        yield Deb("doca-networking", version, ("doca-ofed",))
        yield Deb(
            "mlnx-ofed-kernel-dkms", "25.10.OFED.25.10.1.7.1", ("dkms",),
            files={"usr/src/ofa_kernel/Module.symvers": "0x0 ib_register_peer_memory_client ib_core\n"},
        )  # fmt: skip
        yield Deb("mlnx-tools", "25.10-0.2510014", programs={
            "usr/bin/mlnx_qos": "mlnx_qos", "usr/sbin/cma_roce_tos": "cma_roce_tos",
            "usr/sbin/show_gids": "show_gids", "usr/bin/ibdev2netdev": "ibdev2netdev",
        })  # fmt: skip
        yield Deb("ofed-scripts", "25.10-OFED.25.10.1.7.1", programs={"usr/bin/ofed_info": "ofed_info"})
        yield Deb("perftest", "25.10.0-0.100")
        yield Deb("mft", "4.34.0-145", programs={"usr/bin/mst": "mst", "usr/bin/mlxconfig": "mlxconfig"})
        yield Deb("rdma-core", "2510.0.5-1", programs=RDMA_CORE)
        yield Deb("ibverbs-utils", "2510.0.5-1", programs=VERBS)
        yield Deb("infiniband-diags", "2510.0.5-1", programs=DIAGS)


RDMA_CORE: dict[str, str] = {}
VERBS = {"usr/bin/ibv_devinfo": "ibv_devinfo", "usr/bin/ibv_devices": "ibv_devices"}
DIAGS = {"usr/sbin/ibstat": "ibstat", "usr/sbin/ibstatus": "ibstatus", "usr/sbin/sminfo": "sminfo"}


def amd_packages(versions: Sequence[str]) -> Iterator[Deb]:
    """repo.radeon.com has these in two repositories (amdgpu, rocm); here they stand in one."""
    for upstream in versions:
        number = "".join(f"{int(part):02d}" for part in upstream.split("."))
        version = f"{upstream}.{number}-42~24.04"
        build = f"1:{AMDGPU}.{number}-2255209.24.04"
        yield Deb("amdgpu-dkms-firmware", build, architecture="all")
        yield Deb(
            "amdgpu-dkms", build, ("dkms", "amdgpu-dkms-firmware"),
            files={f"usr/src/amdgpu-{AMDGPU}/dkms.conf": f'PACKAGE_NAME="amdgpu"\nPACKAGE_VERSION="{AMDGPU}"\n'},
            postinst=DKMS_POSTINST.format(version=AMDGPU).replace("-m nvidia", "-m amdgpu"),
            prerm=DKMS_PRERM.format(version=AMDGPU).replace("-m nvidia", "-m amdgpu"),
        )  # fmt: skip
        yield Deb("amd-smi-lib", f"26.0.2.{number}-42~24.04", programs={
            f"opt/rocm-{upstream}/bin/amd-smi": "amd-smi", "usr/bin/amd-smi": "amd-smi",
        })  # fmt: skip
        yield Deb("rocm-core", version, files={
            f"opt/rocm-{upstream}/.info/version": f"{upstream}-42\n", "opt/rocm": ("->", f"rocm-{upstream}"),
        })  # fmt: skip
        yield Deb("rocminfo", f"1.0.0.{number}-42~24.04", ("rocm-core",), programs={"usr/bin/rocminfo": "rocminfo"})
        yield Deb("rccl", f"2.26.6.{number}-42~24.04", ("rocm-core",))
        yield Deb("rocm", version, ("rocm-core", "rocminfo", "amd-smi-lib", "rccl"))
    yield Deb("amd-container-toolkit", "1.2.0", programs={
        "usr/bin/amd-ctk": "amd-ctk", "usr/bin/amd-container-runtime": "amd-ctk",
    })  # fmt: skip


def debian_packages(versions: Sequence[str]) -> Iterator[Deb]:
    """Packages of the distribution whose programs look at the hardware, so that they look at the simulated one.

    Their versions are above any real one's: apt takes these.
    """
    high = "1:9999-0"
    for kernel in versions:
        yield Deb("linux-headers-amd64", high, (f"linux-headers-{kernel}",))
        yield Deb(
            f"linux-headers-{kernel}", high, files={
                f"usr/src/linux-headers-{kernel}/Makefile": "# headers\n",
                f"lib/modules/{kernel}/build": ("->", f"/usr/src/linux-headers-{kernel}"),
            },
            postinst=f"if command -v dkms >/dev/null; then dkms autoinstall -k {kernel}; fi",
        )  # fmt: skip
    yield Deb("dkms", high, programs={"usr/sbin/dkms": "dkms"}, postinst="dkms autoinstall || true")
    for name in ("pciutils", "kmod", "mokutil", "initramfs-tools", "grub2-common"):
        yield Deb(name, high)  # the node has their programs from the start
    yield Deb("rdma-core", high, programs=RDMA_CORE)
    yield Deb("ibverbs-utils", high, programs=VERBS)
    yield Deb("infiniband-diags", high, programs=DIAGS)
    yield Deb("libfabric-bin", high, programs={"usr/bin/fi_info": "fi_info"})


MAKERS = {"nvidia": nvidia_packages, "doca": doca_packages, "amd": amd_packages, "debian": debian_packages}
