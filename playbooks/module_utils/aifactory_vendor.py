"""Vendors' package repositories on a node: which one is the node's, and trust in its key.

Used by the module `aifactory_repository` and by modules that install a vendor's packages. Standard library only.
"""

from __future__ import annotations

import base64
import contextlib
import glob
import hashlib
import os
import re
import signal
import subprocess
import tempfile
import urllib.error
import urllib.request

KEY_BYTES = 1 << 20  # no signing key is near that large
FETCH_TIMEOUT_S = 30
UPDATE_TIMEOUT_S = 300
ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8", "NEEDRESTART_SUSPEND": "1"}
APT = [
    "apt-get", "--yes", "--quiet", "--no-install-recommends",
    "-o", "DPkg::Lock::Timeout=120",
    "-o", "Acquire::Retries=2",
    "-o", "Acquire::http::Timeout=20",
    "-o", "APT::Update::Error-Mode=any",
    "-o", "Dpkg::Options::=--force-confdef",
    "-o", "Dpkg::Options::=--force-confold",
]  # fmt: skip
DNF = ["dnf", "--assumeyes", "--quiet", "--setopt=install_weak_deps=False", "--setopt=exit_on_lock=False"]

ARCHITECTURES = {"x86_64": ("x86_64", "amd64"), "aarch64": ("sbsa", "arm64")}
"""Machine → folder in NVIDIA's repositories, name in Debian's."""
KEY_NAMES = ("3bf863cc.pub", "8793F200.pub", "D42D0685.pub", "CDF6BA43.pub")
"""What NVIDIA calls the key's file; a mirror that signs anew keeps the name. The name proves nothing."""
SUPPORTED = "Debian 12 or 13, Ubuntu 22.04 or 24.04, a RHEL 9 or 10 family system, or Amazon Linux 2023"
RHEL_FAMILY = ("rhel", "rocky", "almalinux", "ol", "centos")


class Refused(Exception):
    """The node stays as it is; the text says what is wrong and what to do."""


class Distribution:
    """`family` apt or dnf; `folder` as vendors call it (`debian13`, `ubuntu2404`, `rhel9`, `amzn2023`)."""

    def __init__(self, text, machine):
        """`text` is /etc/os-release, `machine` what uname says. Raises Refused for one that is not supported."""
        found = dict(re.findall(r'^([A-Z_]+)="?([^"\n]*)"?$', text, re.MULTILINE))
        self.id, self.version = found.get("ID", "?"), found.get("VERSION_ID", "?")
        self.major, self.name = self.version.partition(".")[0], found.get("PRETTY_NAME", self.id)
        self.codename = found.get("VERSION_CODENAME", "")
        known = {
            ("debian", "12"): "debian12", ("debian", "13"): "debian13",
            ("ubuntu", "22.04"): "ubuntu2204", ("ubuntu", "24.04"): "ubuntu2404", ("amzn", "2023"): "amzn2023",
        }  # fmt: skip
        self.folder = known.get((self.id, self.version), "")
        if self.id in RHEL_FAMILY and self.major in ("9", "10"):
            self.folder = "rhel" + self.major
        if not self.folder or machine not in ARCHITECTURES:
            raise Refused(f"{self.name} on {machine} is not supported: use {SUPPORTED}, on x86_64 or aarch64")
        self.family = "apt" if self.id in ("debian", "ubuntu") else "dnf"
        self.machine = machine
        self.arch, self.deb_arch = ARCHITECTURES[machine]

    def fill(self, path):
        """`path` with {distro}, {arch}, {deb_arch}, {machine}, {codename}, {version}, {major} filled in."""
        names = ("arch", "deb_arch", "machine", "codename", "version", "major", "id")
        return path.format(distro=self.folder, **{name: getattr(self, name) for name in names})


def distribution(root="/"):
    with open(os.path.join(root, "etc/os-release"), encoding="utf-8") as file:
        return Distribution(file.read(), os.uname().machine)


