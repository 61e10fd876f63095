#!/usr/bin/python
"""Says what the container engine of a node can do, by running a container of 140 bytes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: aifactory_runtime_probe
short_description: Try podman or docker on the node
description:
  - Asks the engine about itself and runs a container whose only file is a program that exits with 0.
  - Nothing stays; nothing is pulled. Safe in check mode.
options:
  engine:
    description: Container engine.
    type: str
    choices: [podman, docker]
    required: true
author: aifactory
"""

EXAMPLES = r"""
- name: Try the container engine
  aifactory_runtime_probe:
    engine: podman
  register: __runtime_probe
"""

RETURN = r"""
installed:
  description: Whether the engine's program is there.
  type: bool
  returned: always
usable:
  description: Whether the engine answers, and runs containers unless the node itself is a container.
  type: bool
  returned: always
reason:
  description: Last words of what failed, empty otherwise.
  type: str
  returned: always
facts:
  description: engine, version, containers (it runs them), quadlet, storage_driver, cgroup_version.
  type: dict
  returned: always
"""

import json
import os
import shutil
import struct
import tempfile

from ansible.module_utils.basic import AnsibleModule

EXIT_0 = {
    "x86_64": (62, b"\x31\xff\xb8\x3c\x00\x00\x00\x0f\x05"),  # xor edi,edi; mov eax,60; syscall
    "aarch64": (183, b"\x00\x00\x80\xd2\xa8\x0b\x80\xd2\x01\x00\x00\xd4"),  # mov x0,0; mov x8,93; svc 0
}
"""ELF machine number and code of `exit(0)`."""

QUADLET = (
    "/usr/libexec/podman/quadlet",
    "/usr/lib/podman/quadlet",
    "/usr/lib/systemd/system-generators/podman-system-generator",
)


def main():
    module = AnsibleModule(
        argument_spec={"engine": {"type": "str", "choices": ["podman", "docker"], "required": True}},
        supports_check_mode=True,
    )
    engine = module.params["engine"]
    facts = {"engine": engine, "containers": False, "quadlet": False}
    result = {"changed": False, "installed": shutil.which(engine) is not None, "usable": False, "facts": facts}
    if not result["installed"]:
        module.exit_json(reason="it is not installed", **result)
    told = info(module, engine)
    if isinstance(told, str):
        module.exit_json(reason=told, **result)
    facts.update(told, quadlet=engine == "podman" and any(map(os.path.exists, QUADLET)))
    reason = try_container(module, engine)
    facts["containers"] = not reason
    code, _out, _err = module.run_command(["systemd-detect-virt", "--container", "--quiet"])
    result["usable"] = not reason or code == 0
    module.exit_json(reason=reason, **result)


def info(module, engine):
    """Facts as the engine tells them, or its complaint."""
    form = "json" if engine == "podman" else "{{json .}}"
    code, out, err = module.run_command([engine, "info", "--format", form])
    try:
        told = json.loads(out) if code == 0 else None
    except ValueError:
        told = None
    if not isinstance(told, dict):
        return last_words(err or out)
    if engine == "podman":
        return {
            "version": told["version"]["Version"],
            "storage_driver": told["store"]["graphDriverName"],
            "cgroup_version": told["host"]["cgroupVersion"],
        }
    if not told.get("ServerVersion"):
        return last_words("; ".join(told.get("ServerErrors") or ["no server"]))
    return {
        "version": told["ServerVersion"],
        "storage_driver": told["Driver"],
        "cgroup_version": "v" + str(told["CgroupVersion"]),
    }


def try_container(module, engine):
    """Empty when a container ran, else why not."""
    program = tiny_program(os.uname().machine)
    if program is None:
        return "no trial program for " + os.uname().machine
    folder = tempfile.mkdtemp(prefix="aifactory-probe-", dir="/var/tmp")
    try:
        root = os.path.join(folder, "root")
        os.mkdir(root)
        path = os.path.join(root, "exit0")
        with open(path, "wb") as stream:
            stream.write(program)
        os.chmod(path, 0o755)
        run = run_podman if engine == "podman" else run_docker
        code, out, err = run(module, folder, root)
        return "" if code == 0 else last_words(err or out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_podman(module, _folder, root):
    return module.run_command(["podman", "run", "--rm", "--network", "none", "--rootfs", root, "/exit0"])


def run_docker(module, folder, root):
    archive = shutil.make_archive(os.path.join(folder, "image"), "tar", root)
    image = "aifactory-probe:latest"
    answer = module.run_command(["docker", "import", archive, image])
    if answer[0] == 0:
        answer = module.run_command(["docker", "run", "--rm", "--network", "none", image, "/exit0"])
        module.run_command(["docker", "image", "rm", "--force", image])
    return answer


def tiny_program(machine):
    """A static ELF file that exits with 0."""
    if machine not in EXIT_0:
        return None
    number, code = EXIT_0[machine]
    base, headers = 0x400000, 64 + 56
    size = headers + len(code)
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 2, number, 1, base + headers, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)
    return header + segment + code


def last_words(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no message"


if __name__ == "__main__":
    main()
