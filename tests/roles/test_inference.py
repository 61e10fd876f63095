"""The role inference on real nodes, and the front door before it: every way a replica is run, every way it goes.

Real: everything (containers with systemd and sshd, podman inside, the engine image, the model, HAProxy, TLS).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from aifactory.acceptance.verify import verify_region
from aifactory.hosts import run as hosts_run
from aifactory.hosts.play import Play
from aifactory.provider.host.keys import KeysOutputs
from aifactory.provider.service.front_door import FrontDoor
from aifactory.provider.service.service import Replica, Service, ServiceInputs
from aifactory.serving import golden, image, units
from aifactory.serving.client import Client, ServingError

from tests.roles import serving
from tests.roles.conftest import Node, Site

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def engine_image() -> image.Image:
    golden.ensure(golden.folder())
    return image.build("llama-cpp")


@pytest.fixture(scope="module")
def pair(site: Site, nodes: Callable[..., tuple[Node, ...]]) -> tuple[Node, ...]:
    """Two nodes on which the layers below have run."""
    made = nodes("ia", "ib")
    play = Play("site.yml", "configuration", tuple(n.host for n in made), ("host", "fabric", "gpu", "runtime"))
    result = hosts_run.run_play(play, site.ssh, key=serving.KEY, progress=print)
    assert result.failed() == {}
    return made


@pytest.fixture(scope="module")
def front(nodes: Callable[..., tuple[Node, ...]]) -> Node:
    return nodes("if", pool="front")[0]


@pytest.fixture(scope="module")
def keys(front: Node) -> KeysOutputs:
    return serving.make_keys(front)


@pytest.fixture(scope="module")
def given(pair: tuple[Node, ...], engine_image: image.Image, keys: KeysOutputs) -> ServiceInputs:
    return ServiceInputs(
        region="t-region", hosts=tuple(n.host for n in pair), service="chat", model="golden-tiny", engine="llama-cpp",
        image_archive=Path(engine_image.archive).name, image_id=engine_image.image_id, model_file=golden.FILE,
        model_sha256=golden.SHA256, context_tokens=4096, parallel_requests=2, upstream_key=keys.upstream_key,
        replicas=tuple(Replica(i, n.host.name, 8000) for i, n in enumerate(pair)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def runs(site: Site, given: ServiceInputs) -> dict[str, hosts_run.RunResult]:
    return serving.four_runs(site, Service(), given)


@pytest.fixture(scope="module")
def door(
    site: Site, front: Node, keys: KeysOutputs, given: ServiceInputs, runs: dict[str, hosts_run.RunResult]
) -> Client:
    """A client of a front door before both replicas."""
    inputs = serving.door_inputs(front, keys, Service().more_outputs(given)["endpoints"])
    result = serving.run(site, FrontDoor(), inputs)
    assert result.failed() == {}
    print("front door", result.seconds)
    return serving.door_client(inputs, keys)


@pytest.mark.parametrize("step", ["check before", "first", "second", "check after"])
def test_every_run_reaches_the_end(runs: dict[str, hosts_run.RunResult], step: str) -> None:
    assert runs[step].failed() == {}


@pytest.mark.parametrize("step", ["second", "check after"])
def test_converged_host_nothing_changes(runs: dict[str, hosts_run.RunResult], step: str) -> None:
    assert sum(o.changed for o in runs[step].hosts.values()) == 0


def test_check_before_says_what_would_change(runs: dict[str, hosts_run.RunResult]) -> None:
    assert all(outcome.changed >= 4 for outcome in runs["check before"].hosts.values())


def test_replica_runs_as_a_quadlet_of_the_pinned_image(
    runs: dict[str, hosts_run.RunResult], pair: tuple[Node, ...], engine_image: image.Image
) -> None:
    assert pair[0].sh("systemctl is-active aifactory-chat-0.service") == "active"
    assert pair[0].sh("cd /etc/containers/systemd; ls *.container") == "aifactory-chat-0.container"
    assert pair[0].sh("podman inspect -f '{{.Image}}' aifactory-chat-0") == engine_image.image_id


def test_container_is_hardened(runs: dict[str, hosts_run.RunResult], pair: tuple[Node, ...]) -> None:
    status = pair[0].sh("cat /proc/$(systemctl show -p MainPID --value aifactory-chat-0)/status | head -1; "
                        "cat /proc/$(podman inspect -f '{{.State.Pid}}' aifactory-chat-0)/status")  # fmt: skip
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split("\t") == ["65534"] * 4
    assert fields["CapBnd"].strip() == fields["CapEff"].strip() == "0" * 16
    assert fields["NoNewPrivs"].strip() == "1"
    assert pair[0].sh("podman inspect -f '{{.HostConfig.ReadonlyRootfs}}' aifactory-chat-0") == "true"


def test_key_is_in_no_argument_and_no_open_file(
    runs: dict[str, hosts_run.RunResult], pair: tuple[Node, ...], keys: KeysOutputs
) -> None:
    assert pair[0].sh("stat -c '%a %U' /etc/aifactory/inference/chat.env") == "600 root"
    assert keys.upstream_key not in pair[0].sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert keys.upstream_key not in pair[0].sh("journalctl --no-pager; grep -r . /var/lib/aifactory || true")


def test_engine_asks_for_the_key_and_hides_its_insides(
    runs: dict[str, hosts_run.RunResult], pair: tuple[Node, ...], keys: KeysOutputs
) -> None:
    script = """
