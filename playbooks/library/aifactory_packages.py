#!/usr/bin/python
"""Has distribution packages installed, by apt or dnf: one module run, no lists needed to look or to preview."""

from __future__ import annotations

DOCUMENTATION = r"""
module: aifactory_packages
short_description: Have packages of the distribution installed
description:
  - Looks with dpkg or rpm, so that a host that has everything needs no package lists and no network, and check mode
    works on an image whose lists are empty.
  - Tries to install with the lists that are there, refreshes them when that fails, tries again.
  - Never upgrades, never removes, takes no recommended packages, keeps edited configuration files.
  - Waits up to two minutes for another package run to end.
options:
  names:
    description: Packages.
    type: list
    elements: str
    required: true
author: aifactory
"""

EXAMPLES = r"""
- name: Install packages
  aifactory_packages:
    names: [podman, crun]
"""

RETURN = r"""
missing:
  description: Packages that were not installed before.
  type: list
  elements: str
  returned: always
"""

import glob
import shutil

from ansible.module_utils.basic import AnsibleModule

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
ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8", "NEEDRESTART_SUSPEND": "1"}


def main():
    module = AnsibleModule(
        argument_spec={"names": {"type": "list", "elements": "str", "required": True}}, supports_check_mode=True
    )
    module.run_command_environ_update = ENVIRONMENT
    has_apt = shutil.which("apt-get") is not None
    absent = missing_debs(module) if has_apt else missing_rpms(module)
    if absent and not module.check_mode:
        (install_debs if has_apt else install_rpms)(module, absent)
    after = {"before": "", "after": "".join(f"+ {name}\n" for name in absent)}
    module.exit_json(changed=bool(absent), missing=absent, diff=after if absent else {})


def missing_debs(module):
    command = ["dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n", *module.params["names"]]
    _code, out, _err = module.run_command(command)
    installed = {line.split()[0] for line in out.splitlines() if line.endswith(" installed")}
    return [name for name in module.params["names"] if name not in installed]


def missing_rpms(module):
    return [name for name in module.params["names"] if module.run_command(["rpm", "--query", "--quiet", name])[0]]


def install_debs(module, names):
    command = [*APT, *in_memory(module), "install", *names]
    if glob.glob("/var/lib/apt/lists/*Packages*") and module.run_command(command)[0] == 0:
        return
    run(module, [*APT, "update"], "refresh the package lists")
    run(module, command, "install " + " ".join(names))


def install_rpms(module, names):
    run(module, [*DNF, "install", *names], "install " + " ".join(names))


def in_memory(module):
    """A container's disk outlives no power cut anyway: there dpkg need not wait for it (twice as fast)."""
    code, _out, _err = module.run_command(["systemd-detect-virt", "--container", "--quiet"])
    return ["-o", "Dpkg::Options::=--force-unsafe-io"] if code == 0 else []


def run(module, command, purpose):
    code, out, err = module.run_command(command)
    if code:
        text = [line.strip() for line in (err + "\n" + out).splitlines() if line.strip()]
        told = [line for line in text if line.startswith(("E:", "Error:"))] or text[-3:]
        module.fail_json(msg=f"{command[0]} could not {purpose}: {' | '.join(told[:3])}")


if __name__ == "__main__":
    main()
