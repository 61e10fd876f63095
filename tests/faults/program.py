"""The program of a Stage: the region's file (JSON, which is YAML too) lists the resources of region.py."""

import json
import os
import signal
from pathlib import Path

import pulumi

from tests.faults.region import pick

signal.signal(signal.SIGINT, lambda number, frame: os._exit(1))  # else a failed run takes 5 s more
made: dict[str, pulumi.CustomResource] = {}


class Any_(pulumi.CustomResource):
    def __init__(self, token, name, inputs, outputs):
        super().__init__(token, name, {**dict.fromkeys(outputs), **inputs})


def value(given):
    if isinstance(given, dict) and set(given) == {"secret_from"}:
        return pulumi.Output.secret(os.environ[given["secret_from"]])
    if isinstance(given, dict) and {"from", "output"} <= set(given):
        key, found = given.get("key", ""), pulumi.get(made[given["from"]], given["output"])
        return found.apply(lambda it: pick(it, key)) if key else found
    if isinstance(given, dict):
        return {key: value(item) for key, item in given.items()}
    return [value(item) for item in given] if isinstance(given, list) else given


wanted = json.loads((Path(os.environ["AIFACTORY_REGIONS"]) / f"{pulumi.get_stack()}.yaml").read_text())
outputs: dict[str, set[str]] = {}


def needed(given):
    if isinstance(given, dict) and {"from", "output"} <= set(given):
        outputs.setdefault(given["from"], set()).add(given["output"])
    for item in given.values() if isinstance(given, dict) else given if isinstance(given, list) else ():
        needed(item)


needed(wanted["resources"])
for each in wanted["resources"]:
    inputs = {key: value(item) for key, item in each["inputs"].items()}
    made[each["name"]] = Any_(each["type"], each["name"], inputs, outputs.get(each["name"], ()))
