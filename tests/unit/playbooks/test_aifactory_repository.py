"""Trust in a vendor's repository. Real: keys made and armoured by gpg, files, a web server; apt is not run."""

from __future__ import annotations

import http.server
import importlib
import importlib.util
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from aifactory import paths

pytestmark = pytest.mark.skipif(shutil.which("gpg") is None, reason="no gpg: apt-get install gnupg")

DEBIAN_13 = 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nID=debian\nVERSION_ID="13"\nVERSION_CODENAME=trixie\n'


def load(name: str, folder: str) -> ModuleType:
    """A file of playbooks/ under the name that modules import it by on a node."""
    spec = importlib.util.spec_from_file_location(name, paths.PLAYBOOKS / folder / f"{name.rpartition('.')[2]}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    parent = importlib.import_module(name.rpartition(".")[0]) if "." in name else None
    if parent is not None:
        setattr(parent, name.rpartition(".")[2], module)
    return module


vendor: Any = load("ansible.module_utils.aifactory_vendor", "module_utils")
module: Any = load("aifactory_repository", "library")


class Gpg:
    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(mode=0o700)

    def run(self, *arguments: str, stdin: bytes = b"") -> bytes:
        command = ["gpg", "--homedir", str(self.home), "--batch", "--passphrase", "", *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, check=True).stdout

    def key(self, name: str, kind: str) -> str:
        self.run("--quick-generate-key", name, kind)
        listed = self.run("--with-colons", "--list-keys", name).decode()
        return next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr"))


@pytest.fixture(scope="module")
def gpg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gpg]:
    home = tmp_path_factory.mktemp("g") / "h"
    yield Gpg(home)
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)


