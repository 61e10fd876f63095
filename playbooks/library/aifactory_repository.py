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
  exclude:
    description: Packages, as globs, that must never come from it.
    type: list
    elements: str
    default: []
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

from ansible.module_utils import aifactory_vendor as vendor
from ansible.module_utils.basic import AnsibleModule


def main():
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "url": {"type": "str", "required": True},
            "path": {"type": "str", "default": "{distro}/{arch}"},
            "fingerprint": {"type": "str", "required": True},
            "fingerprints": {"type": "dict", "default": {}},
            "key_file": {"type": "str", "default": ""},
            "suites": {"type": "str", "default": "/"},
            "components": {"type": "list", "elements": "str", "default": []},
            "exclude": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    wanted = dict(module.params)
    others = wanted.pop("fingerprints")
    try:
        distro = vendor.distribution()
        wanted["fingerprint"] = others.get(distro.folder, wanted["fingerprint"])
        repository = vendor.Repository(distro, **wanted)
        files = repository.have(module.check_mode, vendor.run)
    except vendor.Refused as error:
        module.fail_json(msg=str(error))
    diff = {"before": "", "after": "".join(f"+ {path}\n" for path in files)}
    module.exit_json(changed=bool(files), url=repository.url, files=files, diff=diff if files else {})


if __name__ == "__main__":
    main()
