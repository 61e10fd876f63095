#!/usr/bin/python
"""Has a vendor's package repository on the node, its signing key checked against a full fingerprint."""

from __future__ import annotations

DOCUMENTATION = r"""
module: aifactory_repository
short_description: Have a vendor's package repository, trusted by fingerprint
description:
  - Fetches the signing key, and trusts it only when it is the one key with the fingerprint given.
  - apt gets a deb822 source whose C(Signed-By) names that key and no other; dnf a repository with C(gpgcheck).
  - Needs no network where everything is in place. Reads the package lists of this repository when something changed;
    when it does not answer, the files are put back, so that no other package run fails for it.
  - A distribution that O(folders) does not have, and one whose key nobody has said, is refused; the message says where
    the region file takes the key.
options:
  name:
    description: Short name; the files are called after it.
    type: str
    required: true
  url:
    description: Root of the repository, http, https or file.
    type: str
    required: true
  path:
    description: What follows the root; V({distro}), V({arch}), V({deb_arch}), V({machine}), V({codename}), V({major})
      are filled in from the node.
    type: str
    default: "{distro}/{arch}"
  fingerprint:
    description: Of the key, 40 hex digits (64 for a key of version 6).
    type: str
    required: true
  fingerprints:
    description: Distributions with another key, as V(debian13) → its fingerprint.
    type: dict
    default: {}
  key_file:
    description: The key's file below the path, or below the root when it begins with V(/). Empty = the last 8 digits of
      the fingerprint and V(.pub), in lower, then upper case.
    type: str
    default: ""
  suites:
    description: Apt suite; V(/) for a flat repository.
    type: str
    default: /
  components:
    description: Apt components; none for a flat repository.
    type: list
    elements: str
    default: []
  key_files:
    description: Distributions whose key has another file, as V(rhel9) → its name.
    type: dict
    default: {}
  folders:
    description: V(distribution/architecture) → path, for every one that the repository has, in place of O(path).
    type: dict
    default: {}
  exclude:
    description: Packages, as globs, that must never come from it.
    type: list
    elements: str
    default: []
  replaces:
    description: Packages, as globs, that come from it alone; dnf only. The enabled sections of all other files in
      /etc/yum.repos.d then exclude them, beside what they exclude already.
    type: list
    elements: str
    default: []
  setting:
    description: Section of the region file that describes the repository, for messages.
    type: str
    default: ""
author: aifactory
"""

EXAMPLES = r"""
- name: Trust the vendor's repository
  aifactory_repository:
    name: nvidia
    url: https://developer.download.nvidia.com/compute/cuda/repos
    fingerprint: EB693B3035CD5710E231E123A4B469963BF863CC
"""

RETURN = r"""
url:
  description: Address of the node's own repository.
  type: str
  returned: always
files:
  description: Files that were (or in check mode would be) written.
  type: list
  elements: str
  returned: always
"""

import glob
import os
import re

from ansible.module_utils import aifactory_vendor as vendor
from ansible.module_utils.basic import AnsibleModule

REPO_FOLDERS = ("etc/yum.repos.d", "etc/yum/repos.d", "etc/distro.repos.d")
"""Where dnf reads repositories from unless it is told otherwise (dnf.conf, reposdir)."""


def main():
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "url": {"type": "str", "required": True},
            "path": {"type": "str", "default": "{distro}/{arch}"},
            "fingerprint": {"type": "str", "required": True},
            "fingerprints": {"type": "dict", "default": {}},
            "key_file": {"type": "str", "default": ""},
            "key_files": {"type": "dict", "default": {}},
            "folders": {"type": "dict", "default": {}},
            "suites": {"type": "str", "default": "/"},
            "components": {"type": "list", "elements": "str", "default": []},
            "exclude": {"type": "list", "elements": "str", "default": []},
            "replaces": {"type": "list", "elements": "str", "default": []},
            "setting": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    try:
        repository, files = converge(module.params, module.check_mode, vendor.run)
    except vendor.Refused as error:
        module.fail_json(msg=str(error))
    diff = {"before": "", "after": "".join(f"+ {path}\n" for path in files)}
    module.exit_json(changed=bool(files), url=repository.url, files=files, diff=diff if files else {})


