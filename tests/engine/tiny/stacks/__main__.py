"""The tests' program: the region's file (JSON, which is YAML too) lists what there shall be."""

import json
import os
from pathlib import Path

import pulumi


class Thing(pulumi.CustomResource):
    size: pulumi.Output[float]

    def __init__(self, name, props, opts):
        super().__init__("tiny:index:Thing", name, {"ready": None, **props}, opts)


class Group(pulumi.ComponentResource):
    def __init__(self, name):
        super().__init__("tiny:index:Group", name)
        self.register_outputs({})


wanted = json.loads((Path(os.environ["AIFACTORY_REGIONS"]) / f"{pulumi.get_stack()}.yaml").read_text())
group = Group("group")
made = {}
for name, props in wanted["things"].items():
    after = [made[n] for n in props.pop("after", [])]
    if "secret" in props:
        props["secret"] = pulumi.Output.secret(props["secret"])
    made[name] = Thing(name, props, pulumi.ResourceOptions(parent=group, depends_on=after))
for name, value in wanted.get("outputs", {}).items():
    pulumi.export(name, pulumi.Output.secret(value) if name.startswith("secret") else value)
if wanted.get("crash"):
    raise RuntimeError(wanted["crash"])
