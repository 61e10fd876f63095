#!/usr/bin/python
"""Says what the container engine of a node can do, by running a container of a few hundred bytes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: aifactory_runtime_probe
short_description: Try podman or docker on the node
description:
  - Asks the engine about itself and runs a container whose only file is a program of some hundred bytes. It ends with 0
    when it may read and write every device that it looks for, else with the number of the first that it may not.
  - Nothing stays; nothing is pulled. Safe in check mode.
options:
  engine:
    description: Container engine.
    type: str
    choices: [podman, docker]
    required: true
  devices:
    description: Devices that the container is given, as V(nvidia.com/gpu=all) or a path.
    type: list
    elements: str
    default: []
  inside:
    description: Paths (up to 100) that the container must be able to read and write.
    type: list
    elements: str
    default: []
  users:
    description: Users whose own containers are given the devices too (podman only), besides root's.
    type: list
    elements: str
    default: []
author: aifactory
"""

EXAMPLES = r"""
- name: Try the container engine
  aifactory_runtime_probe:
    engine: podman
  register: __runtime_probe

- name: Look for the GPUs inside a container
  aifactory_runtime_probe:
    engine: podman
    devices: [nvidia.com/gpu=all]
    inside: [/dev/nvidiactl, /dev/nvidia0, /dev/nvidia1]
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
devices:
  description: For root and each user (empty = root) why a container does not see its devices; empty = it sees them.
    Not there where no devices were asked for, or no container runs at all.
  type: dict
  returned: always
"""

import json
import os
import pwd
import shutil
import struct
import tempfile

from ansible.module_utils.basic import AnsibleModule

MACHINES = {"x86_64": 62, "aarch64": 183}
"""ELF machine numbers."""

BASE, HEADERS = 0x400000, 64 + 56
READ_WRITE = 6
MOST_PATHS = 100
NO_WORDS = "no message"
TIMEOUT_S = 120

QUADLET = (
    "/usr/libexec/podman/quadlet",
    "/usr/lib/podman/quadlet",
    "/usr/lib/systemd/system-generators/podman-system-generator",
)


