"""The server under the real engine: values, secrets, drift, import, replacement, check failures. All real."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aifactory.provider import server
from aifactory.provider.servicer import Servicer

from tests.provider.cloud import GANG, NETWORK, Cloud, registry
from tests.provider.pulumi_project import Project, custom

pytestmark = pytest.mark.engine

PASSWORD = "correct-horse-battery"
OUTPUTS = ("arn", "ip", "size", "nonce", "password", "key")


def network(things: Cloud, *, options: dict[str, Any] | None = None, **values: Any) -> Any:
    inputs = {"cloud": str(things.folder), "cidr": "10.0.0.0/24", **values}
    return custom(NETWORK, "net", inputs, OUTPUTS, **(options or {}))


def gang(things: Cloud, **values: Any) -> Any:
    ip = {"from": "net", "output": "ip"}
    inputs = {"cloud": str(things.folder), "network_ip": ip, "nodes": [{"name": "n0", "size": 3}], **values}
    return custom(GANG, "gang", inputs, ("hosts", "nonce"))


def named(things: Cloud, name: str) -> dict[str, Any]:
    return next(thing for thing in things.all() if thing["name"] == name)


def test_values_flow_and_secrets_stay_secret(project: Project, things: Cloud) -> None:
    """Preview, up and destroy of two resources; everything that is printed, streamed or stored is searched."""
    labels = {"a.b": "c"}
    program = [network(things, size=2, labels=labels, password={"secret": PASSWORD}), gang(things)]
    project.program(program)
    preview = project.preview("--diff").ok().output
    assert "network_ip: [unknown]" in preview
    up = project.pulumi("up", "-s", "it", "--yes", "--skip-preview", "--json").ok().output
    events = [json.loads(line) for line in up.splitlines() if line.startswith("{")]
    made = named(things, "net")
    assert (made["size"], named(things, "n0")["size"]) == (2, 3)
    stored = project.resource("gang")
    assert stored
    assert stored["inputs"]["network_ip"] == "10.0.0.2"
    assert stored["outputs"]["hosts"][0]["id"] == named(things, "n0")["id"]

    plain = project.clear_text("net")
    assert plain
    assert plain["outputs"]["password"] == PASSWORD
    assert plain["outputs"]["key"] == made["key"]
    states = "".join(p.read_text() for p in project.folder.glob("state/**/*.json*"))
    journals = "".join(p.read_text() for p in project.folder.glob("aifactory/**/*.json"))
    seen = "".join((preview, up, states, journals))
    assert PASSWORD not in seen
    assert made["key"] not in seen

    said = [e["diagnosticEvent"] for e in events if e.get("diagnosticEvent", {}).get("severity") == "info"]
    by_text = {d["message"].strip(): d.get("ephemeral", False) for d in said}
    assert by_text["net is there"] is False
    assert by_text["1/1 nodes made"] is True

    project.destroy().ok()
    assert things.all() == []
    assert list((project.folder / "aifactory").glob("journals/*/*")) == []


def test_unchanged_up_is_quick_and_says_so(project: Project, things: Cloud) -> None:
    """Five seconds more would mean that the engine had to kill the server."""
    project.program([network(things), gang(things)])
    project.up().ok()
    assert not project.providers()
    again = project.up("--expect-no-changes").ok()
    assert "3 unchanged" in again.output
    assert again.seconds < 5
    assert things.calls() == ["create network net", "create node n0"]


def test_drift_is_shown_by_refresh_and_repaired_by_up(project: Project, things: Cloud) -> None:
    project.program([network(things, size=2, password={"secret": PASSWORD})])
    project.up().ok()
    made = named(things, "net")
    things.change({**made, "size": 9})
    shown = project.refresh("--diff").ok().output
    assert "~ size: 2 => 9" in shown
    assert "~ size: 9 => 2" in project.preview("--diff").ok().output
    project.up("--refresh").ok()
    assert named(things, "net")["size"] == 2
    stored = project.clear_text("net")
    assert stored
    assert stored["inputs"]["password"] == PASSWORD
    things.drop(made)
    project.up("--refresh").ok()
    assert named(things, "net")["id"] != made["id"]
    assert PASSWORD not in "".join(p.read_text() for p in project.folder.glob("state/**/*.json"))


def test_import_takes_over_what_exists(project: Project, things: Cloud) -> None:
    made = things.put("network", "net", "made-by-hand", size=4, key="key-of-old-times", cidr="10.0.0.0/24")
    unknown = project.pulumi("import", NETWORK, "net", f"{things.folder}/none", "-s", "it", "--yes")
    unknown.failed("does not exist")
    arguments = (NETWORK, "net", f"{things.folder}/{made['id']}", "-s", "it", "--yes", "--protect=false")
    project.pulumi("import", *arguments, "--generate-code=false").ok()
    project.program([network(things, size=4)])
    project.up("--expect-no-changes").ok()
    assert things.calls() == ["create network net"]
    project.program([network(things, size=5)])
    project.up().ok()
    assert named(things, "net")["size"] == 5


def test_every_mistake_of_a_resource_is_shown_and_no_secret(project: Project, things: Cloud) -> None:
    nodes = [{"name": "a", "size": 1.5}, {"nmae": "b"}]
    project.program([custom(GANG, "gang", {"cloud": str(things.folder), "nodes": nodes}, ("hosts",))])
    shown = project.preview().failed().output
    for text in ("nodes[0].size", "must be a whole number", "nodes[1].name", "is required", "did you mean name?"):
        assert text in shown
    # A failing program costs 5 s in the language host whatever the provider does: few previews, many mistakes.
    project.program([network(things, password={"secret": 12345678}, pasword="in-clear-by-mistake")])
    shown = project.preview().failed("did you mean password?", "password must be text, is a number").output
    assert "12345678" not in shown
    assert "in-clear-by-mistake" not in shown


def test_deployment_is_asked_for_and_a_new_one_is_used(project: Project, things: Cloud) -> None:
    project.program([network(things)])
    project.configure({})
    project.preview().failed("aifactory:deployment is not set", "pulumi config set aifactory:deployment")
    project.configure({"aifactory:deployment": "t-first"})
    project.up().ok()
    first = named(things, "net")["token"]
    project.configure({"aifactory:deployment": "t-second"})
    project.program([network(things), gang(things)])
    project.up().ok()
    assert named(things, "net")["token"] == first
    project.destroy().ok()
    project.program([network(things)])
    project.up().ok()
    assert named(things, "net")["token"] != first


def test_delete_before_replace_takes_the_dependents_with_it(project: Project, things: Cloud) -> None:
    project.program([network(things), gang(things)])
    project.up().ok()
    project.program([network(things, cidr="10.9.0.0/24", size=6), gang(things)])
    project.up().ok()
    order = ["delete node n0", "delete network net", "create network net", "create node n0"]
    assert things.calls() == ["create network net", "create node n0", *order]
    stored = project.resource("gang")
    assert stored
    assert stored["inputs"]["network_ip"] == "10.0.0.6"
    assert "unchanged" in project.up("--expect-no-changes").ok().output
    project.destroy().ok()
    assert things.all() == []


def test_new_name_with_an_alias_and_ignored_changes_touch_nothing(project: Project, things: Cloud) -> None:
    project.program([network(things)])
    project.up().ok()
    renamed = {**network(things, size=8), "name": "lan", "aliases": ["net"], "ignore_changes": ["size"]}
    project.program([renamed])
    project.up().ok()
    assert things.calls() == ["create network net"]


def test_state_taint_touches_nothing(project: Project, things: Cloud) -> None:
    project.program([network(things), gang(things)])
    project.up().ok()
    before = things.all()
    for name in ("net", "gang"):
        found = project.resource(name)
        assert found
        project.pulumi("state", "taint", found["urn"], "-s", "it", "--yes").ok()
    project.up().ok()
    assert things.all() == before
    assert "unchanged" in project.up("--expect-no-changes").ok().output
    project.destroy().ok()
    assert things.all() == []


@pytest.mark.parametrize("module", ["tests.provider.cloud", "tests.provider.ours"])
def test_schema_is_one_that_the_engine_takes(tmp_path: Path, module: str) -> None:
    """`pulumi schema check` binds every type and property, of the test resources and of ours."""
    project = Project(tmp_path / "project", module=module)
    server = str(project.folder / "bin" / "pulumi-resource-aifactory")
    text = project.pulumi("package", "get-schema", server).ok().output
    path = project.folder / "schema.json"
    path.write_text(text[text.index("{") :])
    assert "rror" not in project.pulumi("schema", "check", str(path)).ok().output


def test_attached_server_serves_one_run_after_another(project: Project, things: Cloud) -> None:
    """What a debugger uses: the engine's Cancel at the end of the first run must not cancel the second."""
    running, port = server.start(Servicer(registry(), "0.1.0"))
    project.env["PULUMI_DEBUG_PROVIDERS"] = f"aifactory:{port}"
    project.program([network(things), gang(things)])
    assert "net is there" in project.up().ok().output
    project.program([network(things, size=2), gang(things, nodes=[{"name": "n0"}, {"name": "n1"}])])
    assert "1/2 nodes made" in project.up().ok().output
    assert not project.providers()
    running.stop(None)
