#!/usr/bin/python
"""Has the engine (image or unpacked code) and the model on a node, each known by its digest."""

from __future__ import annotations

DOCUMENTATION = r"""
module: aifactory_engine
short_description: Have an inference engine and a model on the node
description:
  - With O(probe=true) only says what is missing, so that nothing is copied that is there already.
  - Otherwise takes over the copied files. The model is installed only with the right digest, the image is the one
    with the given id or none at all. Copied files are removed, also after a failure.
options:
  service:
    description: Name of the service, for RV(running).
    type: str
    required: true
  probe:
    description: Look and change nothing.
    type: bool
    default: false
  driver:
    description: How replicas are run; V(process) needs the unpacked code, the others the image.
    type: str
    choices: [quadlet, container, process]
    required: true
  engine:
    description: Container engine, podman or docker.
    type: str
    required: true
  image_id:
    description: Image id, 64 hex digits.
    type: str
    required: true
  image_layer:
    description: Layer in the archive that holds the engine's code.
    type: str
    required: true
  image_root:
    description: Folder of the code inside the layer.
    type: str
    required: true
  code:
    description: Where the code goes for V(process).
    type: path
    required: true
  archive:
    description: The copied image archive.
    type: path
    required: true
  model:
    description: Where the model goes.
    type: path
    required: true
  model_sha256:
    description: Its digest.
    type: str
    required: true
  model_copy:
    description: The copied model.
    type: path
    required: true
author: aifactory
"""

EXAMPLES = r"""
- name: Look for engine and model
  aifactory_engine: "{{ _inference_files | combine({'probe': true}) }}"
  register: __inference_there
"""

RETURN = r"""
needs_engine:
  description: Whether the image or the code was missing.
  type: bool
  returned: always
needs_model:
  description: Whether the model was missing or damaged.
  type: bool
  returned: always
running:
  description: Whether a replica of the service runs.
  type: bool
  returned: always
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile

from ansible.module_utils.basic import AnsibleModule

TEXT = ("service", "driver", "engine", "image_id", "image_layer", "image_root", "model_sha256")
PATHS = ("code", "archive", "model", "model_copy")


def main():
    arguments = {name: {"type": "str", "required": True} for name in TEXT}
    arguments["driver"]["choices"] = ["quadlet", "container", "process"]
    arguments.update({name: {"type": "path", "required": True} for name in PATHS})
    arguments["probe"] = {"type": "bool", "default": False}
    module = AnsibleModule(argument_spec=arguments, supports_check_mode=True)
    given = module.params
    needs_engine = not has_engine(module)
    needs_model = digest(given["model"]) != given["model_sha256"]
    if not given["probe"] and not module.check_mode:
        with removed(given["archive"]), removed(given["model_copy"]):
            if needs_model:
                install_model(module)
            if needs_engine:
                (unpack if given["driver"] == "process" else load)(module)
    changed = not given["probe"] and (needs_engine or needs_model)
    code, _out, _err = module.run_command(["systemctl", "is-active", f"aifactory-{given['service']}-*.service"])
    module.exit_json(changed=changed, needs_engine=needs_engine, needs_model=needs_model, running=code == 0)


def has_engine(module):
    if module.params["driver"] == "process":
        return os.path.isdir(module.params["code"])
    return image_id(module) == module.params["image_id"]


def image_id(module):
    """The id of the loaded image, without docker's `sha256:`; empty where there is none."""
    command = [module.params["engine"], "image", "inspect", "--format", "{{.Id}}", module.params["image_id"]]
    code, out, _err = module.run_command(command)
    return out.strip().rpartition(":")[2] if code == 0 else ""


def digest(path):
    try:
        with open(path, "rb") as file:
            total = hashlib.sha256()
            for block in iter(lambda: file.read(1 << 20), b""):
                total.update(block)
            return total.hexdigest()
    except FileNotFoundError:
        return ""


def install_model(module):
    found, wanted = digest(module.params["model_copy"]), module.params["model_sha256"]
    if found != wanted:
        module.fail_json(
            msg=f"the model arrived with SHA-256 {found or 'of nothing'}, expected {wanted}; it was not installed"
        )
    target = module.params["model"]
    os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
    os.chmod(module.params["model_copy"], 0o644)
    shutil.move(module.params["model_copy"], target + ".part")
    os.replace(target + ".part", target)


def load(module):
    engine = module.params["engine"]
    code, out, err = module.run_command([engine, "load", "--quiet", "--input", module.params["archive"]])
    if code:
        module.fail_json(msg=f"{engine} could not load the engine image: {(err or out).strip().splitlines()[-1:]}")
    if image_id(module) != module.params["image_id"]:
        module.fail_json(msg=f"{engine} loaded the archive, but there is no image {module.params['image_id']}")


def unpack(module):
    """The engine's layer alone, into place in one step."""
    target = module.params["code"]
    os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
    folder = tempfile.mkdtemp(prefix=".engine-", dir=os.path.dirname(target))
    try:
        outer = subprocess.Popen(
            ["tar", "-xOf", module.params["archive"], module.params["image_layer"]], stdout=subprocess.PIPE
        )
        inner = subprocess.run(
            ["tar", "-xz", "--no-same-owner", "-C", folder], stdin=outer.stdout, stderr=subprocess.PIPE, check=False
        )
        outer.stdout.close()
        if outer.wait() or inner.returncode:
            module.fail_json(msg="the engine could not be unpacked: " + inner.stderr.decode(errors="replace")[-300:])
        os.chmod(folder, 0o755)
        os.rename(os.path.join(folder, module.params["image_root"]), target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def removed(path):
    """Removes the file afterwards, whatever happened."""
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


if __name__ == "__main__":
    main()
