"""A server on loopback that answers as it is told and remembers what it got, for tests of clients."""

from __future__ import annotations

import threading
import urllib.parse
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aifactory.provider.aws.cloud import CloudInput

ACCOUNT = "123456789012"
KEYS = {"T_ACCESS_KEY_ID": "AKIAOURS", "T_SECRET_ACCESS_KEY": "ours"}
SERVICES = {
    "ec2": "describe_vpcs", "elbv2": "describe_load_balancers", "iam": "list_roles", "kms": "list_aliases",
    "s3": "list_buckets", "fsx": "describe_file_systems", "sts": "get_caller_identity", "ssm": "describe_parameters",
    "service-quotas": "list_services",
}  # fmt: skip
"""Every service that the toolkit speaks to, and a read of it that needs no parameters."""


@dataclass
class Answer:
    """`cut`: the connection is closed without one."""

    body: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False


CUT = Answer(cut=True)
IDENTITY = Answer(
    '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>'
    f"<Account>{ACCOUNT}</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
)


def ec2(action: str, inner: str = "") -> Answer:
    return Answer(f'<{action}Response xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">{inner}</{action}Response>')


def ec2_error(code: str, status: int = 400) -> Answer:
    inner = f"<Errors><Error><Code>{code}</Code><Message>told to</Message></Error></Errors>"
    return Answer(f"<Response>{inner}<RequestID>0</RequestID></Response>", status)


@dataclass
class Request:
    method: str
    path: str
    action: str
    body: bytes
    headers: dict[str, str]

    @property
    def key_id(self) -> str:
        return self.headers.get("Authorization", "").partition("Credential=")[2].partition("/")[0]


class Loopback(ThreadingHTTPServer):
    """`say(action, *answers)`: one after the other, the last one for ever. To any other call: 200, empty."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.connections = 0
        self.requests: list[Request] = []
        self._answers: dict[str, deque[Answer]] = defaultdict(deque)
        self._mutex = threading.Lock()
        self.say("GetCallerIdentity", IDENTITY)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def say(self, action: str, *answers: Answer) -> None:
        self._answers[action] = deque(answers)

    def count(self, action: str) -> int:
        return sum(request.action == action for request in self.requests)

    def cloud(self, key: str = "aws-eusc", region: str = "eusc-de-east-1", **more: Any) -> CloudInput:
        endpoints = dict.fromkeys(SERVICES, self.url)
        return CloudInput(key, region, ACCOUNT, **{"endpoints": endpoints, "env_prefix": "T_", **more})

    def get_request(self) -> Any:
        self.connections += 1
        return super().get_request()

    def answer(self, request: Request) -> Answer:
        with self._mutex:
            self.requests.append(request)
            said = self._answers[request.action] or self._answers[request.method]
            if said:
                return said.popleft() if len(said) > 1 else said[0]
        empty = f"<{request.action}Response><{request.action}Result/></{request.action}Response>"
        return Answer("{}" if "X-Amz-Target" in request.headers else empty if request.action else "")


class _Handler(BaseHTTPRequestHandler):
    server: Loopback
    protocol_version = "HTTP/1.1"

    def do_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        action = (self.headers.get("X-Amz-Target") or "").rpartition(".")[2]
        if not action and "x-www-form-urlencoded" in (self.headers.get("Content-Type") or ""):
            action = urllib.parse.parse_qs(body.decode())["Action"][0]
        answer = self.server.answer(Request(self.command, self.path, action, body, dict(self.headers)))
        if answer.cut:
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body.encode())))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body.encode())

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = do_any

    def log_message(self, format: str, *args: Any) -> None: ...


@contextmanager
def serving() -> Iterator[Loopback]:
    server = Loopback()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