@pytest.fixture(scope="module")
def keys(gpg: Gpg) -> dict[str, tuple[str, bytes]]:
    """Name → (fingerprint, armoured key)."""
    found = {}
    for name, kind in {"vendor": "ed25519", "other": "rsa2048"}.items():
        fingerprint = gpg.key(f"{name}@example.eu", kind)
        found[name] = (fingerprint, gpg.run("--armor", "--export", fingerprint))
    return found


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server and the folder that it serves."""
    folder = tmp_path / "site"
    (folder / "debian13/x86_64").mkdir(parents=True)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, directory=str(folder), **named)

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    server.server_close()


Run = Callable[[list[str], int], tuple[int, str, str]]


def answers(root: Path, code: int = 0, err: str = "") -> Run:
    """An apt that reads the lists of the repository."""

    def run(command: list[str], _timeout_s: int) -> tuple[int, str, str]:
        run.calls.append(command)  # type: ignore[attr-defined]
        if code == 0:
            for file in (root / "etc/apt/sources.list.d").glob("*.sources"):
                uri = next(line[6:] for line in file.read_text().splitlines() if line.startswith("URIs: "))
                lists = root / "var/lib/apt/lists"
                lists.mkdir(parents=True, exist_ok=True)
                (lists / (uri.partition("//")[2].replace("_", "%5f").replace("/", "_") + "_InRelease")).touch()
        return code, "", err

    run.calls = []  # type: ignore[attr-defined]
    return run


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root/etc/apt/sources.list.d").mkdir(parents=True)
    return tmp_path / "root"


def repository(url: str, fingerprint: str, **more: Any) -> Any:
    return vendor.Repository(vendor.Distribution(DEBIAN_13, "x86_64"), "nvidia", url, fingerprint, **more)


def tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file() and "lists" not in p.parts}


def serve_key(folder: Path, fingerprint: str, data: bytes) -> None:
    (folder / "debian13/x86_64" / f"{fingerprint[-8:].lower()}.pub").write_bytes(data)


@pytest.mark.parametrize("armoured", [True, False])
def test_fingerprint_is_the_one_that_gpg_names(gpg: Gpg, keys: dict[str, tuple[str, bytes]], armoured: bool) -> None:
    for fingerprint, text in keys.values():
        data = text if armoured else gpg.run("--export", fingerprint)
        assert vendor.primary_fingerprints(vendor.dearmored(data)) == [fingerprint]


def test_armour_is_what_gpg_reads_back(gpg: Gpg, keys: dict[str, tuple[str, bytes]]) -> None:
    fingerprint, _text = keys["vendor"]
    packets = gpg.run("--export", fingerprint)
    assert gpg.run("--dearmor", stdin=vendor.armored(packets).encode()) == packets
    assert vendor.dearmored(vendor.armored(packets).encode()) == packets


@pytest.mark.parametrize("data", [b"", b"<html>no such page</html>", b"\x99", b"\x98\x33\x04abc"])
def test_what_is_no_key_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="OpenPGP"):
        vendor.primary_fingerprints(vendor.dearmored(data) or b"\x00")


def test_repository_is_trusted_by_its_key_alone(
    site: tuple[str, Path], keys: dict[str, tuple[str, bytes]], root: Path
) -> None:
    fingerprint, text = keys["vendor"]
    serve_key(site[1], fingerprint, text)
    run = answers(root)
    changed = repository(site[0], fingerprint).have(False, run, str(root))
    assert changed == [
        "/etc/apt/keyrings/aifactory-nvidia.gpg",
        "/etc/apt/sources.list.d/aifactory-nvidia.sources",
    ]
    assert (root / "etc/apt/sources.list.d/aifactory-nvidia.sources").read_text() == (
        "# aifactory: written by the playbooks; changes are undone.\n"
        f"Types: deb\nURIs: {site[0]}/debian13/x86_64/\nSuites: /\n"
        "Architectures: amd64\nSigned-By: /etc/apt/keyrings/aifactory-nvidia.gpg\n"
    )
    assert (root / "etc/apt/keyrings/aifactory-nvidia.gpg").read_bytes() == vendor.dearmored(text)


def test_second_run_changes_nothing_and_needs_no_network(
    site: tuple[str, Path], keys: dict[str, tuple[str, bytes]], root: Path
) -> None:
    fingerprint, text = keys["vendor"]
    serve_key(site[1], fingerprint, text)
    repository(site[0], fingerprint).have(False, answers(root), str(root))
    serve_key(site[1], fingerprint, b"gone")
    run = answers(root)
    for check in (True, False):
        assert repository(site[0], fingerprint).have(check, run, str(root)) == []
    assert run.calls == []  # type: ignore[attr-defined]


def test_lists_that_were_never_read_are_read_on_the_next_run(
    site: tuple[str, Path], keys: dict[str, tuple[str, bytes]], root: Path
) -> None:
    fingerprint, text = keys["vendor"]
    serve_key(site[1], fingerprint, text)
    repository(site[0], fingerprint).have(False, answers(root), str(root))
    shutil.rmtree(root / "var/lib/apt/lists")
    run = answers(root)
    assert repository(site[0], fingerprint).have(False, run, str(root)) == []
    assert len(run.calls) == 1  # type: ignore[attr-defined]


def test_check_mode_names_the_files_and_writes_none(keys: dict[str, tuple[str, bytes]], root: Path) -> None:
    before = tree(root)
    changed = repository("http://127.0.0.1:9", keys["vendor"][0]).have(True, answers(root), str(root))
    assert len(changed) == 2
    assert tree(root) == before


def test_key_with_another_fingerprint_is_named_and_not_trusted(
    site: tuple[str, Path], keys: dict[str, tuple[str, bytes]], root: Path
) -> None:
    wanted, found = keys["vendor"][0], keys["other"]
    serve_key(site[1], wanted, found[1])
    before = tree(root)
    with pytest.raises(vendor.Refused) as refused:
        repository(site[0], wanted).have(False, answers(root), str(root))
    assert wanted in str(refused.value)
    assert found[0] in str(refused.value)
    assert tree(root) == before


def test_second_key_beside_the_right_one_is_not_trusted_either(
    gpg: Gpg, site: tuple[str, Path], keys: dict[str, tuple[str, bytes]], root: Path
) -> None:
    wanted = keys["vendor"][0]
    serve_key(site[1], wanted, gpg.run("--export", wanted) + gpg.run("--export", keys["other"][0]))
    with pytest.raises(vendor.Refused, match="Nothing from it is"):
        repository(site[0], wanted).have(False, answers(root), str(root))


@pytest.mark.parametrize("fingerprint", ["", "3BF863CC", "EB693B3035CD5710E231E123A4B469963BF863C", "unknown"])
def test_short_or_missing_fingerprint_trusts_nothing(site: tuple[str, Path], root: Path, fingerprint: str) -> None:
    with pytest.raises(vendor.Refused, match="full fingerprint"):
        repository(site[0], fingerprint).have(False, answers(root), str(root))


def test_fingerprint_may_be_written_in_groups() -> None:
    assert repository("http://x", "eb69 3b30 35cd 5710 e231  e123 a4b4 6996 3bf8 63cc").problems() == []


def test_repository_that_does_not_answer_leaves_the_node_as_it_was(
    site: tuple[str, Path], keys: dict[str, tuple[str, bytes]], root: Path
) -> None:
    fingerprint, text = keys["vendor"]
    serve_key(site[1], fingerprint, text)
    before = tree(root)
    with pytest.raises(vendor.Refused, match=r"does not answer as it should: E: Failed to fetch"):
        repository(site[0], fingerprint).have(False, answers(root, 100, "E: Failed to fetch x"), str(root))
    assert tree(root) == before


def test_key_that_cannot_be_fetched_is_named_with_its_addresses(
    site: tuple[str, Path], keys: dict[str, tuple[str, bytes]], root: Path
) -> None:
    with pytest.raises(vendor.Refused, match=r"signing key cannot be read.*\.pub: File not found"):
        repository(site[0], keys["vendor"][0]).have(False, answers(root), str(root))


def test_key_is_found_under_the_vendors_name_for_it(
    site: tuple[str, Path], keys: dict[str, tuple[str, bytes]], root: Path
) -> None:
    (site[1] / "debian13/x86_64/3bf863cc.pub").write_bytes(keys["vendor"][1])
    assert len(repository(site[0], keys["vendor"][0]).have(False, answers(root), str(root))) == 2


def test_foreign_source_of_the_same_repository_is_named(keys: dict[str, tuple[str, bytes]], root: Path) -> None:
    other = root / "etc/apt/sources.list.d/cuda-debian13-x86_64.list"
    other.write_text("deb [signed-by=/usr/share/keyrings/cuda.gpg] http://x/debian13/x86_64/ /\n")
    with pytest.raises(vendor.Refused, match=r"cuda-debian13-x86_64\.list names"):
        repository("http://x", keys["vendor"][0]).have(False, answers(root), str(root))
    other.write_text("# deb http://x/debian13/x86_64/ /\ndeb http://x/debian13/x86_64/more/ /\n")
    assert repository("http://x", keys["vendor"][0]).others(str(root)) == []


def test_lists_are_read_anew_where_packages_are_about_to_be_taken(
    site: tuple[str, Path], keys: dict[str, tuple[str, bytes]], root: Path
) -> None:
    serve_key(site[1], keys["vendor"][0], keys["vendor"][1])
    made, apt = repository(site[0], keys["vendor"][0]), answers(root)
    made.have(False, apt, str(root))
    first = len(apt.calls)  # type: ignore[attr-defined]
    made.have(False, apt, str(root))
    assert len(apt.calls) == first  # type: ignore[attr-defined]
    made.have(False, apt, str(root), fresh=True)
    assert len(apt.calls) == first + 1  # type: ignore[attr-defined]


def test_the_node_itself_is_the_root_whatever_folder_a_module_runs_in(
    keys: dict[str, tuple[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = repository("http://x", keys["vendor"][0])
    (tmp_path / "etc/apt").mkdir(parents=True)
    (tmp_path / "etc/apt/sources.list").write_text(f"deb {made.url} ./\n")
    (tmp_path / "var/lib/apt/lists").mkdir(parents=True)
    (tmp_path / "var/lib/apt/lists/x_debian13_x86%5f64_Packages").touch()
    monkeypatch.chdir(tmp_path)
    assert made.others("") == []
    assert made.lists("") == []


def test_packages_that_must_not_come_from_it_get_a_negative_priority(
    site: tuple[str, Path], keys: dict[str, tuple[str, bytes]], root: Path
) -> None:
    fingerprint, text = keys["vendor"]
    serve_key(site[1], fingerprint, text)
    repository(site[0], fingerprint, exclude=["mft*", "kernel-mft*"]).have(False, answers(root), str(root))
    pins = (root / "etc/apt/preferences.d/aifactory-nvidia-exclude").read_text()
    assert "Package: mft* kernel-mft*\nPin: origin 127.0.0.1\nPin-Priority: -1\n" in pins


@pytest.mark.parametrize(
    ("text", "machine", "folder", "family", "arch"),
    [
        (DEBIAN_13, "x86_64", "debian13", "apt", "x86_64"),
        ('ID=debian\nVERSION_ID="12"\n', "aarch64", "debian12", "apt", "sbsa"),
        ('ID=ubuntu\nVERSION_ID="22.04"\n', "x86_64", "ubuntu2204", "apt", "x86_64"),
        ('ID=ubuntu\nVERSION_ID="24.04"\n', "aarch64", "ubuntu2404", "apt", "sbsa"),
        ('ID="rocky"\nVERSION_ID="9.6"\n', "x86_64", "rhel9", "dnf", "x86_64"),
        ('ID="rhel"\nVERSION_ID="10.1"\n', "aarch64", "rhel10", "dnf", "sbsa"),
        ('ID="amzn"\nVERSION_ID="2023"\n', "x86_64", "amzn2023", "dnf", "x86_64"),
    ],
)
def test_distribution_has_the_folder_that_vendors_use(
    text: str, machine: str, folder: str, family: str, arch: str
) -> None:
    distro = vendor.Distribution(text, machine)
    assert (distro.folder, distro.family, distro.arch) == (folder, family, arch)


@pytest.mark.parametrize(
    ("text", "machine"),
    [('ID=ubuntu\nVERSION_ID="20.04"\n', "x86_64"), ('ID=sles\nVERSION_ID="15.6"\n', "x86_64"), (DEBIAN_13, "ppc64le")],
)
def test_distribution_that_is_not_supported_is_named_with_those_that_are(text: str, machine: str) -> None:
    with pytest.raises(vendor.Refused, match="Debian 12 or 13, Ubuntu"):
        vendor.Distribution(text, machine)


def test_dnf_repository_has_gpgcheck_and_its_own_key(keys: dict[str, tuple[str, bytes]]) -> None:
    distro = vendor.Distribution('ID="rocky"\nVERSION_ID="10.1"\n', "aarch64")
    fingerprint, text = keys["vendor"]
    made = vendor.Repository(distro, "nvidia", "https://x/repos/", fingerprint, exclude=["mft*"])
    files = made.files(vendor.dearmored(text))
    assert files["/etc/yum.repos.d/aifactory-nvidia.repo"].decode() == (
        "# aifactory: written by the playbooks; changes are undone.\n[aifactory-nvidia]\nname=aifactory nvidia\n"
        "baseurl=https://x/repos/rhel10/sbsa/\nenabled=1\ngpgcheck=1\n"
        "gpgkey=file:///etc/pki/rpm-gpg/aifactory-nvidia.asc\nexcludepkgs=mft*\n"
    )
    assert files["/etc/pki/rpm-gpg/aifactory-nvidia.asc"].startswith(b"-----BEGIN PGP PUBLIC KEY BLOCK-----")


def test_suites_components_and_key_of_a_vendor_with_another_layout() -> None:
    distro = vendor.Distribution('ID=ubuntu\nVERSION_ID="24.04"\nVERSION_CODENAME=noble\n', "x86_64")
    made = vendor.Repository(
        distro, "rocm", "https://x/rocm", "A" * 40, path="apt/7.0", suites="{codename}", components=["main"],
        key_file="/rocm.gpg.key",
    )  # fmt: skip
    assert made.key_urls() == ["https://x/rocm/rocm.gpg.key"]
    assert "URIs: https://x/rocm/apt/7.0/\nSuites: noble\nComponents: main\n" in made.source_text()


# By distribution: folders, keys, what the vendor's packages take the place of

ROCKY_9 = 'PRETTY_NAME="Rocky Linux 9.8"\nID="rocky"\nVERSION_ID="9.8"\n'
SHADOWED = ["rdma-core*", "libibverbs*", "perftest"]
DISTRIBUTION = """\
# rocky.repo
[baseos]
name=Rocky Linux $releasever - BaseOS
mirrorlist=https://mirrors.example.org/?repo=BaseOS-$releasever
enabled=1