import sys, urllib.error, urllib.request
key = open("/etc/aifactory/inference/chat.env").read().strip().rpartition("=")[2]
def ask(path, key):
    request = urllib.request.Request(sys.argv[1] + path, headers={"authorization": "Bearer " + key})
    try:
        return urllib.request.urlopen(request).status
    except urllib.error.HTTPError as error:
        return error.code
print(ask("/v1/models", ""), ask("/v1/models", key), ask("/health", ""), ask("/slots", key))
"""
    url = f"http://{pair[0].host.node_address}:8000"
    done = pair[0].engine.execute(pair[0].name, "python3", "-c", script, url)
    assert done.stdout.split() == [b"401", b"200", b"200", b"501"]


def test_region_is_accepted(
    site: Site, door: Client, pair: tuple[Node, ...], front: Node, given: ServiceInputs
) -> None:
    verdicts = verify_region(
        hosts=(*given.hosts, front.host), ssh=site.ssh, endpoint=door.endpoint, ca_certificate=door.ca_pem,
        client_key=door.key, services=({"name": "chat"},),
        units={pair[0].host.name: (units.replica("chat", 0),), front.host.name: (units.FRONT_DOOR,)},
    )  # fmt: skip
    for verdict in verdicts:
        print(verdict)
    assert {v.verdict for v in verdicts} == {"pass"}
    assert len(verdicts) == 14


def test_answer_is_the_sentence_of_the_model(door: Client) -> None:
    assert door.complete("chat", "What is the capital of Norway?").text.strip() == golden.REPLY


@dataclass
class Asker:
    """Asks without pause from several threads until stopped; keeps what came back."""

    client: Client
    options: dict[str, Any] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Asker:
        self._threads = [threading.Thread(target=self._ask) for _ in range(3)]
        for thread in self._threads:
            thread.start()
        time.sleep(0.5)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._stop.is_set():
            begun = time.monotonic()
            try:
                answer = self.client.complete("chat", "hello", **self.options)
                if answer.text.strip() != golden.REPLY:
                    self.errors.append(f"text {answer.text!r}")
            except ServingError as error:
                self.errors.append(str(error))
            self.seconds.append(time.monotonic() - begun)
            time.sleep(0.02)


STOPS = {
    "unit stopped": ("systemctl stop aifactory-chat-1", "systemctl start aifactory-chat-1"),
    "engine killed": ("kill -9 $(podman inspect -f '{{.State.Pid}}' aifactory-chat-1)", "true"),
    "engine cut off": (
        "iptables -I INPUT -p tcp --dport 8000 -j DROP",
        "iptables -D INPUT -p tcp --dport 8000 -j DROP",
    ),
    "engine paused": (
        "kill -STOP $(pgrep -f '/[s]erve.py --alias chat')",
        "kill -CONT $(pgrep -f '/[s]erve.py --alias chat')",
    ),
}


@pytest.mark.parametrize("how", list(STOPS))
def test_replica_lost_no_client_sees_an_error(door: Client, pair: tuple[Node, ...], how: str) -> None:
    stop, start = STOPS[how]
    _until_ready(door, 2)
    with Asker(door) as asker:
        pair[1].sh(stop)
        time.sleep(4)
        pair[1].sh(start)
        time.sleep(1)
    print(how, len(asker.seconds), "answers, slowest", max(asker.seconds))
    assert asker.errors == []
    assert len(asker.seconds) > 100
    assert max(asker.seconds) < 4


@pytest.mark.parametrize(("lose", "find"), [("pause", "unpause"), ("stop", "start"), ("kill", "start")])
def test_node_lost_no_client_sees_an_error(door: Client, pair: tuple[Node, ...], lose: str, find: str) -> None:
    _until_ready(door, 2)
    with Asker(door) as asker:
        pair[1].engine.run(lose, pair[1].name)
        time.sleep(4)
        pair[1].engine.run(find, pair[1].name)
        time.sleep(1)
    print(lose, len(asker.seconds), "answers, slowest", max(asker.seconds))
    assert asker.errors == []
    assert max(asker.seconds) < 5
    _until_ready(door, 2)


def test_answers_that_run_are_finished_when_a_replica_stops(door: Client, pair: tuple[Node, ...]) -> None:
    _until_ready(door, 2)
    texts: list[str] = []

    def read() -> None:
        pieces = []
        for piece in door.stream("chat", "hello", ignore_eos=True, max_tokens=3000, temperature=0):
            pieces.append(piece)
            time.sleep(0.0005)
        texts.append("".join(pieces))

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    time.sleep(0.5)
    pair[1].sh("systemctl stop aifactory-chat-1")
    for reader in readers:
        reader.join()
    pair[1].sh("systemctl start aifactory-chat-1")
    assert len(texts) == 4
    assert len(set(texts)) == 1


def test_changed_setting_rolls_without_an_error(
    site: Site, door: Client, pair: tuple[Node, ...], given: ServiceInputs
) -> None:
    _until_ready(door, 2)
    before = [n.sh("systemctl show -p InvocationID --value 'aifactory-chat-*.service'") for n in pair]
    with Asker(door) as asker:
        result = serving.run(site, Service(), replace(given, parallel_requests=3))
    after = [n.sh("systemctl show -p InvocationID --value 'aifactory-chat-*.service'") for n in pair]
    assert result.failed() == {}
    assert all(old != new for old, new in zip(before, after, strict=True))
    assert asker.errors == []


def test_files_written_and_unit_not_restarted_next_run_restarts(
    site: Site, pair: tuple[Node, ...], given: ServiceInputs
) -> None:
    """As after a run that was killed between the two."""
    assert serving.run(site, Service(), replace(given, parallel_requests=3)).failed() == {}
    before = pair[0].sh("systemctl show -p InvocationID --value aifactory-chat-0")
    pair[0].sh("touch /etc/containers/systemd/aifactory-chat-0.container")
    result = serving.run(site, Service(), replace(given, parallel_requests=3))
    assert result.hosts[pair[0].host.name].changed == 1
    assert result.hosts[pair[1].host.name].changed == 0
    assert pair[0].sh("systemctl show -p InvocationID --value aifactory-chat-0") != before


def test_damaged_model_is_replaced(site: Site, pair: tuple[Node, ...], given: ServiceInputs) -> None:
    path = f"/var/lib/aifactory/models/{golden.SHA256}.gguf"
    pair[0].sh(f"printf x | dd of={path} bs=1 seek=5000 conv=notrunc status=none")
    result = serving.run(site, Service(), replace(given, parallel_requests=3))
    assert result.failed() == {}
    assert pair[0].sh(f"sha256sum {path}").split()[0] == golden.SHA256


def test_wrong_model_file_is_not_installed(
    site: Site, pair: tuple[Node, ...], given: ServiceInputs, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.gguf"
    wrong.write_bytes(golden.content()[:-1] + b"x")
    play = Service().play(replace(given, model_sha256="0" * 64))
    play = replace(play, local_vars={"inference": {**play.local_vars["inference"], "model_file": str(wrong)}})
    result = hosts_run.run_play(play, site.ssh, key=serving.KEY)
    message = result.hosts[pair[0].host.name].message or ""
    assert "the model arrived with SHA-256" in message
    assert pair[0].sh("ls /var/lib/aifactory/models") == f"{golden.SHA256}.gguf"
    assert pair[0].sh("ls /var/tmp") == ""
    assert pair[0].sh("systemctl is-active aifactory-chat-0") == "active"


def test_change_that_does_not_come_up_is_tried_on_one_node_only(
    site: Site, pair: tuple[Node, ...], given: ServiceInputs
) -> None:
    """And the engine's last words are in the message, long before the time to start is over."""
    assert serving.run(site, Service(), given).failed() == {}
    pair[0].sh("systemd-run --unit t-blocker python3 -m http.server --bind $(hostname -I | cut -d' ' -f1) 8077")
    before = pair[1].sh("systemctl show -p InvocationID --value aifactory-chat-1")
    play = Service().play(replace(given, replicas=tuple(replace(r, port=8077) for r in given.replicas)))
    play = replace(play, role_vars={"inference": {**play.role_vars["inference"], "start_timeout_s": 300}})
    result = hosts_run.run_play(play, site.ssh, key=serving.KEY)
    assert result.seconds < 120
    pair[0].sh("systemctl stop t-blocker")
    first, second = (result.hosts[node.host.name] for node in pair)
    assert first.failed_task == "inference : Try the change on the first node"
    assert "aifactory-chat-0.service" in (first.message or "")
    assert "cannot serve" in (first.message or "")
    assert second.status == "aborted"
    assert pair[1].sh("systemctl show -p InvocationID --value aifactory-chat-1") == before
    assert serving.run(site, Service(), given).failed() == {}