class Repository:
    """One repository as the node should have it. `fingerprint` is of the one key that may sign it."""

    def __init__(self, distro, name, url, fingerprint, *, path="{distro}/{arch}", key_file="", **more):
        """`more`: apt's suites and components, and packages to exclude."""
        self.distro, self.name = distro, name
        self.root = url.rstrip("/")
        self.url = f"{self.root}/{distro.fill(path).strip('/')}".rstrip("/") + "/"
        self.fingerprint = re.sub(r"[\s:]|0[xX]", "", fingerprint).upper()
        self.key_file, self.suites = key_file, distro.fill(more.pop("suites", "/"))
        self.components, self.exclude = tuple(more.pop("components", ())), tuple(more.pop("exclude", ()))
        if more:
            raise TypeError(f"unknown: {', '.join(more)}")
        stem = f"aifactory-{name}"
        if distro.family == "apt":
            self.source = f"/etc/apt/sources.list.d/{stem}.sources"
            self.key = f"/etc/apt/keyrings/{stem}.gpg"
            self.pins = f"/etc/apt/preferences.d/{stem}-exclude"
        else:
            self.source, self.pins = f"/etc/yum.repos.d/{stem}.repo", ""
            self.key = f"/etc/pki/rpm-gpg/{stem}.asc"

    def problems(self):
        """Why this repository cannot be trusted as it is described; empty when it can."""
        found = []
        if not re.match(r"(https?|file)://[^\s/]*/?\S*$", self.root):
            found.append(f'repository {self.name}: "{self.root}" is no http, https or file address')
        if not re.fullmatch(r"[0-9A-F]{40}|[0-9A-F]{64}", self.fingerprint):
            found.append(
                f"repository {self.name} ({self.url}): no full fingerprint of its signing key is known for "
                f"{self.distro.folder} ({self.fingerprint or 'none'}), so nothing from it is trusted: "
                "take the vendor's key file, read it with gpg --show-keys, compare it with what the vendor publishes, "
                f"and write the 40 hex digits into the region file as software.repositories.{self.name}.fingerprint"
            )
        return found

    def key_urls(self):
        """Where the key may lie. Vendors name it after its last 8 digits, some in lower case and some in upper case."""
        if self.key_file.startswith("/"):
            return [self.root + self.distro.fill(self.key_file)]
        short = self.fingerprint[-8:]
        names = (
            [self.distro.fill(self.key_file)] if self.key_file else [f"{short.lower()}.pub", f"{short}.pub", *KEY_NAMES]
        )
        return [self.url + name for name in dict.fromkeys(names)]

    def source_text(self):
        if self.distro.family == "apt":
            lines = ["# aifactory: written by the playbooks; changes are undone.", "Types: deb", f"URIs: {self.url}"]
            lines += [f"Suites: {self.suites}", *([f"Components: {' '.join(self.components)}"] * bool(self.components))]
            return "\n".join([*lines, f"Architectures: {self.distro.deb_arch}", f"Signed-By: {self.key}", ""])
        lines = [
            "# aifactory: written by the playbooks; changes are undone.", f"[aifactory-{self.name}]",
            f"name=aifactory {self.name}", f"baseurl={self.url}", "enabled=1", "gpgcheck=1", f"gpgkey=file://{self.key}",
        ]  # fmt: skip
        lines += [f"excludepkgs={' '.join(self.exclude)}"] * bool(self.exclude)
        return "\n".join([*lines, ""])

    def files(self, key):
        """Path → bytes, in the order in which they are written: a source never names a key that is not there."""
        wanted = {self.key: (key if self.distro.family == "apt" else armored(key).encode()) if key else None}
        if self.pins and self.exclude:
            text = (
                f"# aifactory: these packages never come from {self.url}\n"
                f"Package: {' '.join(self.exclude)}\nPin: origin {re.sub('^[a-z]+://|[:/].*$', '', self.root)}\n"
                "Pin-Priority: -1\n"
            )
            wanted[self.pins] = text.encode()
        wanted[self.source] = self.source_text().encode()
        return wanted

    def have(self, check, run, root="/", fresh=False):
        """Has key and source in place and the package lists of this repository read. Returns the changed paths.

        `fresh`: packages are about to be taken from it, so the lists are read anew; old ones name what is gone.

        Needs no network where everything is in place and nobody asks for fresh lists. Raises Refused when the key is
        another one, when it cannot be fetched, when somebody else's file names the same repository, or when the
        repository does not answer; then the files are as they were before.
        """
        if found := self.problems() + self.others(root):
            raise Refused("; ".join(found))
        key = self._key_here(root)
        if key is None and not check:
            key = self._fetched_key()
        before = {path: read(root + path) for path in self.files(key)}
        changed = [path for path, new in self.files(key).items() if new is None or new != before[path]]
        if check:
            return changed
        for path in changed:
            write(root + path, self.files(key)[path])
        if changed or fresh or not self.lists(root):
            try:
                self.refresh(run)
            except Refused:
                for path in reversed(changed):
                    write(root + path, before[path])
                raise
        return changed

    def refresh(self, run):
        """Reads this repository's package lists and no other's. Raises Refused when it is down or not signed."""
        if self.distro.family == "apt":
            only = ["-o", f"Dir::Etc::sourcelist={self.source}", "-o", "Dir::Etc::sourceparts=-"]
            command = [*APT, *only, "-o", "APT::Get::List-Cleanup=0", "update"]
        else:
            command = [*DNF, "--disablerepo=*", f"--enablerepo=aifactory-{self.name}", "makecache"]
        code, out, err = run(command, UPDATE_TIMEOUT_S)
        if code:
            raise Refused(
                f"repository {self.name} ({self.url}) does not answer as it should: {last_words(out, err)}. "
                "Check the address, the way to it from the node, and that it is signed with key "
                f"{self.fingerprint}; then run again"
            )

    def lists(self, root="/"):
        """Files of package lists that were read before."""
        if self.distro.family != "apt":
            return [self.source] if os.path.exists((root or "/") + self.source) else []
        name = re.sub("^[a-z]+:/+", "", self.url).replace("_", "%5f").replace("/", "_")
        if self.suites.strip("/"):
            name += "dists_"
        return glob.glob(os.path.join(root or "/", "var/lib/apt/lists", glob.escape(name) + "*"))

    def others(self, root="/"):
        """Apt refuses all its sources when two of them name one repository with different keys."""
        if self.distro.family != "apt":
            return []
        found, folder = [], os.path.join(root or "/", "etc/apt")
        names = re.compile(re.escape(self.url.rstrip("/")) + r"/?(\s|$)")
        for path in [os.path.join(folder, "sources.list"), *sorted(glob.glob(folder + "/sources.list.d/*"))]:
            lines = (read(path) or b"").decode(errors="replace").splitlines()
            same = any(names.search(line) for line in lines if not line.lstrip().startswith("#"))
            if same and os.path.basename(path) != os.path.basename(self.source):
                found.append(
                    f"{path} names {self.url} too, with a key that nobody checked: remove it (apt-get purge "
                    "cuda-keyring, if that package brought it) and run again"
                )
        return found

    def _key_here(self, root):
        data = read(root + self.key)
        try:
            key = dearmored(data) if data else b""
        except ValueError:
            return None
        return key if key and primary_fingerprints(key) == [self.fingerprint] else None

    def _fetched_key(self):
        tried, others = [], []
        for url in self.key_urls():
            try:
                with urllib.request.urlopen(url, timeout=FETCH_TIMEOUT_S) as answer:  # noqa: S310
                    key = dearmored(answer.read(KEY_BYTES))
                found = primary_fingerprints(key)
            except (OSError, ValueError) as error:
                tried.append(f"{url}: {getattr(error, 'reason', error)}")
                continue
            if found == [self.fingerprint]:
                return key
            others.append(f"{url} holds key {' and '.join(found) or 'none'}")
        if others:
            raise Refused(
                f"repository {self.name}: {', '.join(others)}; wanted is {self.fingerprint} alone. Nothing from it is "
                "trusted: ask whoever runs the repository, and change the fingerprint only when the vendor has "
                "published the new one"
            )
        raise Refused(
            f"repository {self.name} ({self.url}): its signing key cannot be read, so nothing from it is trusted "
            f"({'; '.join(tried[:2])}). Check the address and the way to it from the node, then run again"
        )


