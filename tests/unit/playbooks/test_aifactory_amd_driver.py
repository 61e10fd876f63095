"""AMD's driver: what is refused, from where, in which version.

Real: the module's decisions on recorded forms of outputs and version numbers. Not real: no command is run.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from types import ModuleType
from typing import Any

import pytest
from aifactory import paths

KEY = "CA8BB4727A47B4D09B4EE8969386B48A1A693C5C"


def load(name: str, folder: str) -> ModuleType:
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
load("ansible.module_utils.aifactory_restart", "module_utils")
amd: Any = load("aifactory_amd_driver", "library")


def distro(name: str, machine: str = "x86_64") -> Any:
    known = {
        "noble": ("ubuntu", "24.04", "noble"), "jammy": ("ubuntu", "22.04", "jammy"),
        "trixie": ("debian", "13", "trixie"),
        "rocky9": ("rocky", "9.6", ""), "rocky10": ("rocky", "10.0", ""), "amzn": ("amzn", "2023", ""),
    }  # fmt: skip
    identity, version, codename = known[name]
    text = f'PRETTY_NAME="{name}"\nID={identity}\nVERSION_ID="{version}"\nVERSION_CODENAME={codename}\n'
    return vendor.Distribution(text, machine)


@pytest.mark.parametrize(
    ("version", "branch", "expected"),
    [
        ("7.0.1", "", "30.10.1"),
        ("7.2", "", "30.30"),
        ("7.2.0", "", "30.30"),
        ("6.4.4", "", "6.4.4"),
        ("7.9.9", "", None),
        ("7.9.9", "31.50", "31.50"),
    ],
)
def test_drivers_repository_for_a_version_of_rocm(version: str, branch: str, expected: str | None) -> None:
    assert amd.driver_repository(version, branch) == expected


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("noble", ["amdgpu/30.10.1/ubuntu/ noble main", "rocm/apt/7.0.1/ noble main"]),
        ("trixie", ["amdgpu/30.10.1/ubuntu/ noble main", "rocm/apt/7.0.1/ noble main"]),
        ("jammy", ["amdgpu/30.10.1/ubuntu/ jammy main", "rocm/apt/7.0.1/ jammy main"]),
        ("rocky9", ["amdgpu/30.10.1/el/9.6/main/x86_64/", "rocm/el9/7.0.1/main/"]),
        ("rocky10", ["amdgpu/30.10.1/el/10/main/x86_64/", "rocm/el10/7.0.1/main/"]),
    ],
)
def test_repositories_of_each_distribution(where: str, expected: list[str]) -> None:
    found = amd.repositories(
        distro(where), {"version": "7.0.1"}, {"url": "https://repo.radeon.com", "fingerprint": KEY}
    )
    apt = found[0].distro.family == "apt"
    told = [f"{one.url} {one.suites} {' '.join(one.components)}" if apt else one.url for one in found]
    assert told == [f"https://repo.radeon.com/{one}" for one in expected]
    assert {key for one in found for key in one.key_urls()} == {"https://repo.radeon.com/rocm/rocm.gpg.key"}
    assert [one.problems() for one in found] == [[], []]


def test_mirror_that_names_its_layout_is_one_repository() -> None:
    given = {"url": "http://mirror/amd/{distro}/{arch}", "fingerprint": KEY}
    (found,) = amd.repositories(distro("trixie"), {"version": "7.0.3"}, given)
    assert found.url == "http://mirror/amd/debian13/x86_64/"
    assert found.key_urls() == ["http://mirror/amd/debian13/x86_64/rocm.gpg.key"]


@pytest.mark.parametrize(
    ("where", "driver", "secure_boot", "words"),
    [
        ("noble", {"version": "7.0.1"}, "disabled", []),
        ("noble", {"version": "7.9"}, "disabled", ["nobody here knows which driver repository goes with ROCm 7.9"]),
        ("noble", {"version": ""}, "disabled", ["name ROCm's version"]),
        ("amzn", {"version": "7.0.1"}, "disabled", ["AMD has no packages for amzn"]),
        ("noble", {"version": "7.0.1"}, "enabled", ["SECURE-BOOT"]),
        ("amzn", {"version": "x"}, "enabled", ["AMD-VERSION", "AMD-DISTRIBUTION", "SECURE-BOOT"]),
    ],
)
def test_everything_that_speaks_against_it_comes_at_once(
    where: str, driver: dict[str, str], secure_boot: str, words: list[str]
) -> None:
    found = amd.refusals(distro(where), driver, "https://repo.radeon.com", secure_boot, False)
    assert len(found) == len(words)
    assert all(word in text for word, text in zip(words, found, strict=True))


def test_enrolled_key_lets_secure_boot_pass_and_arm_is_refused() -> None:
    assert amd.refusals(distro("noble"), {"version": "7.0.1"}, "https://r", "enabled", True) == []
    (found,) = amd.refusals(distro("noble", "aarch64"), {"version": "7.0.1"}, "https://r", "disabled", False)
    assert "aarch64" in found


@pytest.mark.parametrize(
    ("text", "version", "expected"),
    [
        ("26.0.2.70003-42~24.04", "7.0.3", True),
        ("26.0.2.070003-42~24.04", "7.0.3", True),
        ("2.26.6.70201-81~24.04", "7.2.1", True),
        ("1.0.0.70200-43~24.04", "7.2", True),
        ("1.0.0.70204-93~24.04", "7.2", False),
        ("", "7.2", False),
    ],
)
def test_version_of_rocm_inside_that_of_a_package(text: str, version: str, expected: bool) -> None:
    assert amd.is_of(text, version) is expected


OFFERED = {
    "amdgpu-dkms": ["1:6.14.14.30100100-2193512.24.04"],
    "amd-smi-lib": ["26.2.0.70200-43~24.04", "26.0.2.70001-42~24.04"],
    "rocminfo": ["1.0.0.70001-42~24.04"],
    "rccl": ["2.26.6.70001-42~24.04"],
}


def test_picked_versions_are_of_the_one_rocm_and_the_driver_is_the_repositorys() -> None:
    found = amd.picks(amd.PACKAGES, "7.0.1", {}, OFFERED)
    assert found["amd-smi-lib"] == "26.0.2.70001-42~24.04"
    assert found["amdgpu-dkms"] == "1:6.14.14.30100100-2193512.24.04"
    assert amd.picks(amd.PACKAGES, "7.0.1", dict(found), OFFERED) == {}


def test_missing_packages_are_named_together_with_what_there_is() -> None:
    with pytest.raises(vendor.Refused) as caught:
        amd.picks(amd.PACKAGES, "7.0.9", {}, {**OFFERED, "rccl": []})
    for words in ("amd-smi-lib (has 26.2.0.70200-43~24.04, 26.0.2.70001-42~24.04)", "rccl (has none)", "ROCm 7.0.9"):
        assert words in str(caught.value)


def test_headers_of_each_distribution() -> None:
    assert amd.headers(distro("trixie"), "6.12.1-amd64") == ["linux-headers-amd64"]
    assert amd.headers(distro("noble"), "6.8.0-85") == ["linux-headers-6.8.0-85", "linux-modules-extra-6.8.0-85"]
    assert amd.headers(distro("rocky9"), "5.14.0") == ["kernel-devel-5.14.0", "kernel-headers-5.14.0"]


@pytest.mark.parametrize(
    ("text", "fine"),
    [
        ("amdgpu/6.14.14-2193512.24.04, 6.8.0-85-generic, x86_64: installed\n", True),
        ("amdgpu/6.14.14, 6.8.0-85-generic, x86_64: installed (Original modules exist)\n", True),
        ("amdgpu/6.14.14, 6.8.0-84-generic, x86_64: installed\n", False),
        ("amdgpu/6.14.14, 6.8.0-85-generic, x86_64: added\n", False),
        ("", False),
    ],
)
def test_module_must_be_built_for_the_kernel_that_boots(text: str, fine: bool) -> None:
    problem = amd.dkms_problem(text, "6.8.0-85-generic")
    assert (problem == "") is fine
    assert fine or "6.8.0-85-generic" in problem


@pytest.mark.parametrize("form", ["list", "object"])
def test_gpus_are_read_from_both_forms_of_the_json(form: str) -> None:
    rows = [{"gpu": 0, "bdf": "0000:05:00.0"}, {"gpu": 1, "bdf": "0000:26:00.0"}]
    text = "WARNING: something\n" + json.dumps(rows if form == "list" else {"gpu_data": rows})
    assert amd.parse_listed(text) == ["0000:05:00.0", "0000:26:00.0"]


def test_files_pin_and_hold_the_same_packages() -> None:
    pins = amd.preferences_text(amd.PACKAGES, ["repo.radeon.com"])
    assert "Pin: origin repo.radeon.com" in pins
    assert "amdgpu-dkms amd-smi-lib rocminfo rccl" in pins
    held = amd.unattended_text(["amdgpu-dkms", "linux-headers-amd64"])
    assert '"^amdgpu\\-dkms$";' in held