[appstream]
name=Rocky Linux $releasever - AppStream
excludepkgs=kernel-rt*, perftest
  old-*
gpgcheck=1

[baseos-source]
name=Rocky Linux $releasever - BaseOS - Source
enabled=0
"""
KEPT_OUT = """\
# rocky.repo
[baseos]
excludepkgs=rdma-core* libibverbs* perftest
name=Rocky Linux $releasever - BaseOS
mirrorlist=https://mirrors.example.org/?repo=BaseOS-$releasever
enabled=1

[appstream]
name=Rocky Linux $releasever - AppStream
excludepkgs=kernel-rt* perftest old-* rdma-core* libibverbs*
gpgcheck=1

[baseos-source]
name=Rocky Linux $releasever - BaseOS - Source
enabled=0
"""


def params(url: str, fingerprint: str, **more: Any) -> dict[str, Any]:
    return {
        "name": "doca", "url": url, "path": "{distro}/{arch}", "fingerprint": fingerprint, "fingerprints": {},
        "key_file": "", "key_files": {}, "folders": {}, "suites": "/", "components": [], "exclude": [], "replaces": [],
        "setting": "software.repositories.doca", **more,
    }  # fmt: skip


@pytest.fixture
def rocky(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A RHEL family node with its distribution's repositories."""
    (root / "etc/os-release").write_text(ROCKY_9)
    (root / "etc/yum.repos.d").mkdir(parents=True)
    (root / "etc/yum.repos.d/rocky.repo").write_text(DISTRIBUTION)
    monkeypatch.setattr(vendor.os, "uname", lambda: type("U", (), {"machine": "x86_64"}))
    return root