def dearmored(data):
    """The packets of an OpenPGP key, given with or without ASCII armour. Raises ValueError for anything else."""
    if data[:1] and data[0] & 0x80:
        return data
    blocks = re.findall(
        rb"-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(.*?)-----END PGP PUBLIC KEY BLOCK-----", data, re.DOTALL
    )
    if not blocks:
        raise ValueError("no OpenPGP key")
    packets = b""
    for block in blocks:
        lines = block.replace(b"\r", b"").split(b"\n")
        body = lines[lines.index(b"") + 1 :] if b"" in lines[:-1] else lines
        packets += base64.b64decode(b"".join(line for line in body if not line.startswith(b"=") and b":" not in line))
    return packets


def armored(packets):
    crc = 0xB704CE
    for byte in packets:
        crc ^= byte << 16
        for _bit in range(8):
            crc = (crc << 1) ^ (0x1864CFB if crc & 0x800000 else 0)
    text = base64.encodebytes(packets).decode()
    check = base64.b64encode((crc & 0xFFFFFF).to_bytes(3, "big")).decode()
    return f"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n{text}={check}\n-----END PGP PUBLIC KEY BLOCK-----\n"


def primary_fingerprints(packets):
    """Fingerprints, upper case, of every primary key in it. Raises ValueError when it is not OpenPGP."""
    found, at = [], 0
    try:
        while at < len(packets):
            tag, start, end = _packet(packets, at)
            body = packets[start:end]
            if tag == 6 and body[0] == 4:
                found.append(hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body).hexdigest().upper())  # noqa: S324
            elif tag == 6 and body[0] == 6:
                found.append(hashlib.sha256(b"\x9b" + len(body).to_bytes(4, "big") + body).hexdigest().upper())
            elif tag == 6:
                raise ValueError(f"an OpenPGP key of version {body[0]}")
            at = end
    except IndexError:
        raise ValueError("no OpenPGP key, or half of one") from None
    return found


