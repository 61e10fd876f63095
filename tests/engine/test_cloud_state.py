# ruff: noqa: F811 (a fixture is a parameter of the same name)
"""State in a bucket and its secrets under a key of the cloud: whose keys open them, and one writer at a time.

Real: the Pulumi engine, its S3 backend and KMS keeper, locks, SIGKILL. Emulated: the cloud. Tiny: the provider.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest
from aifactory.engine import Stack, environment
from aifactory.engine.events import Note
from aifactory.errors import Exit, ProblemError
from aifactory.region.spec import Region

from tests.emulator import ENV_PREFIX, Emulator, emulator, emulator_process  # noqa: F401 (fixtures)
from tests.engine.engine_project import HERE, NAME, Project, spec, wait_for

pytestmark = pytest.mark.engine

BUCKET = "state-of-a-region"
LOCKS = f".pulumi/locks/organization/tiny/{NAME}/"
DRIVE = """
import sys
from pathlib import Path
from aifactory.engine import Stack
from aifactory.region.spec import Region
Stack(Region.model_validate_json(sys.argv[1]), project=Path(sys.argv[2])).up()
"""


@pytest.fixture
def bucket(emulator: Emulator) -> Any:
    """A client that sees what is in the state's bucket; made before the shell is full of other keys."""
    s3 = emulator.boto("s3")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eusc-de-east-1"})
    return s3


@pytest.fixture
def region(emulator: Emulator, bucket: Any, monkeypatch: pytest.MonkeyPatch) -> Region:
    """A region whose state is in the emulator, while other keys lie around in the shell."""
    key = emulator.boto("kms").create_key()["KeyMetadata"]["KeyId"]
    emulator.boto("kms").create_alias(AliasName="alias/state", TargetKeyId=key)
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "ambient")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    where = f"region=eusc-de-east-1&endpoint={emulator.url}"
    document = spec().model_dump(mode="json", exclude_defaults=True)
    document["provider"] = {
        "kind": "aws", "partition": "aws-eusc", "region": "eusc-de-east-1", "account": "123456789012",
        "credentials": {"env_prefix": ENV_PREFIX},
    }  # fmt: skip
    document["state"] = {
        "backend": f"s3://{BUCKET}?{where}&use_path_style=true", "secrets": f"awskms://alias/state?{where}",
    }  # fmt: skip
    return Region.model_validate_json(json.dumps(document))


def locks(bucket: Any) -> list[str]:
    found = bucket.list_objects_v2(Bucket=BUCKET, Prefix=LOCKS).get("Contents") or []
    return [item["Key"] for item in found]


def killed_up(project: Project, region: Region) -> None:
    """`up` in a process of its own, killed with its engine while it makes something slow."""
    text = region.model_dump_json(exclude_defaults=True)
    process = subprocess.Popen([sys.executable, "-c", DRIVE, text, str(project.root)], cwd=HERE.parents[1])
    wait_for(lambda: "slow" in project.made())
    engine = project.engine_pid()
    os.kill(process.pid, signal.SIGKILL)
    os.kill(engine, signal.SIGKILL)
    process.wait()
    wait_for(lambda: not project.engine_lives(engine))


def test_state_in_a_bucket_is_opened_with_the_regions_own_keys(
    project: Project, region: Region, bucket: Any, emulator: Emulator
) -> None:
    project.want({"a": {"secret": "hush-hush"}})
    stack = Stack(region, project=project.root)

    assert stack.up().ok
    assert stack.up().changes == {"same": 3}
    assert not (project.home / "passphrase").exists()
    config = (project.regions / f"Pulumi.{NAME}.yaml").read_text()
    assert "secretsprovider: awskms://alias/state" in config
    assert "encryptedkey:" in config
    stored = bucket.list_objects_v2(Bucket=BUCKET, Prefix=".pulumi/stacks/")["Contents"]
    assert [item["Key"] for item in stored if item["Key"].endswith((".json", ".zst"))]
    assert emulator.requests()["GenerateDataKey"] + emulator.requests()["Encrypt"] >= 1

    assert stack.destroy().ok
    stack.remove()
    assert locks(bucket) == []
    assert not stack.exists()


def test_second_writer_is_refused_with_the_firsts_name(project: Project, region: Region, bucket: Any) -> None:
    project.want({"a": {}})
    stack = Stack(region, project=project.root)
    assert stack.up().ok
    other = {"pid": 4711, "username": "ada", "hostname": "far", "timestamp": "2026-11-25T03:04:05.123456789Z"}
    bucket.put_object(Bucket=BUCKET, Key=f"{LOCKS}1.json", Body=json.dumps(other).encode())

    with pytest.raises(ProblemError, match="pid 4711 of ada on far") as caught:
        stack.up()

    assert caught.value.code == Exit.PREFLIGHT
    assert caught.value.problems[0].rule == "ENG-012"
    assert locks(bucket) == [f"{LOCKS}1.json"], "a lock of another host is not ours to break"
    bucket.delete_object(Bucket=BUCKET, Key=f"{LOCKS}1.json")
    assert stack.destroy().ok


def test_lock_of_a_run_that_was_killed_here_is_broken_and_the_run_goes_on(
    project: Project, region: Region, bucket: Any
) -> None:
    project.want({"a": {}, "slow": {"seconds": 30, "after": ["a"]}})
    killed_up(project, region)
    assert len(locks(bucket)) == 1, "the engine takes back no lock of a run that was killed"

    project.want({"a": {}, "slow": {"after": ["a"]}})
    notes: list[str] = []
    outcome = Stack(region, project=project.root).up(lambda e: notes.append(e.message) if isinstance(e, Note) else None)

    assert outcome.ok, outcome.failures
    assert any("broke the lock" in note for note in notes)
    assert locks(bucket) == []
    assert project.made()["slow"] == {"made": 2, "ready": True}, "adopted, not made beside the first"


def test_env_prints_the_names_of_the_keys_and_plain_pulumi_opens_the_state(project: Project, region: Region) -> None:
    project.want({"a": {}})
    stack = Stack(region, project=project.root)
    assert stack.up().ok
    lines = [f"unset {' '.join(environment.lies_around(region))}"]
    lines += [f"export {name}='{value}'" for name, value in stack.exports().items()]
    lines += [f'export {name}="${{{held}-}}"' for name, held in environment.references(region).items()]
    script = "\n".join([*lines, f"exec pulumi stack ls --json -C {project.root}"])
    assert "no-secret-at-all" not in script
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [row["name"] for row in json.loads(done.stdout)] == [NAME]
    assert stack.destroy().ok