def converge(params, check, run, root="/"):
    """(the repository, changed paths). Raises Refused; then the node is as it was."""
    wanted, distro = dict(params), vendor.distribution(root)
    setting, replaces, folders = (wanted.pop(key) for key in ("setting", "replaces", "folders"))
    wanted["fingerprint"] = wanted.pop("fingerprints").get(distro.folder, wanted["fingerprint"]) or ""
    wanted["key_file"] = wanted.pop("key_files").get(distro.folder, wanted["key_file"])
    if folders:
        wanted["path"] = folder_of(distro, wanted["name"], folders)
    repository = vendor.Repository(distro, **wanted)
    if not repository.fingerprint:
        raise vendor.Refused(unknown_key(repository, setting))
    changed = repository.have(check, run, root)
    if distro.family == "dnf":
        changed += keep_out(f"aifactory-{repository.name}", replaces, check, root)
    return repository, changed


def folder_of(distro, name, folders):
    """Path of this node's packages. Raises Refused when the repository is not known to have any."""
    here = f"{distro.folder}/{distro.arch}"
    if here not in folders:
        raise vendor.Refused(
            f"repository {name}: that it has packages for {here} is not known, known are {', '.join(sorted(folders))}: "
            "take one of these, or a mirror that names its own layout in braces, as https://mirror/{distro}/{arch}"
        )
    return folders[here]


def unknown_key(repository, setting):
    """Why nothing is trusted, and how a person finds out the key and where it goes."""
    file = repository.key_urls()[0] if repository.key_file else "the key's file, which the vendor names"
    where = f"write them into the region file as {setting}.fingerprint" if setting else "give them as fingerprint"
    return (
        f"repository {repository.name} ({repository.url}): which key signs it for {repository.distro.folder} is not "
        f"known, so nothing from it is trusted. Download {file}, read the 40 hex digits with gpg --show-keys, compare "
        f"them with what the vendor publishes elsewhere, and {where}"
    )


def keep_out(section, names, check, root):
    """Has every other repository exclude `names`. Returns the changed files."""
    changed = []
    for folder in REPO_FOLDERS if names else ():
        for path in sorted(glob.glob(os.path.join(root, folder, "*.repo"))):
            before = (vendor.read(path) or b"").decode(errors="surrogateescape")
            after = excluding(before, section, names)
            if after != before:
                changed.append("/" + os.path.relpath(path, root))
                if not check:
                    vendor.write(path, after.encode(errors="surrogateescape"), os.stat(path).st_mode & 0o777)
    return changed


def excluding(text, section, names):
    """A .repo file whose enabled sections exclude `names`, all but `section`; every other line stays as it is."""
    return "".join(without(block, section, names) for block in re.split(r"(?m)^(?=\[)", text))


def without(block, section, names):
    head = re.match(r"\[([^\]]+)\].*\n?", block)
    is_off = re.search(r"(?mi)^enabled[ \t]*=[ \t]*(0|no|false|off)[ \t]*$", block)
    if not head or head.group(1) == section or is_off:
        return block
    line = re.search(r"(?m)^exclude(?:pkgs)?[ \t]*=(.*(?:\n[ \t]+\S.*)*)", block)
    there = re.split(r"[\s,]+", line.group(1).strip()) if line and line.group(1).strip() else []
    missing = [name for name in names if name not in there]
    if not missing:
        return block
    new = "excludepkgs=" + " ".join([*there, *missing])
    if line:
        return block[: line.start()] + new + block[line.end() :]
    return head.group().rstrip("\n") + "\n" + new + "\n" + block[head.end() :]


if __name__ == "__main__":
    main()