def _packet(data, at):
    """(tag, start, end of the body) of the packet that begins at `at`; RFC 9580, section 4.2."""
    header = data[at]
    if not header & 0x80:
        raise ValueError("no OpenPGP packet")
    if header & 0x40:
        tag, first = header & 0x3F, data[at + 1]
        if first < 192:
            start, length = at + 2, first
        elif first < 224:
            start, length = at + 3, ((first - 192) << 8) + data[at + 2] + 192
        elif first == 255:
            start, length = at + 6, int.from_bytes(data[at + 2 : at + 6], "big")
        else:
            raise ValueError("an OpenPGP packet of unknown length")
    else:
        tag, size = (header & 0x3C) >> 2, 1 << (header & 3)
        if size == 8:
            raise ValueError("an OpenPGP packet of unknown length")
        start, length = at + 1 + size, int.from_bytes(data[at + 1 : at + 1 + size], "big")
    if start + length > len(data):
        raise ValueError("no OpenPGP key, or half of one")
    return tag, start, start + length


def read(path):
    """Content of a file, None without it."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def write(path, data, mode=0o644):
    """Replaces a file whole; None removes it."""
    if data is None:
        if os.path.lexists(path):
            os.remove(path)
        return
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    number, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".aifactory-")
    try:
        with os.fdopen(number, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        os.remove(temporary)
        raise


def run(command, timeout_s):
    """(exit status, output, errors) of a command. 124 when it did not end in time, 127 when it is not there."""
    environment = {**os.environ, **ENVIRONMENT}
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=environment, start_new_session=True,
        )  # fmt: skip
    except (FileNotFoundError, PermissionError) as error:
        return 127, "", f"{command[0]}: {error.strerror}"
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):  # one that sleeps in the kernel does not die
            process.communicate(timeout=5)
        return 124, "", f"{command[0]} did not end within {timeout_s} s"
    return process.returncode, out.decode(errors="replace"), err.decode(errors="replace")


def last_words(out, err):
    """What apt, dpkg or dnf said went wrong, in one line."""
    text = [line.strip() for line in (err + "\n" + out).splitlines() if line.strip()]
    told = [line for line in text if line.startswith(("Error! ", "Consult /"))]  # DKMS, which says why
    told += [line for line in text if line.startswith(("E:", "Err:", "Error:", "dpkg: error"))]
    told = told or text[-3:]
    words = " | ".join(told[:3])
    if "No space left on device" in err + out:
        words += " | the disk is full: free some space and run again, the next run completes what is left"
    return words
