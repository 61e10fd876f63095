"""The client of the front door. Real: TLS, HTTP, sockets; the server behind them answers from a script."""

from __future__ import annotations

import itertools
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aifactory.serving.client import Client, Completion, ServingError, Usage, events
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.serving import certificates

Answer = Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]


class Door:
    """A TLS server on loopback; `answer` is what it does with a POST."""

    def __init__(self, folder: Path) -> None:
        self.ca, certificate, key = certificates.make()
        (folder / "door.pem").write_text(certificate + key)
        self.answer: Answer = lambda handler, body: None
        self.seen: list[tuple[str, str]] = []
        door = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                door.seen.append((self.path, self.headers.get("authorization", "")))
                door.answer(self, json.loads(self.rfile.read(int(self.headers["content-length"]))))

            def do_GET(self) -> None:
                door.seen.append((self.path, self.headers.get("authorization", "")))
                send(self, 200, {"ok": True})

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "door.pem")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def client(self, ca: str | None = None) -> Client:
        return Client(f"https://127.0.0.1:{self.server.server_address[1]}", ca or self.ca, "t-key", timeout_s=5)


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    door = Door(tmp_path)
    yield door
    door.server.shutdown()
    door.server.server_close()


def send(handler: BaseHTTPRequestHandler, status: int, value: object) -> None:
    data = json.dumps(value).encode()
    handler.send_response(status)
    handler.send_header("content-length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def stream(*pieces: str, end: bool = True) -> Answer:
    def answer(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        handler.send_response(200)
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        for piece in pieces:
            data = f"data: {piece}\n\n".encode()
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        if end:
            handler.wfile.write(b"0\r\n\r\n")
        else:
            handler.close_connection = True

    return answer


def chunk(text: str | None = None, finish: str | None = None, **more: object) -> str:
    return json.dumps({"choices": [{"delta": {"content": text} if text else {}, "finish_reason": finish}], **more})


def test_complete_returns_text_end_and_usage(door: Door) -> None:
    choice = {"message": {"content": "hello"}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    door.answer = lambda handler, body: send(handler, 200, {"choices": [choice], "usage": usage})
    assert door.client().complete("chat", "hi", temperature=0) == Completion("hello", "stop", Usage(3, 2))
    assert door.seen == [("/v1/chat/completions", "Bearer t-key")]


def test_stream_yields_pieces_and_keeps_the_whole(door: Door) -> None:
    usage = json.dumps({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})
    door.answer = stream(chunk("he"), chunk("llo"), chunk(finish="stop"), usage, "[DONE]")
    answer = door.client().stream("chat", "hi")
    assert list(answer) == ["he", "llo"]
    assert answer.completion == Completion("hello", "stop", Usage(3, 2))


def test_stream_asks_for_a_stream_with_usage(door: Door) -> None:
    bodies: list[dict[str, Any]] = []

    def answer(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        bodies.append(body)
        stream(chunk("x", "stop"), "[DONE]")(handler, body)

    door.answer = answer
    list(door.client().stream("chat", "hi", max_tokens=5))
    assert bodies[0]["stream"] is True
    assert bodies[0]["stream_options"] == {"include_usage": True}
    assert (bodies[0]["model"], bodies[0]["max_tokens"]) == ("chat", 5)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (stream(chunk("he"), end=False), "cut off"),
        (stream(chunk("he"), "[DONE]"), "cut off"),
        (stream(chunk("he"), '{"error": {"message": "out of memory"}}'), "out of memory"),
        (stream("not json"), "something else than JSON"),
        (stream("[1]"), "something else than an event"),
    ],
    ids=["connection closed", "no end", "error inside", "not json", "not an object"],
)
def test_stream_that_goes_wrong_is_an_error(door: Door, answer: Answer, words: str) -> None:
    door.answer = answer
    with pytest.raises(ServingError, match=words):
        list(door.client().stream("chat", "hi"))


@pytest.mark.parametrize("ask", ["complete", "stream"])
def test_refused_request_shows_status_and_the_server_s_words(door: Door, ask: str) -> None:
    door.answer = lambda handler, body: send(handler, 429, {"error": {"message": "slow down"}})
    client = door.client()
    with pytest.raises(ServingError, match="429: slow down") as caught:
        client.complete("chat", "hi") if ask == "complete" else list(client.stream("chat", "hi"))
    assert caught.value.status == 429
    assert "t-key" not in str(caught.value)


@pytest.mark.parametrize("value", [{}, {"choices": []}, [], {"choices": [{"message": None}]}])
def test_answer_that_is_no_completion_is_an_error(door: Door, value: object) -> None:
    door.answer = lambda handler, body: send(handler, 200, value)
    with pytest.raises(ServingError, match="not a completion"):
        door.client().complete("chat", "hi")


def test_certificate_of_another_ca_is_refused_before_the_key_is_sent(door: Door) -> None:
    other = certificates.make()[0]
    with pytest.raises(ServingError, match="CERTIFICATE_VERIFY_FAILED") as caught:
        door.client(other).complete("chat", "hi")
    assert caught.value.status is None
    assert door.seen == []


def test_no_server_is_an_error_without_a_status(door: Door) -> None:
    door.server.server_close()
    with pytest.raises(ServingError, match="cannot be reached"):
        door.client().complete("chat", "hi")


def test_request_without_key_sends_none(door: Door) -> None:
    assert door.client().request("GET", "/v1/models", with_key=False)[0] == 200
    assert door.seen == [("/v1/models", "")]


def test_environment_s_proxy_is_not_used(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert door.client().request("GET", "/v1/models")[0] == 200


def test_key_is_not_in_the_repr(door: Door) -> None:
    assert "t-key" not in repr(door.client())


STREAM = 'data: {"a": "é"}\r\n\r\n: ping\n\nevent: x\r\ndata: one\r\ndata: two\n\rdata:last\r\rdata: cut'
DATA = ['{"a": "é"}', "one\ntwo", "last"]


@given(st.lists(st.integers(0, len(STREAM.encode())), max_size=12))
def test_events_are_the_same_however_the_bytes_are_cut(cuts: list[int]) -> None:
    raw = STREAM.encode()
    edges = [0, *sorted(cuts), len(raw)]
    assert list(events(raw[a:b] for a, b in itertools.pairwise(edges))) == DATA