def test_rhel_takes_the_rdma_stack_from_doca_alone_and_keeps_every_other_line(
    site: tuple[str, Path], keys: dict[str, tuple[str, bytes]], rocky: Path
) -> None:
    fingerprint, text = keys["vendor"]
    (site[1] / "keys").mkdir()
    (site[1] / "keys/rpm.asc").write_bytes(text)
    wanted = params(
        site[0], "A" * 40, fingerprints={"rhel9": fingerprint}, key_file="/keys/deb.gpg",
        key_files={"rhel9": "/keys/rpm.asc"}, folders={"rhel9/x86_64": "lts/rhel9/x86_64"}, replaces=SHADOWED,
    )  # fmt: skip
    run = answers(rocky)
    (rocky / "etc/yum.repos.d/rocky.repo").chmod(0o640)
    repository, changed = module.converge(wanted, False, run, f"{rocky}/")
    assert repository.url == f"{site[0]}/lts/rhel9/x86_64/"
    assert changed == [
        "/etc/pki/rpm-gpg/aifactory-doca.asc", "/etc/yum.repos.d/aifactory-doca.repo", "/etc/yum.repos.d/rocky.repo",
    ]  # fmt: skip
    assert (rocky / "etc/yum.repos.d/rocky.repo").read_text() == KEPT_OUT
    assert (rocky / "etc/yum.repos.d/rocky.repo").stat().st_mode & 0o777 == 0o640
    assert "exclude" not in (rocky / "etc/yum.repos.d/aifactory-doca.repo").read_text()
    assert [command[-3:] for command in run.calls] == [  # type: ignore[attr-defined]
        ["--disablerepo=*", "--enablerepo=aifactory-doca", "makecache"]
    ]
    assert module.converge(wanted, False, answers(rocky), f"{rocky}/")[1] == []


