"""The front door's configuration in a real HAProxy on loopback.

Real: HAProxy, TLS, TCP, processes that are stopped, killed and paused. Not real: the engines (upstream.py answers
slowly enough to be lost in the middle); tests/roles/test_inference.py has real ones.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from aifactory.serving.client import ServingError

from tests.unit.serving import doors
from tests.unit.serving.doors import Door, Upstream

pytestmark = [
    pytest.mark.skipif(not doors.binary(), reason="HAProxy is not installed: apt-get install haproxy"),
    pytest.mark.skipif(os.geteuid() != 0, reason="HAProxy changes its user and root: run as root"),
    pytest.mark.timeout(60),
]

KEY, SLOW = "t-key", "t-limited-key"
CHAT = "/v1/chat/completions"


@contextlib.contextmanager
def running(folder: Path) -> Iterator[tuple[Door, tuple[Upstream, Upstream]]]:
    pair = (Upstream(), Upstream())
    for upstream in pair:
        upstream.start()
    door = doors.start(folder, pair, {KEY: None, SLOW: 3}, body_limit_bytes=200_000)
    try:
        yield door, pair
    finally:
        door.process.terminate()
        door.process.wait()
        for upstream in pair:
            upstream.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Door, tuple[Upstream, Upstream]]]:
    """For tests that harm nothing."""
    with running(tmp_path_factory.mktemp("door")) as everything:
        yield everything


@pytest.fixture(scope="module")
def door(shared: tuple[Door, tuple[Upstream, Upstream]]) -> Door:
    return shared[0]


@pytest.fixture(scope="module")
def upstreams(shared: tuple[Door, tuple[Upstream, Upstream]]) -> tuple[Upstream, Upstream]:
    return shared[1]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[tuple[Door, tuple[Upstream, Upstream]]]:
    """A door and replicas to break."""
    with running(tmp_path) as everything:
        yield everything


def ask(door: Door, body: Any = None, key: str = KEY, **more: Any) -> tuple[int, dict[str, Any]]:
    status, text = door.client(key).request("POST", CHAT, body=body if body is not None else {"model": "chat", **more})
    return status, json.loads(text)


def http(door: Door) -> httpx.Client:
    client = door.client(KEY)
    context = ssl.create_default_context(cadata=client.ca_pem)
    return httpx.Client(
        base_url=client.endpoint, verify=context, headers={"authorization": f"Bearer {KEY}"}, timeout=20
    )


# -- who may ask what


@pytest.mark.parametrize(
    ("method", "path", "without_key", "with_key"),
    [
        ("GET", "/v1/health/live", 200, 200),
        ("GET", "/v1/health/ready", 200, 200),
        ("GET", "/v1/models", 401, 200),
        ("GET", "/v1/models/chat", 401, 200),
        ("GET", "/v1/metadata", 401, 200),
        ("GET", "/v1/version", 401, 200),
        ("GET", "/v1/metrics", 401, 200),
        ("POST", CHAT, 401, 400),
        ("POST", "/v1/completions", 401, 400),
        ("GET", "/v1/models/other", 404, 404),
        ("GET", "/slots", 404, 404),
        ("GET", "/", 404, 404),
        ("GET", "/v1/health/ready/", 404, 404),
        ("GET", "/health", 404, 404),
        ("POST", "/v1/embeddings", 404, 404),
        ("GET", CHAT, 405, 405),
        ("DELETE", "/v1/models", 405, 405),
    ],
)
def test_path_is_open_closed_or_not_there(door: Door, method: str, path: str, without_key: int, with_key: int) -> None:
    client = door.client(KEY)
    assert client.request(method, path, with_key=False)[0] == without_key
    assert client.request(method, path)[0] == with_key


def test_refusals_are_errors_of_openai_s_form(door: Door) -> None:
    for path, code in (("/v1/models", "invalid_api_key"), ("/slots", "not_found")):
        error = json.loads(door.client(KEY).request("GET", path, with_key=False)[1])["error"]
        assert error["code"] == code
        assert set(error) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    "header", ["Bearer wrong", "Bearer", "", "Basic dC1rZXk=", KEY, f"Bearer {KEY} x y", "Bearer " + "x" * 5000]
)
def test_wrong_key_is_refused(door: Door, header: str) -> None:
    with http(door) as client:
        answer = client.get("/v1/models", headers={"authorization": header})
    expected = 200 if header.split()[:2] == ["Bearer", KEY] else 401
    assert answer.status_code == expected


def test_client_s_key_stays_at_the_door(door: Door, upstreams: tuple[Upstream, Upstream]) -> None:
    with http(door) as client:
        port = client.post(CHAT, json={"model": "chat"}, headers={"authorization": f"bearer {KEY}"}).json()["port"]
    seen = httpx.get(f"http://127.0.0.1:{port}/seen", trust_env=False).json()["headers"]
    assert seen["authorization"] == f"Bearer {doors.UPSTREAM_KEY}"
    assert KEY not in json.dumps(seen)


def test_no_key_is_in_configuration_or_log(door: Door) -> None:
    ask(door)
    text = (door.folder / "haproxy.cfg").read_text() + (door.folder / "clients.map").read_text() + door.log()
    assert KEY not in text
    assert doors.UPSTREAM_KEY not in text


def test_log_line_is_json_with_the_client_s_name(door: Door) -> None:
    ask(door, {"model": 'no"such\n'})
    lines = [json.loads(line) for line in door.log().splitlines() if line.startswith("{")]
    assert lines[-1]["client"] == "client-0"
    assert lines[-1]["status"] == 404
    assert lines[-1]["model"].startswith('no"such')


def test_old_tls_is_refused(door: Door) -> None:
    context = ssl.create_default_context(cadata=door.ca)
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = ssl.TLSVersion(0x0302)  # 1.1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with (
        socket.create_connection(("127.0.0.1", door.port)) as raw,
        pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"),
    ):
        context.wrap_socket(raw, server_hostname="localhost")


# -- what is asked


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"messages": []}, 400, "model_missing"),
        ([1], 400, "model_missing"),
        ({"model": "other"}, 404, "model_not_found"),
        ({"model": 7}, 404, "model_not_found"),
        ({"model": "chat2"}, 404, "model_not_found"),
        ({"prompt": "x" * 210_000, "model": "chat"}, 413, "request_too_large"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_request_that_names_no_served_model_never_reaches_an_engine(
    door: Door, upstreams: tuple[Upstream, Upstream], body: Any, status: int, code: str
) -> None:
    before = [upstream.posts() for upstream in upstreams]
    assert ask(door, body)[0] == status
    assert ask(door, body)[1]["error"]["code"] == code
    assert [upstream.posts() for upstream in upstreams] == before


def test_model_is_found_behind_a_long_prompt(door: Door) -> None:
    assert ask(door, {"prompt": "x" * 190_000, "model": "chat"})[0] == 200


def test_body_without_length_is_held_to_the_limit(door: Door) -> None:
    def pieces(count: int) -> Iterator[bytes]:
        yield b'{"prompt": "'
        for _ in range(count):
            yield b"x" * 10_000
        yield b'", "model": "chat"}'

    with http(door) as client:
        assert client.post(CHAT, content=pieces(30)).status_code == 413
        assert client.post(CHAT, content=pieces(15)).status_code == 200


def test_models_lists_services_with_their_ready_replicas(door: Door) -> None:
    listed = json.loads(door.client(KEY).request("GET", "/v1/models")[1])
    assert listed["object"] == "list"
    assert [(m["id"], m["root"], m["replicas_ready"]) for m in listed["data"]] == [("chat", "golden-tiny", 2)]
    assert json.loads(door.client(KEY).request("GET", "/v1/models/chat")[1])["id"] == "chat"


def test_metadata_is_nim_s(door: Door) -> None:
    value = json.loads(door.client(KEY).request("GET", "/v1/metadata")[1])
    assert value["modelInfo"] == [{"shortName": "chat", "modelUrl": "golden-tiny"}]
    assert set(value) == {"version", "modelInfo", "assetInfo", "licenseInfo"}


def test_metrics_are_prometheus(door: Door) -> None:
    text = door.client(KEY).request("GET", "/v1/metrics")[1]
    assert 'haproxy_backend_active_servers{proxy="service_chat"} 2' in text
    assert KEY not in text


def test_limit_refuses_one_client_and_lets_the_other_pass(door: Door) -> None:
    assert [ask(door, key=SLOW)[0] for _ in range(5)] == [200, 200, 200, 429, 429]
    assert ask(door, key=SLOW)[1]["error"]["code"] == "rate_limit_exceeded"
    assert ask(door)[0] == 200


def test_stream_comes_piece_by_piece(door: Door) -> None:
    begun, times = time.monotonic(), []
    with (
        http(door) as client,
        client.stream("POST", CHAT, json={"model": "chat", "stream": True, "chunks": 5, "every_s": 0.2}) as answer,
    ):
        for line in answer.iter_lines():
            if line:
                times.append(time.monotonic() - begun)
    assert len(times) == 5
    assert times[0] < 0.2
    assert all(0.1 < later - earlier < 0.4 for earlier, later in itertools.pairwise(times))


# -- replicas that go


class Busy:
    """Asks all the time, and has requests under way that take `first_s`."""

    def __init__(self, door: Door, first_s: float = 1.0) -> None:
        self.door, self.first_s = door, first_s
        self.answers: list[tuple[int, float]] = []
        self.stop = threading.Event()

    def __enter__(self) -> Busy:
        slow = [threading.Thread(target=self._once, args=(self.first_s,)) for _ in range(4)]
        quick = [threading.Thread(target=self._often) for _ in range(2)]
        self.threads = [*slow, *quick]
        for thread in self.threads:
            thread.start()
        time.sleep(0.3)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def _once(self, first_s: float) -> None:
        begun = time.monotonic()
        try:
            status = ask(self.door, first_s=first_s)[0]
        except ServingError:
            status = 0
        self.answers.append((status, time.monotonic() - begun))

    def _often(self) -> None:
        while not self.stop.is_set():
            self._once(0)
            time.sleep(0.02)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP], ids=["ended", "killed", "paused"])
def test_replica_lost_every_request_is_answered(
    own: tuple[Door, tuple[Upstream, Upstream]], how: signal.Signals
) -> None:
    door, upstreams = own
    with Busy(door) as busy:
        upstreams[0].signal(how)
        time.sleep(3.5)
    assert {status for status, _ in busy.answers} == {200}
    assert max(seconds for _, seconds in busy.answers) < 1.0 + 3.5
    assert len(busy.answers) > 50
    late = ask(door)
    assert late == (200, {"port": upstreams[1].port, "size": late[1]["size"]})


def test_replica_paused_and_back_is_used_again(own: tuple[Door, tuple[Upstream, Upstream]]) -> None:
    door, upstreams = own
    upstreams[0].signal(signal.SIGSTOP)
    _until(lambda: door.servers_up() == 1)
    upstreams[0].signal(signal.SIGCONT)
    _until(lambda: door.servers_up() == 2)
    assert {ask(door)[1]["port"] for _ in range(6)} == {u.port for u in upstreams}


def test_stream_that_has_begun_is_cut_and_not_begun_again(own: tuple[Door, tuple[Upstream, Upstream]]) -> None:
    """The client has seen a part of the answer: sending the request again would show it two."""
    door, upstreams = own
    with (
        http(door) as client,
        client.stream("POST", CHAT, json={"model": "chat", "stream": True, "chunks": 50, "every_s": 0.1}) as answer,
    ):
        lines = answer.iter_lines()
        port = json.loads(next(lines).removeprefix("data: "))["port"]
        next(u for u in upstreams if u.port == port).signal(signal.SIGKILL)
        with pytest.raises(httpx.RemoteProtocolError):
            list(lines)


def test_no_replica_left_is_said(own: tuple[Door, tuple[Upstream, Upstream]]) -> None:
    door, upstreams = own
    for upstream in upstreams:
        upstream.stop()
    assert ask(door)[0] in (502, 503)
    _until(lambda: door.servers_up() == 0)
    assert ask(door)[0] == 503
    assert ask(door)[1]["error"]["code"] == "service_unavailable"
    assert door.client(KEY).request("GET", "/v1/health/ready")[0] == 503
    assert door.client(KEY).request("GET", "/v1/health/live")[0] == 200
    assert json.loads(door.client(KEY).request("GET", "/v1/models")[1])["data"][0]["replicas_ready"] == 0


def test_reload_cuts_no_stream_and_keeps_a_drain(own: tuple[Door, tuple[Upstream, Upstream]]) -> None:
    door, upstreams = own
    server = f"service_chat/n0-{upstreams[0].port}"
    door.admin(f"set server {server} state drain")
    (door.folder / "state").write_text(door.admin("show servers state"))
    with (
        http(door) as client,
        client.stream("POST", CHAT, json={"model": "chat", "stream": True, "chunks": 15, "every_s": 0.1}) as answer,
    ):
        lines = answer.iter_lines()
        next(lines)
        for _ in range(2):
            door.process.send_signal(signal.SIGUSR2)
            time.sleep(0.5)
            assert ask(door)[1]["port"] == upstreams[1].port
        assert sum(1 for line in lines if line) == 14


def test_slow_body_is_given_up(door: Door) -> None:
    context = ssl.create_default_context(cadata=door.ca)
    with (
        socket.create_connection(("127.0.0.1", door.port)) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as tls,
    ):
        tls.sendall(
            f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: 100\r\n\r\n{{".encode()
        )
        tls.settimeout(15)
        assert b" 408 " in tls.recv(200)


def _until(condition: Any, limit_s: float = 8) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
