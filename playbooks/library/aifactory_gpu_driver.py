#!/usr/bin/python
"""Has exactly one version of NVIDIA's driver on the node, loaded or waiting for a restart."""

from __future__ import annotations

DOCUMENTATION = r"""
module: aifactory_gpu_driver
short_description: Have one version of NVIDIA's driver installed, pinned, held and loaded
description:
  - Refuses before anything changes, with everything at once, what the GPUs cannot be driven with.
  - Trusts the vendor's repository by fingerprint, installs the pinning package first, then exactly the version asked
    for, up or down; holds it and the kernel, and keeps unattended upgrades off both.
  - Looks at the node, never at what an earlier task did, so an interrupted run is completed by the next one. Asks the
    solver and downloads everything before the first package changes. Needs no network where everything is in place.
  - Loads the module where none is loaded. Never unloads one and never restarts the node; O(ignore:reboot) says why the
    node needs it, and /etc/aifactory/reboot.d/gpu.json lets the play V(reboot) find that out again.
options:
  driver:
    description: Keys V(branch), V(version) (full, or empty for the newest of the branch at the first run),
      V(end_of_life), V(modules) (V(open) or V(proprietary)).
    type: dict
    required: true
  platform:
    description: Row of the GPU. Used are V(name), V(first_driver), V(open_modules), V(open_modules_required),
      V(needs_nvlsm) and V(modprobe).
    type: dict
    required: true
  repository:
    description: Keys V(url), V(fingerprint), V(fingerprints) (distribution → its own).
    type: dict
    required: true
  secure_boot:
    description: What the firmware says.
    type: str
    choices: [enabled, disabled, unknown]
    default: unknown
  imex_channel0:
    description: Whether the driver makes IMEX channel 0 when it is loaded.
    type: bool
    default: false
author: aifactory
"""

EXAMPLES = r"""
- name: Have the driver
  aifactory_gpu_driver:
    driver: {branch: "580", version: 580.178.04, end_of_life: "2028-06-30", modules: open}
    platform: "{{ gpu.platform }}"
    repository: "{{ gpu.repository }}"
    secure_boot: disabled
"""

RETURN = r"""
version:
  description: Full version that is (or in check mode would be) installed; empty in check mode when only the repository
    knows it.
  type: str
  returned: always
loaded:
  description: Version of the module that is loaded; empty without one.
  type: str
  returned: always
pins:
  description: Packages that must have the driver's version, as V(fabricmanager), V(imex), V(nscq), V(nvsdm) → V(name)
    and V(spec), which names the version too.
  type: dict
  returned: always
reboot:
  description: Why the node must be restarted; empty when it need not be.
  type: list
  elements: str
  returned: always
warnings_of_driver:
  description: What is allowed but should not stay.
  type: list
  elements: str
  returned: always
actions:
  description: What was (or in check mode would be) done, in order.
  type: list
  elements: str
  returned: always
"""

import datetime
import glob
import json
import os
import re
import shutil

from ansible.module_utils import aifactory_driver as wanted
from ansible.module_utils import aifactory_restart as restart
from ansible.module_utils import aifactory_vendor as vendor
from ansible.module_utils.aifactory_vendor import Refused, last_words
from ansible.module_utils.basic import AnsibleModule

INSTALL_TIMEOUT_S = 3600  # modules are compiled in it
QUERY_TIMEOUT_S = 120
MODPROBE_TIMEOUT_S = 180
MODPROBE_FILE = "/etc/modprobe.d/90-aifactory-nvidia.conf"
PREFERENCES_FILE = "/etc/apt/preferences.d/00-aifactory-nvidia"
UNATTENDED_FILE = "/etc/apt/apt.conf.d/52aifactory-nvidia"
REBOOT_FILE = restart.FOLDER + "/gpu.json"
STREAM_FILE = "/etc/dnf/modules.d/nvidia-driver.module"
LOCK_FILE = "/etc/dnf/plugins/versionlock.list"
MOK_KEYS = ("/var/lib/dkms/mok.pub", "/var/lib/shim-signed/mok/MOK.der")
"""Where Debian's and Ubuntu's DKMS keep the key that they sign modules with."""
ABSENT = ("", False)