def test_rhel_preview_and_a_repository_that_does_not_answer_leave_the_distribution_alone(
    site: tuple[str, Path], keys: dict[str, tuple[str, bytes]], rocky: Path
) -> None:
    fingerprint, text = keys["vendor"]
    (site[1] / "rhel9/x86_64").mkdir(parents=True)
    (site[1] / "rhel9/x86_64" / f"{fingerprint[-8:].lower()}.pub").write_bytes(text)
    wanted = params(site[0], fingerprint, replaces=SHADOWED)
    assert "/etc/yum.repos.d/rocky.repo" in module.converge(wanted, True, answers(rocky), f"{rocky}/")[1]
    with pytest.raises(vendor.Refused, match="does not answer as it should"):
        module.converge(wanted, False, answers(rocky, 1, "Error: 404"), f"{rocky}/")
    assert (rocky / "etc/yum.repos.d/rocky.repo").read_text() == DISTRIBUTION


def test_debian_has_no_use_for_what_only_dnf_is_told(
    site: tuple[str, Path], keys: dict[str, tuple[str, bytes]], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vendor.os, "uname", lambda: type("U", (), {"machine": "x86_64"}))
    (root / "etc/os-release").write_text(DEBIAN_13)
    (root / "etc/yum.repos.d").mkdir()
    (root / "etc/yum.repos.d/rocky.repo").write_text(DISTRIBUTION)
    fingerprint, text = keys["vendor"]
    serve_key(site[1], fingerprint, text)
    changed = module.converge(params(site[0], fingerprint, replaces=SHADOWED), False, answers(root), f"{root}/")[1]
    assert all("/etc/apt/" in path for path in changed)
    assert (root / "etc/yum.repos.d/rocky.repo").read_text() == DISTRIBUTION


