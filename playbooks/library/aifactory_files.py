#!/usr/bin/python
"""Writes several whole files in one module run: content, owner, mode, optional test with roll-back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: aifactory_files
short_description: Write several files whole, in one run on the host
description:
  - Renders each template on the controller and writes what differs, atomically, parents included.
  - A file with O(files[].test) is put back as it was when the command fails, and the task fails.
    The same holds for O(files[].apply), so a file that is in place is also in force, whatever was interrupted.
  - Full check mode and diff. One module run for any number of files is what makes it fast.
options:
  files:
    description: The files.
    type: list
    elements: dict
    required: true
    suboptions:
      src:
        description: Template, relative to the repository's templates folder. Either this or O(files[].content).
        type: str
      content:
        description: The text itself.
        type: str
      content_base64:
        description: Filled by the action plugin.
        type: str
      dest:
        description: Absolute path on the host.
        type: str
        required: true
      mode:
        description: Permissions, octal.
        type: str
        default: "0644"
      owner:
        description: User.
        type: str
        default: root
      group:
        description: Group.
        type: str
        default: root
      state:
        description: V(absent) removes the file; no content is needed then.
        type: str
        choices: [present, absent]
        default: present
      test:
        description: Command, as a list, that must succeed after the file was written.
        type: list
        elements: str
      apply:
        description: Command, as a list, that puts the file in force; run once for several files that name it.
        type: list
        elements: str
      diff:
        description: Whether the result may show the content.
        type: bool
        default: true
author: aifactory
"""

EXAMPLES = r"""
- name: Write the configuration files
  aifactory_files:
    files:
      - {src: host/sshd.conf.j2, dest: /etc/ssh/sshd_config.d/00-aifactory.conf, test: [/usr/sbin/sshd, -t],
         apply: [systemctl, reload, ssh]}
      - {src: host/sysctl.conf.j2, dest: /etc/sysctl.d/90-aifactory.conf}
  register: __host_files
"""

RETURN = r"""
changed_files:
  description: Destinations that were (or in check mode would be) written or removed.
  type: list
  elements: str
  returned: always
"""

import base64
import grp
import os
import pwd
import stat

from ansible.module_utils.basic import AnsibleModule

FILE_OPTIONS = {
    "content_base64": {"type": "str", "no_log": True},
    "dest": {"type": "str", "required": True},
    "mode": {"type": "str", "default": "0644"},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "test": {"type": "list", "elements": "str"},
    "apply": {"type": "list", "elements": "str"},
    "diff": {"type": "bool", "default": True},
}


def main():
    module = AnsibleModule(
        argument_spec={"files": {"type": "list", "elements": "dict", "required": True, "options": FILE_OPTIONS}},
        supports_check_mode=True,
    )
    written, diffs = [], []
    for entry in module.params["files"]:
        wanted = None if entry["state"] == "absent" else base64.b64decode(entry["content_base64"])
        before = read(entry["dest"])
        if before == wanted and (wanted is None or has_access(module, entry)):
            continue
        written.append((entry, before))
        if entry["diff"]:
            diffs.append(difference(entry, before, wanted))
        if not module.check_mode:
            put(module, entry, wanted)
            if entry["test"]:
                succeed(module, entry["test"], [(entry, before)])
    if not module.check_mode:
        for command in unique(entry["apply"] for entry, _before in written):
            succeed(module, command, [pair for pair in written if pair[0]["apply"] == command])
    module.exit_json(changed=bool(written), changed_files=[entry["dest"] for entry, _before in written], diff=diffs)


def unique(commands):
    seen = []
    for command in commands:
        if command and command not in seen:
            seen.append(command)
    return seen


def read(path):
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def ids(module, entry):
    try:
        return pwd.getpwnam(entry["owner"]).pw_uid, grp.getgrnam(entry["group"]).gr_gid
    except KeyError:
        if module.check_mode:  # the account may come with a package that is not installed yet
            return None
        account = f"user {entry['owner']}, group {entry['group']}"
        module.fail_json(msg=f"{entry['dest']}: {account} is not there")


def has_access(module, entry):
    found = os.lstat(entry["dest"])
    return (
        stat.S_ISREG(found.st_mode)
        and stat.S_IMODE(found.st_mode) == int(entry["mode"], 8)
        and (found.st_uid, found.st_gid) == ids(module, entry)
    )


def put(module, entry, content):
    """Replaces the file in one step; `None` removes it."""
    path = entry["dest"]
    if content is None:
        os.unlink(path)
        return
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    temporary = f"{path}.aifactory-{os.getpid()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chown(temporary, *ids(module, entry))
        os.chmod(temporary, int(entry["mode"], 8))
        if module.selinux_enabled():
            module.set_default_selinux_context(temporary, False)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def succeed(module, command, pairs):
    """Runs the command; when it fails, the files go back to what they were and the task fails."""
    code, out, err = module.run_command(command)
    if code:
        for entry, before in pairs:
            put(module, entry, before)
        names = ", ".join(entry["dest"] for entry, _before in pairs)
        words = " | ".join((err or out).strip().splitlines()[-3:])
        module.fail_json(msg=f"{names}: `{' '.join(command)}` failed, the file is as it was before: {words}")


def difference(entry, before, after):
    return {
        "before_header": entry["dest"],
        "after_header": entry["dest"],
        "before": (before or b"").decode("utf-8", "replace"),
        "after": (after or b"").decode("utf-8", "replace"),
    }


if __name__ == "__main__":
    main()
