#!/usr/bin/python
"""Has exactly the given units of a service running, with what is on disk, answering health checks."""

from __future__ import annotations

DOCUMENTATION = r"""
module: aifactory_replicas
short_description: Run the replicas of a service
description:
  - Starts units that do not run, restarts those that started before one of their files was last written, and waits
    until each answers. That is decided from the node's state, so an interrupted run is completed by the next one.
  - Stops and removes other units of the service, and removes images, code and models that no unit names any more.
options:
  service:
    description: Name of the service.
    type: str
    required: true
  replicas:
    description: What is to run on this node.
    type: list
    elements: dict
    required: true
    suboptions:
      index:
        description: Number in the unit's name.
        type: int
        required: true
      port:
        description: TCP port.
        type: int
        required: true
      node:
        description: Host name, not used here.
        type: str
  unit_dir:
    description: Folder of the unit files; quadlets lie in /etc/containers/systemd.
    type: str
    choices: [/etc/containers/systemd, /etc/systemd/system]
    required: true
  environment_file:
    description: File with the key, read by each unit at its start.
    type: path
    required: true
  address:
    description: Address that the replicas listen on; GET /health answers 200 when one can take requests.
    type: str
    required: true
  engine:
    description: Container engine whose unused engine images are removed; empty for none.
    type: str
    default: ""
  keep:
    description: Folders whose entries are removed when no unit names them.
    type: list
    elements: path
    default: []
  start_timeout_s:
    description: Seconds until a replica must answer. One that ends three times before it answers has failed.
    type: int
    required: true
author: aifactory
"""

EXAMPLES = r"""
- name: Run the replicas
  aifactory_replicas:
    service: chat
    replicas: [{index: 0, port: 8000}]
    unit_dir: /etc/containers/systemd
    environment_file: /etc/aifactory/inference/chat.env
    address: 10.64.0.17
    start_timeout_s: 120
"""

RETURN = r"""
started:
  description: Units that were (or in check mode would be) started or restarted.
  type: list
  elements: str
  returned: always
removed:
  description: Units, files and images that were removed.
  type: list
  elements: str
  returned: always
"""

import glob
import os
import re
import shutil
import time
import urllib.error
import urllib.request

from ansible.module_utils.basic import AnsibleModule

QUADLETS, UNITS = "/etc/containers/systemd", "/etc/systemd/system"
ENGINE_TALK = re.compile(
    r"level=(warning|info)|(container|image) [a-z]+ [0-9a-f]{64}|^(Starting|Started|Stopped|Scheduled|[0-9a-f]{64}$)"
)
MOST_RESTARTS = 3  # of a unit that has not served yet; more would only take longer to say the same
SUFFIX = {QUADLETS: ".container", UNITS: ".service"}


def main():
    replica = {
        "index": {"type": "int", "required": True},
        "port": {"type": "int", "required": True},
        "node": {"type": "str"},
    }
    module = AnsibleModule(
        argument_spec={
            "service": {"type": "str", "required": True},
            "replicas": {"type": "list", "elements": "dict", "required": True, "options": replica},
            "unit_dir": {"type": "str", "choices": [QUADLETS, UNITS], "required": True},
            "environment_file": {"type": "path", "required": True},
            "address": {"type": "str", "required": True},
            "engine": {"type": "str", "default": ""},
            "keep": {"type": "list", "elements": "path", "default": []},
            "start_timeout_s": {"type": "int", "required": True},
        },
        supports_check_mode=True,
    )
    units = [Unit(module.params, replica) for replica in module.params["replicas"]]
    removed = remove_others(module, units)
    if removed or any(needs_reload(module, unit) for unit in units):
        systemctl(module, "daemon-reload")
    started = [unit for unit in units if must_start(module, unit)]
    if not module.check_mode:
        for unit in started:  # one after the other, so that a replica of this node always answers
            start(module, unit)
            wait_until_healthy(module, unit, True)
        for unit in units:
            wait_until_healthy(module, unit, False)
        removed += clean(module)
    names = [unit.name for unit in started]
    module.exit_json(changed=bool(names or removed), started=names, removed=removed)


class Unit:
    def __init__(self, params, replica):
        stem = f"aifactory-{params['service']}-{replica['index']}"
        self.name = stem + ".service"
        self.file = os.path.join(params["unit_dir"], stem + SUFFIX[params["unit_dir"]])
        self.files = [self.file, params["environment_file"]]
        self.health_url = f"http://{params['address']}:{replica['port']}/health"