@pytest.mark.parametrize("driver", ["container", "process", "quadlet"])
def test_other_driver_takes_over_and_converges(
    site: Site, pair: tuple[Node, ...], given: ServiceInputs, keys: KeysOutputs, driver: str
) -> None:
    play = Service().play(given)
    play = replace(play, role_vars={"inference": {**play.role_vars["inference"], "driver": driver}})
    first = hosts_run.run_play(play, site.ssh, key=serving.KEY, progress=print)
    assert first.failed() == {}
    again = hosts_run.run_play(play, site.ssh, key=serving.KEY)
    assert sum(o.changed for o in again.hosts.values()) == 0
    assert pair[0].sh("systemctl is-active aifactory-chat-0") == "active"
    files = pair[0].sh("ls /etc/containers/systemd /etc/systemd/system | grep aifactory-chat || true").split()
    assert files == ["aifactory-chat-0.container" if driver == "quadlet" else "aifactory-chat-0.service"]
    if driver == "process":
        assert pair[0].sh("ps -o user= -C python3 | sort -u | grep -c aifactory") == "1"
        assert pair[0].sh("podman ps -q") == ""
    assert keys.upstream_key not in pair[0].sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")


def test_no_replicas_leaves_nothing(site: Site, pair: tuple[Node, ...], given: ServiceInputs) -> None:
    assert serving.run(site, Service(), replace(given, replicas=())).failed() == {}
    for node in pair:
        assert node.sh("systemctl list-units --all --plain --no-legend 'aifactory-*'") == ""
        assert (
            node.sh("ls /etc/containers/systemd /var/lib/aifactory/models /etc/aifactory/inference").count("chat") == 0
        )
        assert node.sh("podman images -q --filter label=aifactory.engine") == ""
        assert node.sh("ls /var/lib/aifactory/models") == ""


def _until_ready(door: Client, replicas: int) -> None:
    deadline = time.monotonic() + 20
    while f'"replicas_ready":{replicas}' not in door.request("GET", "/v1/models")[1]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
