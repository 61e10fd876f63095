"""serve.py as a process: starting, keys, and above all stopping.

Real: the script, signals, sockets. Not real: the native server, which `Server` below stands in for (Python threads
that accept and answer); tests/roles/test_inference.py has the real one.
"""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aifactory.serving import llama_cpp

from tests.unit.serving.doors import free_port

SCRIPT = Path(llama_cpp.__file__).with_name("serve.py")
STAND_IN = """
import os, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Part: pass

class CommonParams:
    def __init__(self):
        self.model, self.cpuparams, self.cpuparams_batch = Part(), Part(), Part()

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"engine")
    def do_POST(self):
        self.send_response(200); self.end_headers()
        for _ in range(100 if self.path == "/long" else 10):
            self.wfile.write(b"piece "); time.sleep(0.1)
        self.wfile.write(b"end")
    def log_message(self, *args): pass

class Server:
    def __init__(self, params):
        open(os.environ["SEEN"], "w").write(repr({**vars(params), "path": params.model.path}))
        if params.model.path == "slow": time.sleep(60)
        if params.model.path == "broken": raise RuntimeError("no such model")
        self.server = ThreadingHTTPServer((params.hostnames[0], params.port), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.loop, daemon=True).start()
    def loop(self):
        while True: self.server.handle_request()
"""


class Engine:
    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        (folder / "xllamacpp.py").write_text(STAND_IN)
        self.seen = folder / "seen"
        self.process: subprocess.Popen[bytes] | None = None

    def argv(self, *more: str, model: str = "m.gguf") -> list[str]:
        return [
            sys.executable, str(SCRIPT), "--host", "127.0.0.1", "--port", str(self.port), "--model", model,
            "--alias", "chat", "--context", "100", "--parallel", "4", *more,
        ]  # fmt: skip

    def environment(self, **more: str) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "PYTHONPATH": str(self.folder), "SEEN": str(self.seen), **more}

    def start(self, *more: str, model: str = "m.gguf", before: tuple[str, ...] = (), ready: bool = True) -> None:
        """Its standard output is a socket with a name, as under systemd."""
        journal = socket.socket(socket.AF_UNIX)
        journal.bind(str(self.folder / "journal"))
        journal.listen()
        theirs = socket.socket(socket.AF_UNIX)
        theirs.connect(journal.getsockname())
        self.output = journal.accept()[0]
        journal.close()
        self.process = subprocess.Popen(
            [*before, *self.argv(*more, model=model)],
            stdout=theirs,
            stderr=theirs,
            env=self.environment(AIFACTORY_API_KEY="k"),
        )
        theirs.close()
        if ready:
            assert self.output.recv(100) == b"serving chat on 127.0.0.1:%d\n" % self.port

    def ask(self, method: str, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read()

    def ended(self, within_s: float) -> int:
        assert self.process
        return self.process.wait(within_s)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path)
    yield engine
    if engine.process and engine.process.poll() is None:
        engine.process.kill()
        engine.process.wait()


def test_engine_gets_what_was_asked_for(engine: Engine) -> None:
    engine.start("--connections", "32", "--threads", "2")
    seen = _facts(engine)
    assert seen["api_keys"] == "['k']"
    assert seen["n_ctx"] == "400"
    assert seen["n_threads_http"] == "40"
    assert seen["endpoint_slots"] == "False"


def test_key_leaves_the_environment(engine: Engine) -> None:
    engine.start()
    assert engine.process
    assert "k" not in Path(f"/proc/{engine.process.pid}/cmdline").read_text().split("\0")


def test_key_from_a_file(engine: Engine) -> None:
    (engine.folder / "key").write_text("from-file\n")
    argv = engine.argv("--api-key-file", str(engine.folder / "key"))
    engine.process = subprocess.Popen(argv, env=engine.environment(), stdout=subprocess.PIPE)
    assert engine.process.stdout
    assert engine.process.stdout.readline().startswith(b"serving chat")
    assert _facts(engine)["api_keys"] == "['from-file']"


def test_no_key_is_an_error(engine: Engine) -> None:
    done = subprocess.run(engine.argv(), env=engine.environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no API key" in done.stderr


def test_model_that_cannot_be_loaded_is_said(engine: Engine) -> None:
    engine.start(model="broken", ready=False)
    assert engine.ended(5) == 1
    assert engine.output.recv(200) == b"cannot serve: RuntimeError: no such model\n"


def test_stop_idle_ends_at_once(engine: Engine) -> None:
    engine.start()
    begun = time.monotonic()
    engine.process.terminate()  # type: ignore[union-attr]
    assert engine.ended(5) == 0
    assert time.monotonic() - begun < 1


def test_stop_finishes_the_answer_and_turns_new_requests_away(engine: Engine) -> None:
    engine.start()
    answers: list[tuple[int, bytes]] = []
    reader = threading.Thread(target=lambda: answers.append(engine.ask("POST", "/v1/completions")))
    reader.start()
    time.sleep(0.3)
    engine.process.terminate()  # type: ignore[union-attr]
    _until(lambda: engine.ask("GET", "/health")[0] == 404)
    assert {engine.ask("POST", "/v1/completions")[0] for _ in range(6)} == {503}
    assert engine.ask("GET", "/v1/models")[0] == 503
    reader.join()
    assert answers == [(200, b"piece " * 10 + b"end")]
    assert engine.ended(3) == 0


def test_stop_waits_no_longer_than_it_may(engine: Engine) -> None:
    engine.start("--drain-s", "0.3")
    connection = http.client.HTTPConnection("127.0.0.1", engine.port, timeout=5)
    connection.request("POST", "/long")
    answer = connection.getresponse()
    engine.process.terminate()  # type: ignore[union-attr]
    assert engine.ended(5) == 0
    assert answer.read(5) == b"piece"


def test_stop_while_loading_ends_at_once(engine: Engine) -> None:
    engine.start(model="slow", ready=False)
    _until(engine.seen.exists)
    engine.process.terminate()  # type: ignore[union-attr]
    assert engine.ended(2) == -signal.SIGTERM


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a process namespace: run as root")
@pytest.mark.parametrize(("model", "code"), [("m.gguf", 0), ("slow", 143)])
def test_stop_as_process_one_ends_too(engine: Engine, model: str, code: int) -> None:
    """As in a container, where a process without a handler does not hear SIGTERM."""
    engine.start(
        model=model, before=("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"), ready=model != "slow"
    )
    _until(engine.seen.exists)
    assert engine.process
    child = int(Path(f"/proc/{engine.process.pid}/task/{engine.process.pid}/children").read_text().split()[0])
    os.kill(child, signal.SIGTERM)
    assert engine.ended(3) == code


def _facts(engine: Engine) -> dict[str, str]:
    """`name: value` of what the native server was given, as text."""
    return dict(re.findall(r"'(\w+)': (\[[^\]]*\]|\w+)", engine.seen.read_text()))


def _until(condition: Any, limit_s: float = 5) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
