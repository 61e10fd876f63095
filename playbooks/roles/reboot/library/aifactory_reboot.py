#!/usr/bin/python
"""Says why a node must be restarted, and ends its services so that it can be."""

from __future__ import annotations

DOCUMENTATION = r"""
module: aifactory_reboot
short_description: Read why a node must be restarted; drain it
description:
  - Reads the checks that the layers have left in /etc/aifactory/reboot.d and compares them with what the node runs.
  - With O(drain), stops the node's services where there is a reason, one after the other, so that answers that have
    begun are finished. They start again with the node.
options:
  drain:
    description: Stop the services when there is a reason.
    type: bool
    default: false
  drain_timeout_s:
    description: Until a service must have ended. Its unit decides how long it may take; this is only the last limit.
    type: int
    default: 900
author: aifactory
"""

EXAMPLES = r"""
- name: Read why the node must be restarted
  aifactory_reboot:
  register: __reboot
"""

RETURN = r"""
reasons:
  description: One sentence each, with the layer that it comes from; empty when the node need not be restarted.
  type: list
  elements: str
  returned: always
stopped:
  description: Units that were (or in check mode would be) stopped.
  type: list
  elements: str
  returned: always
"""

from ansible.module_utils import aifactory_restart as restart
from ansible.module_utils import aifactory_vendor as vendor
from ansible.module_utils.basic import AnsibleModule

LIST = [
    "systemctl",
    "list-units",
    "--plain",
    "--no-legend",
    "--state=active,activating,reloading",
    "aifactory-*.service",
]


def main():
    module = AnsibleModule(
        argument_spec={
            "drain": {"type": "bool", "default": False},
            "drain_timeout_s": {"type": "int", "default": 900},
        },
        supports_check_mode=True,
    )
    try:
        found = [
            f"{layer}: {reason}"
            for layer, checks in restart.declared().items()
            for reason in restart.reasons(checks, vendor.run)
        ]
    except ValueError as error:
        module.fail_json(msg=str(error))
    stopped = running() if found and module.params["drain"] else []
    if not module.check_mode:
        for unit in stopped:
            code, out, err = vendor.run(["systemctl", "stop", unit], module.params["drain_timeout_s"])
            if code:
                module.fail_json(msg=f"{unit} does not end, the node was not restarted: {vendor.last_words(out, err)}")
    module.exit_json(changed=bool(stopped), reasons=list(dict.fromkeys(found)), stopped=stopped)


def running():
    """Services of the node. Units of one run that end by themselves are in it too."""
    _code, out, _err = vendor.run(LIST, 60)
    return [line.split()[0] for line in out.splitlines() if line.strip()]


if __name__ == "__main__":
    main()