def unit_files(stem):
    """Paths of unit files and quadlets, `stem` being a glob."""
    return sorted(path for folder in SUFFIX for path in glob.glob(os.path.join(folder, stem + SUFFIX[folder])))


def remove_others(module, units):
    """Unit files of this service that nobody asked for, their units stopped first."""
    wanted = {unit.file for unit in units}
    ours = re.compile(r"aifactory-" + re.escape(module.params["service"]) + r"-\d+\.(container|service)")
    gone = [
        path
        for path in unit_files("aifactory-" + module.params["service"] + "-*")
        if path not in wanted and ours.fullmatch(os.path.basename(path))
    ]
    for path in () if module.check_mode else gone:
        module.run_command(["systemctl", "stop", unit_of(path)])
        if path.startswith(UNITS):
            module.run_command(["systemctl", "disable", unit_of(path)])
        os.unlink(path)
    return gone


def unit_of(path):
    return os.path.splitext(os.path.basename(path))[0] + ".service"


def needs_reload(module, unit):
    return show(module, unit, "NeedDaemonReload") == "yes" or show(module, unit, "LoadState") == "not-found"


def show(module, unit, key):
    _code, out, _err = module.run_command(["systemctl", "show", "--property", key, "--value", unit.name])
    return out.strip()


def must_start(module, unit):
    """Whether it does not run, or runs with older files than those on disk."""
    if show(module, unit, "ActiveState") != "active":
        return True
    microseconds = show(module, unit, "InactiveExitTimestampMonotonic")  # when its start began
    age = time.monotonic() - int(microseconds or 0) / 1e6
    return any(os.path.exists(path) and time.time() - os.stat(path).st_mtime < age for path in unit.files)


def start(module, unit):
    systemctl(module, "reset-failed", unit.name, may_fail=True)
    systemctl(module, "restart", unit.name)
    if unit.file.startswith(UNITS):  # a quadlet's unit is generated, with its own [Install]
        systemctl(module, "enable", "--quiet", unit.name)


def systemctl(module, *words, may_fail=False):
    if module.check_mode:
        return
    code, out, err = module.run_command(["systemctl", *words])
    if code and not may_fail:
        journal = last_words(module, words[-1]) if len(words) > 1 else ""
        module.fail_json(msg=f"systemctl {' '.join(words)} failed: {(err or out).strip()} {journal}")


def wait_until_healthy(module, unit, fresh):
    limit = time.monotonic() + (module.params["start_timeout_s"] if fresh else 10)
    restarts = int(show(module, unit, "NRestarts") or 0)
    while True:
        reason = unhealthy(unit.health_url)
        if not reason:
            return
        state = show(module, unit, "ActiveState")
        again_and_again = int(show(module, unit, "NRestarts") or 0) - restarts >= MOST_RESTARTS
        if state == "failed" or again_and_again or time.monotonic() > limit:
            words = last_words(module, unit.name)
            module.fail_json(msg=f"{unit.name} ({state}) does not answer at {unit.health_url}: {reason}; {words}")
        time.sleep(0.1)


def unhealthy(url):
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=2) as answer:
            return "" if answer.status == 200 else f"status {answer.status}"
    except (OSError, urllib.error.URLError) as error:
        return str(getattr(error, "reason", error))


def last_words(module, unit):
    """The last lines that the unit wrote, without those that the container engine writes about itself."""
    command = ["journalctl", "--unit", unit, "--lines", "60", "--output", "cat", "--no-pager"]
    _code, out, _err = module.run_command(command)
    lines = [line.strip() for line in out.splitlines() if line.strip() and not ENGINE_TALK.search(line)]
    return "its last words: " + " | ".join(lines[-4:])


def clean(module):
    """Images, code and models that no unit of any service names."""
    texts = "".join(read(path) for path in unit_files("aifactory-*"))
    gone = []
    for folder in module.params["keep"]:
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            path = os.path.join(folder, name)
            if path not in texts:
                gone.append(path)
                shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
    if module.params["engine"]:
        gone += remove_images(module, texts)
    return gone


def remove_images(module, texts):
    engine = module.params["engine"]
    command = [engine, "image", "ls", "--no-trunc", "--quiet", "--filter", "label=aifactory.engine=true"]
    _code, out, _err = module.run_command(command)
    unused = sorted({line.rpartition(":")[2] for line in out.split()} - set(re.findall(r"\b[0-9a-f]{64}\b", texts)))
    return [image for image in unused if module.run_command([engine, "image", "rm", image])[0] == 0]


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


if __name__ == "__main__":
    main()
