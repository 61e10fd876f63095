"""One llama.cpp server in one process; runs inside the engine image, on Python ≥ 3.10 and the wheel alone.

Stopping is part of the service. On SIGTERM the port is given up to a small responder that answers every health
check with 404, which a front door reads as "leaving: no new work, finish what runs"; the process ends when the
last answer has been sent, or after `--drain-s`. While the model is still loading SIGTERM ends it at once.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY_VARIABLE = "AIFACTORY_API_KEY"


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    if os.getpid() == 1:
        return supervise(lambda: serve(options))
    return serve(options)


def serve(options: argparse.Namespace) -> int:
    """Loads the model, answers until SIGTERM, drains. Until it listens, SIGTERM keeps its default: end at once."""
    try:
        _engine = start(options)
    except Exception as error:  # the native layer raises RuntimeError and others; all mean: cannot serve
        print(f"cannot serve: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return 1
    stopped = asked_to_stop()
    print(f"serving {options.alias} on {options.host}:{options.port}", flush=True)
    stopped()
    drain(options.drain_s)
    print("stopped", flush=True)
    return 0


def asked_to_stop() -> Callable[[], None]:
    """A function that returns once SIGTERM or SIGINT has come.

    The kernel may give a signal to any thread, and the main thread would sleep on; a byte in a pipe wakes it.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)

    def wait() -> None:
        os.read(reader, 1)

    return wait


def supervise(work: Callable[[], int]) -> int:
    """Runs `work` in a child and passes signals on: process 1 of a container has no default for SIGTERM."""
    child = os.fork()
    if child == 0:
        os._exit(work())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: os.kill(child, received))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code >= 0 else 128 - code


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="llama.cpp server with an OpenAI-compatible API")
    parser.add_argument("--host", required=True, help="address to listen on")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", required=True, help="GGUF file")
    parser.add_argument("--alias", required=True, help="model id that clients ask for")
    parser.add_argument("--context", type=int, required=True, help="tokens a request may use, prompt and answer")
    parser.add_argument("--parallel", type=int, required=True, help="requests worked on at once")
    parser.add_argument("--connections", type=int, default=64, help="open requests beyond which the server queues")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the engine")
    parser.add_argument("--drain-s", type=float, default=20.0, help="seconds that running answers get at a stop")
    parser.add_argument("--api-key-file", help=f"file with the key; else the variable {KEY_VARIABLE}")
    options = parser.parse_args(argv)
    options.key = read_key(options.api_key_file)
    if not options.key:
        parser.error(f"no API key: set {KEY_VARIABLE} or --api-key-file")
    return options


def read_key(path: str | None) -> str:
    if path is None:
        return os.environ.pop(KEY_VARIABLE, "").strip()
    with open(path, encoding="utf-8") as file:  # noqa: PTH123 (plain script)
        return file.read().strip()


def start(options: argparse.Namespace) -> object:
    """The native server, listening. Holds the interpreter while it loads, so that no Python handler runs."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.model_alias = {options.alias}
    params.hostnames = [options.host]
    params.port = options.port
    params.api_keys = [options.key]
    params.n_parallel = options.parallel
    params.n_ctx = options.context * options.parallel  # the server divides it among the slots
    params.cpuparams.n_threads = options.threads  # more than one spins on a busy machine: 5,000 → 70 tokens/s
    params.cpuparams_batch.n_threads = options.threads
    params.n_threads_http = options.connections + 8  # each open answer holds one; health must never wait
    params.cache_ram_mib = 0  # default: 8 GiB of old prompts
    params.cache_idle_slots = False
    params.use_jinja = True
    params.endpoint_metrics = True
    params.endpoint_slots = False
    params.endpoint_props = False
    params.ui = False
    params.verbosity = 1
    return xllamacpp.Server(params)


def drain(limit_s: float) -> None:
    """Takes the port over from the engine, then waits until its last connection has closed."""
    deadline = time.monotonic() + limit_s
    own_fds: set[int] = set()
    for number in _listening():
        responder = _take_over(number)
        own_fds.add(responder.fileno())
        threading.Thread(target=responder.serve_forever, args=(0.05,), daemon=True).start()
    while time.monotonic() < deadline and any(_connected(n) for n in _socket_fds() - own_fds - Leaving.open_fds):
        time.sleep(0.05)


def _take_over(number: int) -> ThreadingHTTPServer:
    """Answers on the engine's listening socket `number`; the engine is left with one that nobody connects to.

    Closing or shutting the socket down instead would make the engine cancel every running answer.
    """
    listener = socket.socket(fileno=os.dup(number))
    with socket.create_server(("127.0.0.1", 0)) as unused:
        os.dup2(unused.fileno(), number)
    with contextlib.suppress(OSError), socket.create_connection(listener.getsockname()[:2], timeout=1):
        pass  # the engine still waits in accept() on the old socket: this lets it go round to the new one
    responder = ThreadingHTTPServer(listener.getsockname()[:2], Leaving, bind_and_activate=False)
    responder.socket.close()
    responder.socket = listener
    return responder


class Leaving(BaseHTTPRequestHandler):
    """404 to health checks, 503 to everything else, so that a front door tries another replica."""

    open_fds: set[int] = set()  # noqa: RUF012 (shared on purpose)

    def setup(self) -> None:
        self.open_fds.add(self.request.fileno())
        super().setup()

    def finish(self) -> None:
        super().finish()
        self.open_fds.discard(self.request.fileno())

    def do_GET(self) -> None:
        self._answer(404 if self.path == "/health" else 503)

    def do_POST(self) -> None:
        self._answer(503)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: health checks come twice a second."""


def _socket_fds() -> set[int]:
    """File descriptors of this process that are sockets."""
    found = set()
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 (plain script)
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):  # noqa: PTH115
                found.add(int(name))
    return found


def _listening() -> list[int]:
    return [n for n in _socket_fds() if _ask(n, lambda s: s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))]


def _connected(number: int) -> bool:
    """Whether it is a client's connection; standard output may be a socket too, to the journal."""
    return bool(_ask(number, lambda s: s.family in (socket.AF_INET, socket.AF_INET6) and s.getpeername()))


def _ask(number: int, question: Callable[[socket.socket], object]) -> object:
    """The answer of a duplicate of that socket; None when it has gone or has none."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(number)) as duplicate:
        return question(duplicate)
    return None


if __name__ == "__main__":
    code = main()
    os._exit(code)  # the native destructor waits for its threads, which serve nobody any more