def main():
    module = AnsibleModule(
        argument_spec={
            "engine": {"type": "str", "choices": ["podman", "docker"], "required": True},
            "devices": {"type": "list", "elements": "str", "default": []},
            "inside": {"type": "list", "elements": "str", "default": []},
            "users": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    engine = module.params["engine"]
    facts = {"engine": engine, "containers": False, "quadlet": False}
    result = {"changed": False, "installed": shutil.which(engine) is not None, "usable": False, "facts": facts}
    result["devices"] = {}
    if not result["installed"]:
        module.exit_json(reason="it is not installed", **result)
    told = info(module, engine)
    if isinstance(told, str):
        module.exit_json(reason=told, **result)
    facts.update(told, quadlet=engine == "podman" and any(map(os.path.exists, QUADLET)))
    reason = try_container(module, engine)
    facts["containers"] = not reason
    for user in ["", *module.params["users"]] if facts["containers"] and module.params["devices"] else ():
        result["devices"][user] = try_container(module, engine, module.params["devices"], module.params["inside"], user)
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


def try_container(module, engine, devices=(), inside=(), user=""):
    """Empty when a container ran and saw all it should, else why not."""
    program = tiny_program(os.uname().machine, inside[:MOST_PATHS])
    if program is None:
        return "no trial program for " + os.uname().machine
    folder = tempfile.mkdtemp(prefix="aifactory-probe-", dir="/var/tmp")
    try:
        root = os.path.join(folder, "root")
        os.mkdir(root)
        path = os.path.join(root, "look")
        with open(path, "wb") as stream:
            stream.write(program)
        os.chmod(path, 0o755)
        if user:
            give(folder, user)
        run = run_podman if engine == "podman" else run_docker
        code, out, err = run(module, folder, [f"--device={device}" for device in devices], user)
        return verdict(code, last_words(err or out), inside)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def verdict(code, words, inside):
    """What the container's end says; empty when all is well."""
    if code == 0:
        return ""
    # The program's own, which prints nothing. Engines end with 124 and more; podman without a namespace with 1.
    told = words.startswith("Error: ") or "level=error" in words
    if 0 < code <= min(len(inside), MOST_PATHS) and not told:
        return f"{inside[code - 1]} cannot be read and written inside a container"
    return words if words != NO_WORDS else f"the container ended with {code}"


def give(folder, user):
    """The user's podman makes mount points in the container's folder."""
    account = pwd.getpwnam(user)
    for parent, _folders, files in os.walk(folder):
        for name in [parent, *(os.path.join(parent, file) for file in files)]:
            os.chown(name, account.pw_uid, account.pw_gid)


def run_podman(module, folder, devices, user):
    command = ["podman", "run", "--rm", "--network", "none", *devices, "--rootfs", f"{folder}/root", "/look"]
    if user:
        account = pwd.getpwnam(user)
        environment = [f"HOME={account.pw_dir}"]
        if os.path.isdir(f"/run/user/{account.pw_uid}"):
            environment.append(f"XDG_RUNTIME_DIR=/run/user/{account.pw_uid}")
        command = ["runuser", "-u", user, "--", "env", "-C", "/", *environment, *command]
    return module.run_command(["timeout", str(TIMEOUT_S), *command])


def run_docker(module, folder, devices, _user):
    archive = shutil.make_archive(os.path.join(folder, "image"), "tar", os.path.join(folder, "root"))
    image = "aifactory-probe:latest"
    answer = module.run_command(["docker", "import", archive, image])
    if answer[0] == 0:
        command = ["docker", "run", "--rm", "--network", "none", *devices, image, "/look"]
        answer = module.run_command(["timeout", str(TIMEOUT_S), *command])
        module.run_command(["docker", "image", "rm", "--force", image])
    return answer


def tiny_program(machine, paths=()):
    """A static ELF file. It ends with 0 when each path can be read and written, else with the first other's number."""
    if machine not in MACHINES:
        return None
    code_for = code_x86_64 if machine == "x86_64" else code_aarch64
    size = len(code_for([0] * len(paths)))
    texts = [path.encode() + b"\0" for path in paths]
    start = BASE + HEADERS + size
    code = code_for([start + sum(map(len, texts[:index])) for index in range(len(texts))])
    return elf(MACHINES[machine], code + b"".join(texts))


def code_x86_64(addresses):
    code = b""
    for number, address in enumerate(addresses, 1):
        code += b"\xb8" + struct.pack("<I", 21)  # mov eax, access
        code += b"\xbf" + struct.pack("<I", address)  # mov edi, path
        code += b"\xbe" + struct.pack("<I", READ_WRITE)  # mov esi, mode
        code += b"\x0f\x05\x85\xc0\x74\x0c"  # syscall; test eax, eax; jz over the next twelve bytes
        code += b"\xbf" + struct.pack("<I", number) + b"\xb8" + struct.pack("<I", 60) + b"\x0f\x05"  # exit(number)
    return code + b"\x31\xff\xb8\x3c\x00\x00\x00\x0f\x05"  # exit(0)


def code_aarch64(addresses):
    words = []
    for number, address in enumerate(addresses, 1):
        words += [move(8, 48), 0x92800C60]  # faccessat; x0 = AT_FDCWD (-100)
        words += [move(1, address & 0xFFFF), 0xF2A00000 | (address >> 16) << 5 | 1]  # x1 = path
        words += [move(2, READ_WRITE), 0xD4000001, 0xB4000080]  # svc 0; cbz x0, over the next three
        words += [move(0, number), move(8, 93), 0xD4000001]  # exit(number)
    words += [move(0, 0), move(8, 93), 0xD4000001]  # exit(0)
    return struct.pack(f"<{len(words)}I", *words)


def move(register, value):
    """movz x<register>, #value"""
    return 0xD2800000 | value << 5 | register


def elf(machine, body):
    size = HEADERS + len(body)
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, BASE + HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, BASE, BASE, size, size, 0x1000)
    return header + segment + body


def last_words(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else NO_WORDS


if __name__ == "__main__":
    main()