class Node:
    """The node as it is, and what is to be done to it. `actions` says what was (or in check mode would be) done."""

    def __init__(self, params, check, run=vendor.run, root=""):
        self.driver, self.platform, self.params = params["driver"], params["platform"], params
        self.check, self.run, self.root = check, run, root
        self.distro = vendor.distribution(root or "/")
        self.kernel = restart.running_kernel(run)
        self.boot = restart.boot_kernel(run, root) or self.kernel
        given = params["repository"]
        fingerprint = (given.get("fingerprints") or {}).get(self.distro.folder, given.get("fingerprint", ""))
        self.repository = vendor.Repository(
            self.distro, "nvidia", given.get("url", ""), fingerprint, exclude=["mft*", "kernel-mft*"]
        )
        self.modprobe = dict(self.platform.get("modprobe") or {})
        if params["imex_channel0"]:
            self.modprobe["options nvidia NVreg_CreateImexChannel0=1"] = "one tenant has the whole rack"
        self.version = self.driver.get("version", "")
        self.actions, self.before, self.after = [], [], []
        self.plan = {}

    def converge(self):
        """Has the driver as it should be. Raises Refused; with everything that speaks against it before any change."""
        problems = wanted.refusals(self.driver, self.platform) + self.repository.problems()
        if self.params["secure_boot"] == "enabled" and not self._key_is_enrolled():
            problems.append(wanted.SECURE_BOOT)
        if problems:
            raise Refused("; ".join(problems) + ". Nothing was changed")
        self.plan = wanted.plan(self.distro, self.boot, self.driver, self.platform)
        if self.distro.family == "apt":
            self._apt_converge()
        else:
            self._dnf_converge()
        self._file(REBOOT_FILE, json.dumps(wanted.checks(self.modprobe), indent=2) + "\n")
        self._build()
        self._initramfs()
        self._load()

    def reboot(self):
        return restart.reasons(wanted.checks(self.modprobe), self.run, self.root)

    def _key_is_enrolled(self):
        keys = [self.root + key for key in MOK_KEYS if os.path.exists(self.root + key)]
        return any("is already enrolled" in "".join(self.run(["mokutil", "--test-key", key], 20)[1:]) for key in keys)

    def _file(self, path, text):
        old = (vendor.read(self.root + path) or b"").decode(errors="replace")
        if old == text:
            return
        self.actions.append(f"write {path}")
        self.before.append(old)
        self.after.append(f"# {path}\n{text}")
        if not self.check:
            vendor.write(self.root + path, text.encode())

    def _files(self):
        """Before the packages, so that what they build has them in it."""
        self._file(MODPROBE_FILE, wanted.modprobe_text(self.modprobe))
        if self.distro.family == "apt":
            self._file(UNATTENDED_FILE, wanted.unattended_text(self.plan["unattended_upgrades"]))
            self._file(PREFERENCES_FILE, wanted.preferences_text(self.plan["branch"], self.version))

    def _trust(self):
        if files := self.repository.have(self.check, self.run, self.root, fresh=True):
            self.actions.append(f"trust {self.repository.url} ({', '.join(files)})")

    def _tell(self, have, names):
        """Versions before and after, for the diff."""
        for name in names:
            if have.get(name) != (self.version or None):
                self.actions.append(f"install {name} {self.version or self.plan['branch']}")
                self.before.append(f"{name} {have[name]}\n" if name in have else "")
                self.after.append(f"{name} {self.version or self.plan['branch']}\n")

    # Debian, Ubuntu

    def _debs(self):
        form = "${Package}\t${Version}\t${db:Status-Status}\t${db:Status-Eflag}\n"
        code, out, err = self.run(["dpkg-query", "--show", "--showformat", form], QUERY_TIMEOUT_S)
        if code:
            raise Refused(f"dpkg cannot be asked: {last_words(out, err)}")
        return wanted.parse_debs(out)

    def _apt_converge(self):
        packages = self._mended(self._debs())
        if not self.version:
            have = wanted.upstream(packages.get(self.plan["packages"][0], ABSENT)[0])
            self.version = have if have.partition(".")[0] == self.plan["branch"] else ""
        if lacks := self._apt_lacks(packages):
            self._trust()
            (self._apt_preview if self.check else self._apt_install)(packages, lacks)
            packages = self._debs()
        else:
            self._files()
        self._hold(packages)

    def _apt_lacks(self, packages):
        """Packages that are missing, half there, of another version, or that pin another one."""
        whole = [name for name in packages if packages[name][1]]
        lacks = {name for name in [*self.plan["packages"], *self.plan["headers"]] if name not in whole}
        lacks |= {
            name for name, version in wanted.family(packages, self.plan["pins"]).items() if version != self.version
        }
        lacks |= set(self._other_pinning(packages))
        if not set(self.plan["pinning"]) & set(whole) and (lacks or self._offers(self.plan["pinning"])):
            lacks.add(self.plan["pinning"][0])
        return sorted(lacks)

    def _offers(self, names):
        """Package → versions in the package lists."""
        code, out, err = self.run(["apt-cache", "madison", *names], QUERY_TIMEOUT_S)
        if code not in (0, 100):  # 100: one of them is not known
            raise Refused(f"apt-cache cannot be asked: {last_words(out, err)}")
        return wanted.parse_madison(out)

    def _other_pinning(self, packages):
        names = [name for name in packages if name.startswith("nvidia-driver-pinning-")]
        return [name for name in names if name not in self.plan["pinning"]]

    def _mended(self, packages):
        """Completes what a killed or failed package run left half done."""
        folder = self.root + "/var/lib/dpkg/updates"
        left = os.path.isdir(folder) and any(name.isdigit() for name in os.listdir(folder))
        if not left and all(whole for _version, whole in packages.values()):
            return packages
        self.actions.append("complete an interrupted package run (dpkg --configure -a)")
        if self.check:
            return packages
        self.run(["dpkg", "--force-confdef", "--force-confold", "--configure", "-a"], INSTALL_TIMEOUT_S)
        if not all(whole for _version, whole in self._debs().values()):  # what still fails is named by the installation
            self.run([*vendor.APT, "--allow-downgrades", "--fix-broken", "install"], INSTALL_TIMEOUT_S)
        return self._debs()

    def _apt_preview(self, packages, lacks):
        have = wanted.family(packages, self.plan["pins"])
        pinning = [name for name in lacks if name.startswith("nvidia-driver-pinning-")]
        self.actions += [f"{'install' if name in self.plan['pinning'] else 'remove'} {name}" for name in pinning]
        self.actions += [f"install {name}" for name in lacks if name in self.plan["headers"]]
        self._tell(have, [name for name in lacks if name in {*self.plan["packages"], *have}])
        self._files()

    def _apt_install(self, packages, lacks):
        have = wanted.family(packages, self.plan["pins"])
        names = sorted({*self.plan["packages"], *have})
        versions, pinning = self._resolved(names)
        self._files()
        drop = [name for name in have if name not in versions] + self._other_pinning(packages)
        steps = wanted.apt_steps(self.plan, [f"{name}={versions[name]}" for name in versions], pinning, drop)
        self._ask(steps["ask"])
        self._apt(steps["download"], "download the driver")
        if self._other_pinning(packages) or (pinning and not packages.get(pinning, ABSENT)[1]):
            self._apt(steps["pin"], f"change the pinning package to {pinning or 'none'}")
        self._apt(steps["install"], "install the driver")
        if left := self._apt_lacks(self._debs()):
            raise Refused(
                f"apt-get has ended well, but {', '.join(left)} is not as wanted ({self.version}): see apt's logs"
            )
        self.actions += [f"install {pinning}"] * bool(pinning and not packages.get(pinning, ABSENT)[1])
        self.actions += [f"install {name}" for name in lacks if name in self.plan["headers"]]
        self.actions += [f"remove {name}" for name in drop]
        self._tell(have, list(versions))

    def _ask(self, step):
        """Has apt find out what it would do; reads the distribution's lists when they lack headers or DKMS."""
        try:
            self._apt(step, "find out how to install the driver")
        except Refused:
            self._apt(["update"], "refresh the package lists")
            self._apt(step, f"find out how to install the driver (for kernel {self.boot}, see `uname -r`)")

    def _resolved(self, names):
        """(package → whole version, pinning package or ""); reads the lists again once when they lack something."""
        for again in (True, False):
            offers = self._offers([*names, *self.plan["pinning"]])
            main = sorted({wanted.upstream(v) for v in offers.get(self.plan["packages"][0], ())}, key=wanted.number)
            newest = [version for version in main if version.partition(".")[0] == self.plan["branch"]]
            version = self.version or (newest[-1] if newest else "")
            fits = {
                name: [v for v in offers.get(name, ()) if version and wanted.upstream(v) == version] for name in names
            }
            missing = [name for name in self.plan["packages"] if not fits[name]]
            pinning = [name for name in self.plan["pinning"] if offers.get(name)]  # a mirror may have none
            if not missing:
                if problems := wanted.refusals({**self.driver, "version": version}, self.platform):
                    raise Refused("; ".join(problems))
                self.version = version
                return {name: found[0] for name, found in fits.items() if found}, "".join(pinning[:1])
            if again:
                self.repository.refresh(self.run)
        asked = ", ".join(f"{name} {version or self.plan['branch']}" for name in missing)
        raise Refused(
            f"repository {self.repository.url} has no {asked}; of {self.plan['packages'][0]} it serves "
            f"{', '.join(filter(None, main)) or 'nothing'}. Nothing was installed: ask for one of these, or have the "
            "mirror brought up to date"
        )

    def _apt(self, arguments, purpose):
        command = [*vendor.APT, "--allow-downgrades", "--allow-change-held-packages"]
        if self.run(["systemd-detect-virt", "--container", "--quiet"], 10)[0] == 0:
            command += ["-o", "Dpkg::Options::=--force-unsafe-io"]  # its disk outlives no power cut anyway
        code, out, err = self.run([*command, *arguments], INSTALL_TIMEOUT_S)
        if code:
            raise Refused(f"apt-get could not {purpose}: {last_words(out, err)}")

    def _hold(self, packages):
        """Holds the driver, its headers and the kernels; in check mode also what would be installed."""
        names = {name for name in packages if wanted.KERNEL.fullmatch(name)} | set(
            wanted.family(packages, self.plan["pins"])
        )
        if self.check:
            names |= {*self.plan["packages"], *self.plan["headers"]}
        held = self.run(["apt-mark", "showhold"], QUERY_TIMEOUT_S)[1].split()
        if missing := sorted(names - set(held)):
            self.actions.append("hold " + " ".join(missing))
            if not self.check:
                code, out, err = self.run(["apt-mark", "hold", *missing], QUERY_TIMEOUT_S)
                if code:
                    raise Refused(f"apt-mark could not hold {' '.join(missing)}: {last_words(out, err)}")

    # RHEL family, Amazon Linux

    def _rpms(self):
        form = "%{NAME} %{VERSION} %{RELEASE}.%{ARCH}\n"
        names = [*self.plan["packages"], *self.plan["headers"]]
        return wanted.parse_rpms(self.run(["rpm", "--query", "--queryformat", form, *names], QUERY_TIMEOUT_S)[1])

    def _dnf_converge(self):
        self._files()
        have = self._rpms()
        if not self.version:
            found = have.get(self.plan["packages"][0], "")
            self.version = found if found.partition(".")[0] == self.plan["branch"] else ""
        driver = [name for name in self.plan["packages"] if not self.version or have.get(name) != self.version]
        locks = [line for line in self._text(LOCK_FILE).splitlines() if not line.lstrip().startswith("#")]
        ours = [line for line in locks if "nvidia" in line or "nvsdm" in line]
        older = bool(self.version) and any(
            wanted.number(have.get(n, "0")) > wanted.number(self.version) for n in driver
        )
        needed = {
            "headers": any(name not in have for name in self.plan["headers"]),
            "reset": self._stream() not in ("", self.plan["stream"]),
            "enable": self._stream() != self.plan["stream"],
            "unlock": any(self.version not in line for line in ours),
            "lock": not ours or any(self.version not in line for line in ours) or not self.version,
            "download": bool(driver),
            "install": bool(driver),
            "hold": not any(re.match(r"(\d+:)?" + self.plan["kernel_lock"] + "-", line) for line in locks),
        }
        steps = {name: step for name, step in wanted.dnf_steps(self.plan, older).items() if needed[name]}
        if not steps:
            return
        self._trust()
        for name, step in steps.items():
            self.actions.append("dnf " + " ".join(step))
            if not self.check:
                code, out, err = self.run([*vendor.DNF, *step], INSTALL_TIMEOUT_S)
                if code:
                    more = " (DKMS is in EPEL: is it enabled?)" if name == "headers" else ""
                    raise Refused(f"dnf {' '.join(step)} failed: {last_words(out, err)}{more}")
        if not self.check:
            now = self._rpms()
            self.version = self.version or now.get(self.plan["packages"][0], "")
            if left := [name for name in self.plan["packages"] if now.get(name) != self.version]:
                raise Refused(
                    f"dnf has ended well, but {', '.join(left)} is not at {self.version}: see /var/log/dnf.log"
                )

    def _stream(self):
        text = self._text(STREAM_FILE)
        stream = re.search(r"^stream *= *(\S+)", text, re.MULTILINE)
        return stream.group(1) if stream and re.search(r"^state *= *enabled", text, re.MULTILINE) else ""

    def _text(self, path):
        return (vendor.read(self.root + path) or b"").decode(errors="replace")

    # kernel

    def _build(self):
        """The modules are there for the kernel that boots next, not only for the one that runs."""
        if self.check or not shutil.which("dkms"):
            return
        if wanted.dkms_state(self.run(["dkms", "status"], QUERY_TIMEOUT_S)[1], self.version, self.boot) == "installed":
            return
        code, out, err = self.run(["dkms", "install", f"nvidia/{self.version}", "-k", self.boot], INSTALL_TIMEOUT_S)
        if code:
            raise Refused(
                f"the driver's modules cannot be built for kernel {self.boot}: {last_words(out, err)}. See "
                f"/var/lib/dkms/nvidia/{self.version}/build/make.log; the headers must be those of that kernel"
            )
        self.actions.append(f"build the modules for kernel {self.boot}")

    def _initramfs(self):
        """The early file system has the options that the file says."""
        name, file = f"{self.root}/boot/", self.root + MODPROBE_FILE
        images = glob.glob(f"{name}initrd.img-{self.boot}") + glob.glob(f"{name}initramfs-{self.boot}.img")
        if not images or not os.path.exists(file) or os.path.getmtime(images[0]) >= os.path.getmtime(file):
            return
        self.actions.append(f"rebuild {images[0]}")
        if not self.check:
            debian = ["update-initramfs", "-u", "-k", self.boot]
            command = debian if self.distro.family == "apt" else ["dracut", "--force", "--kver", self.boot]
            code, out, err = self.run(command, INSTALL_TIMEOUT_S)
            if code:
                raise Refused(f"{command[0]} could not rebuild {images[0]}: {last_words(out, err)}")

    def _load(self):
        """Loads the module where no other is in the way and the kernel that it is built for runs; not in an image."""
        if not os.path.isdir(self.root + "/run/systemd/system"):
            return
        nouveau = os.path.isdir(self.root + "/sys/module/nouveau")
        if restart.module_version("nvidia", self.root) is not None or nouveau or self.boot != self.kernel:
            return
        self.actions.append("modprobe nvidia")
        if self.check:
            return
        code, out, err = self.run(["modprobe", "nvidia"], MODPROBE_TIMEOUT_S)
        if code:
            words = last_words(out, err)
            more = wanted.SECURE_BOOT if "Key was rejected" in words else "see dmesg"
            raise Refused(f"the driver's module cannot be loaded: {words}: {more}")


def main():
    module = AnsibleModule(
        argument_spec={
            "driver": {"type": "dict", "required": True},
            "platform": {"type": "dict", "required": True},
            "repository": {"type": "dict", "required": True},
            "secure_boot": {"type": "str", "choices": ["enabled", "disabled", "unknown"], "default": "unknown"},
            "imex_channel0": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        node = Node(module.params, module.check_mode)
        node.converge()
    except Refused as error:
        module.fail_json(msg=str(error))
    reboot = node.reboot()
    pins = wanted.plan(node.distro, node.boot, {**node.driver, "version": node.version}, node.platform)["pins"]
    warnings = wanted.expired(node.driver, datetime.date.today().isoformat())
    diff = {"before": "".join(node.before), "after": "".join(node.after)} if node.actions else {}
    told = [f"driver {node.version or node.plan['branch']}", *warnings]
    told += [f"the node must be restarted: {', '.join(reboot)}"] if reboot else []
    module.exit_json(
        changed=bool(node.actions),
        version=node.version,
        loaded=restart.module_version("nvidia") or "",
        pins=pins,
        reboot=reboot,
        warnings_of_driver=warnings,
        actions=node.actions,
        diff=diff,
        msg="; ".join(told),
    )


if __name__ == "__main__":
    main()