def test_distribution_that_the_repository_is_not_known_to_have_is_refused_with_those_that_are(rocky: Path) -> None:
    folders = {"ubuntu2404/x86_64": "ubuntu24.04/x86_64", "rhel9/sbsa": "rhel9/arm64-sbsa"}
    with pytest.raises(vendor.Refused) as refused:
        module.converge(params("http://x", "A" * 40, folders=folders), False, answers(rocky), f"{rocky}/")
    assert "rhel9/x86_64 is not known, known are rhel9/sbsa, ubuntu2404/x86_64" in str(refused.value)
    assert not (rocky / "etc/yum.repos.d/aifactory-doca.repo").exists()


def test_key_that_nobody_has_said_is_refused_with_the_file_the_command_and_the_place_in_the_region_file(
    rocky: Path,
) -> None:
    wanted = params("https://x/doca", "A" * 40, fingerprints={"rhel9": ""}, key_file="/public_keys/rpm.asc")
    with pytest.raises(vendor.Refused) as refused:
        module.converge(wanted, False, answers(rocky), f"{rocky}/")
    for words in (
        "for rhel9 is not known", "Download https://x/doca/public_keys/rpm.asc", "gpg --show-keys",
        "compare them with what the vendor publishes elsewhere", "software.repositories.doca.fingerprint",
    ):  # fmt: skip
        assert words in str(refused.value)
    assert not (rocky / "etc/yum.repos.d/aifactory-doca.repo").exists()


def test_command_that_hangs_is_ended_and_named() -> None:
    assert vendor.run(["sleep", "30"], 0.2) == (124, "", "sleep did not end within 0.2 s")
    assert vendor.run(["no-such-program"], 1)[0] == 127


def test_full_disk_is_told_with_what_to_do() -> None:
    words = vendor.last_words("", "dpkg: error processing archive x (--unpack):\n write: No space left on device\n")
    assert words.startswith("dpkg: error processing archive x")
    assert "the next run completes what is left" in words
