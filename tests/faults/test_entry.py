"""Faults 14, 16 and 25, and 18 at the door: what is met before anything is made. With the command itself."""

from __future__ import annotations

import contextlib
import json
import threading
from pathlib import Path

import pytest

from tests.emulator import ENV_PREFIX, Emulator
from tests.faults import invariants, region
from tests.faults.command import NAME, Command
from tests.faults.ledger import Notes, fault
from tests.faults.ledger import whole as of_whole_matrix
from tests.faults.stage import Stage

COMMAND = "the command"
PLANTED = "planted-c0ffee-5ecret-7e57"


@pytest.fixture
def command(emulator: Emulator, tmp_path: Path) -> Command:
    return Command(tmp_path, emulator)


@pytest.mark.parametrize("verb", ["preflight", pytest.param("up", marks=of_whole_matrix)])
@fault(14, "the account's quota is too low", "before anything is made: quota, value, need; exit 3", on=COMMAND)
def test_quota_too_low(command: Command, emulator: Emulator, notes: Notes, verb: str) -> None:
    emulator.quota("L-417A185B", 192)
    said = command.run(verb, NAME, *(["--yes"] if verb == "up" else []))
    assert said.exit == 3, said.text
    for word in ("L-417A185B", "192", "3,072"):
        assert word in said.text, said.text
    assert not invariants.writes(emulator.requests()), "something was written"
    notes(f"exit 3 in {said.seconds:.1f} s")


@pytest.mark.parametrize("verb", ["preflight", pytest.param("up", marks=of_whole_matrix)])
@fault(16, "three permissions are missing", "all of them named at once, before anything is made; exit 3", on=COMMAND)
def test_missing_permissions(command: Command, emulator: Emulator, notes: Notes, verb: str) -> None:
    missing = {"RunInstances": "ec2:RunInstances", "CreateRole": "iam:CreateRole", "CreateKey": "kms:CreateKey"}
    emulator.deny(**missing)
    said = command.run(verb, NAME, *(["--yes"] if verb == "up" else []))
    assert said.exit == 3, said.text
    for action in missing.values():
        assert action in said.text, said.text
    assert not invariants.writes(emulator.requests()), "something was written"
    notes(f"exit 3 in {said.seconds:.1f} s")


@of_whole_matrix
@fault(
    18,
    "home and configuration are lost; another deployment's objects have the names",
    "up stops before it makes anything",
    on=COMMAND,
)
def test_another_deployment_holds_the_names(command: Command, emulator: Emulator, notes: Notes) -> None:
    tags = [{"Key": key, "Value": value} for key, value in (
        ("aifactory.deployment", "another"), ("aifactory.region", NAME), ("aifactory.token", "another")
    )]  # fmt: skip
    emulator.boto("iam").create_role(RoleName=f"aifactory-{NAME}-node", AssumeRolePolicyDocument="{}", Tags=tags)
    before = emulator.requests()
    said = command.run("up", NAME, "--yes")
    assert said.exit == 3, said.text
    assert "another" in said.text
    assert not invariants.writes(emulator.requests() - before)
    notes(f"exit 3 in {said.seconds:.1f} s")


class Arguments(threading.Thread):
    """Reads what every process of this machine was started with, over and over."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.over, self.hits = threading.Event(), set[str]()

    def run(self) -> None:
        while not self.over.wait(0.05):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    if PLANTED in (text := path.read_text()):
                        self.hits.add(text[:80])


@of_whole_matrix
@pytest.mark.engine
@fault(
    25, "secrets planted in the keys and in a secret input; a failing run too", "in no state, journal, log or argument"
)
def test_planted_secrets(stage: Stage, emulator: Emulator, notes: Notes) -> None:
    for name in ("SECRET_ACCESS_KEY", "SESSION_TOKEN"):
        stage.env_more[f"{ENV_PREFIX}{name}"] = f"{PLANTED}-{name}"
    stage.env_more["FAULTS_KEY"] = f"{PLANTED}-key"
    resources = region.resources(emulator, 3, ssh_private_key={"secret_from": "FAULTS_KEY"})
    stage.want(resources)
    arguments = Arguments()
    arguments.start()
    said = [stage.up().ok().text, json.dumps(stage.state())]
    emulator.fault("RunInstances", "error", status=400, code="InvalidParameterValue", message="no", count=-1)
    next(each for each in resources if each["name"] == "train")["inputs"]["nodes"] = region.gang(4)
    stage.want(resources)
    said += [stage.up().text, json.dumps(stage.state()), stage.run("refresh").text]
    found = invariants.secrets([PLANTED], [stage.home, stage.project], said)
    said.append(stage.destroy().text)
    arguments.over.set()
    arguments.join()
    found += invariants.secrets([PLANTED], [stage.home], said)
    assert not found, f"I4: {found}"
    assert not arguments.hits, f"I4: {arguments.hits}"
    assert PLANTED in str(stage.environment), "nothing was planted"
    notes(f"{sum(path.is_file() for path in stage.home.rglob('*'))} files looked at")
