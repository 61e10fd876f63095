"""The local region from its file to an answered completion, and its life after. Nothing is simulated."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import urllib.error
import urllib.request

import pytest

from tests.e2e.driver import REPO, LocalRegion, eventually, podman

pytestmark = [pytest.mark.e2e, pytest.mark.engine, pytest.mark.containers, pytest.mark.timeout(600)]

SENTENCE = "I am a test model with constructed weights: this fixed sentence proves the path, not any knowledge."


def ask(region: LocalRegion) -> str:
    return region.ok("ask", "Who are you?").strip()


def outputs(region: LocalRegion) -> dict[str, str]:
    env = {**region.env, **region.json("env")}
    done = subprocess.run(
        ["pulumi", "stack", "output", "--json", "--show-secrets", "-s", region.name],
        env=env, cwd=REPO, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return dict(json.loads(done.stdout))


def test_ask_streams_the_answer_of_the_model(standing: LocalRegion) -> None:
    assert ask(standing) == SENTENCE


def test_every_check_is_proved(standing: LocalRegion) -> None:
    verdicts = standing.json("verify")["verdicts"]
    assert {v["check"] for v in verdicts} >= {"host.ssh", "host.units", "door.key", "door.paths", "service.completion"}
    assert [v for v in verdicts if v["verdict"] != "pass"] == []


def test_unchanged_up_changes_nothing_and_opens_no_ssh(standing: LocalRegion) -> None:
    nodes = list(standing.containers())
    before = {n: standing.ssh_logins(n) for n in nodes}
    assert all(before.values()), "the first up must have logged in everywhere"
    result = standing.json("up", "--yes")
    assert set(result["changes"]) == {"same"}
    assert {n: standing.ssh_logins(n) for n in nodes} == before


def test_plain_pulumi_sees_the_same_region(standing: LocalRegion) -> None:
    env = {**standing.env, **standing.json("env")}
    config = ["--config-file", str(standing.regions / f"Pulumi.{standing.name}.yaml")]
    done = subprocess.run(
        ["pulumi", "preview", "-s", standing.name, "--expect-no-changes", "--non-interactive", *config],
        env=env, cwd=REPO, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_forced_second_ansible_run_changes_nothing(standing: LocalRegion) -> None:
    """Markers removed behind its back: refresh sees it, up runs every play again, and only the marker changes."""
    for name in standing.containers():
        podman("exec", name, "sh", "-c", "rm -f /var/lib/aifactory/*.json")
    standing.ok("refresh", "--yes")
    again = standing.run("up", "--yes")
    assert again.returncode == 0, again.stderr
    told = re.findall(r"(\d+) hosts? converged, (\d+) tasks? changed", again.stderr)
    # two pools, the service, the front door; the one task that changes anything is the marker's own
    assert sorted(told) == [("1", "1"), ("1", "1"), ("2", "2"), ("2", "2")], again.stderr


@pytest.mark.parametrize("how", ["stop", "kill", "pause"])
def test_with_one_replica_gone_the_front_door_goes_on_answering(standing: LocalRegion, how: str) -> None:
    node = standing.node(0)
    podman(how, node)
    try:
        assert [ask(standing) for _ in range(6)] == [SENTENCE] * 6
    finally:
        podman("unpause" if how == "pause" else "start", node)
    assert eventually(lambda: standing.run("verify").returncode == 0, 60)


def test_only_listed_paths_and_only_with_a_key(standing: LocalRegion) -> None:
    out = outputs(standing)
    context = ssl.create_default_context(cadata=out["ca_certificate"])

    def status(path: str, key: str | None) -> int:
        request = urllib.request.Request(out["endpoint"] + path)
        if key:
            request.add_header("Authorization", f"Bearer {key}")
        try:
            with urllib.request.urlopen(request, context=context, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    key = out["client_key"]
    assert status("/v1/models", key) == 200
    assert status("/v1/models", None) == 401
    assert status("/v1/models", "wrong") == 401
    assert status("/slots", key) == 404
    assert status("/v1/health/live", None) == 200
    assert status("/v1/health/ready", None) == 200
    assert status("/v1/metadata", key) == 200
    assert status("/v1/metrics", key) == 200


def test_a_killed_node_is_made_again_and_the_rest_is_left_alone(standing: LocalRegion) -> None:
    before = standing.containers()
    lost = standing.node(1)
    podman("rm", "-f", lost)
    standing.ok("up", "--yes")
    after = standing.containers()
    assert after.keys() == before.keys()
    assert {n for n in before if after[n] != before[n]} == {lost}
    assert ask(standing) == SENTENCE


def test_two_nodes_are_added_and_one_is_removed_without_touching_the_rest(standing: LocalRegion) -> None:
    before = standing.containers()
    standing.write(nodes=4)
    standing.ok("up", "--yes")
    grown = standing.containers()
    assert set(grown) - set(before) == {standing.node(2), standing.node(3)}
    assert {n: grown[n] for n in before} == before
    standing.write(nodes=3)
    standing.ok("up", "--yes")
    shrunk = standing.containers()
    assert set(grown) - set(shrunk) == {standing.node(3)}
    assert {n: shrunk[n] for n in before} == before


def test_no_secret_stands_in_state_events_or_config(standing: LocalRegion) -> None:
    out = outputs(standing)
    secrets = [out["client_key"], out["ssh_private_key"].splitlines()[1]]
    files = [p for root in (standing.home, standing.regions) for p in root.rglob("*") if p.is_file()]
    assert files
    for path in files:
        raw = path.read_bytes()
        if path.suffix == ".zst":
            raw = subprocess.run(["zstd", "-dcq", str(path)], capture_output=True, check=True).stdout
        for secret in secrets:
            assert secret.encode() not in raw, path
