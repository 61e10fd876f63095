"""A cloud on this machine for tests: moto behind one HTTP port, with what it lacks (shims) and faults on demand.

    python tests/emulator/server.py PORT        prints `ready PORT`

Calls come as they would in a cloud, region and service in the signature. `POST /__emulator__/<verb>` with a JSON body
steers it: `Control` below has one method a verb. One account, 123456789012, whatever the keys.
"""

from __future__ import annotations

import io
import json
import logging
import os
import resource
import socket
import sys
import threading
import time
import traceback
import urllib.parse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

os.environ.update(
    MOTO_ALLOW_NONEXISTENT_REGION="true",
    MOTO_ENABLE_AMI_VALIDATION="true",
    MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION="true",
    MOTO_DISABLE_GLOBAL_CORS="true",
)
sys.path.insert(0, str(Path(__file__).parents[2]))

from flask import got_request_exception
from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import ThreadedWSGIServer

from tests.emulator import shims, world
from tests.emulator.faults import OWN_ID, Bucket, Fault, Faults, Hidden
from tests.emulator.names import action_of, service_of

Answer = tuple[str, list[tuple[str, str]], bytes]
Start = Callable[[str, list[tuple[str, str]]], Any]
TOKEN_NAMES = ("ClientToken", "ClientRequestToken")


class Control:
    """What a test asks the emulator to do; every public method is a verb."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._tokens: dict[tuple[str, str], tuple[bytes, Answer]] = {}
        self._token_locks: dict[tuple[str, str], threading.Lock] = {}

    def stats(self) -> dict[str, Any]:
        used = resource.getrusage(resource.RUSAGE_SELF)
        with self._faults.mutex:
            return {
                "requests": dict(self._faults.requests),
                "throttled": dict(self._faults.throttled),
                "cpu_s": used.ru_utime + used.ru_stime,
            }

    def forget_counts(self) -> None:
        with self._faults.mutex:
            self._faults.requests.clear()
            self._faults.throttled.clear()

    def reset(self) -> None:
        """A fresh account: no objects, no faults, no counts."""
        self._faults.clear()
        self.forget_counts()
        self._tokens.clear()
        world.reset()

    def no_faults(self) -> None:
        self._faults.clear()

    def fault(self, **rule: Any) -> None:
        made = Fault(**rule)
        with self._faults.mutex:
            self._faults.rules.append(made)

    def limits(self, buckets: dict[str, list[float]]) -> None:
        with self._faults.mutex:
            self._faults.buckets = {action: Bucket(*numbers) for action, numbers in buckets.items()}

    def latency(self, ms: float) -> None:
        self._faults.latency_s = ms / 1000

    def deny(self, actions: dict[str, str]) -> None:
        """Permissions that the keys lack: API action → IAM action (`ec2:RunInstances`)."""
        with self._faults.mutex:
            self._faults.denied = dict(actions)
        world.state.denied = set(actions.values())

    def invisible(self, action: str, reads: int, seconds: float) -> None:
        if action not in OWN_ID:
            raise ValueError(f"{action} cannot hide what is new; those that can: {', '.join(OWN_ID)}; else use fault")
        with self._faults.mutex:
            self._faults.hidden[action] = Hidden(reads, seconds)

    def stale(self, action: str, seconds: float) -> None:
        """From now on the first answer to each read of this action is given again for `seconds`."""
        with self._faults.mutex:
            self._faults.stale[action] = seconds

    def set(self, **values: Any) -> None:
        world.set_values(**values)

    def plant(self, kind: str, region: str, **values: Any) -> None:
        world.plant(kind, region, **values)

    def inventory(self) -> dict[str, list[str]]:
        return world.inventory()


class App:
    def __init__(self) -> None:
        self.faults = Faults()
        self.control = Control(self.faults)
        self.moto = DomainDispatcherApplication(create_backend_app)
        got_request_exception.connect(_tell)

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        size = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(size) if size else b""
        if environ["PATH_INFO"].startswith("/__emulator__/"):
            return self.steer(environ["PATH_INFO"].rsplit("/", 1)[1], body, start)
        environ["wsgi.input"] = io.BytesIO(body)
        answer = self.serve(environ, body)
        if answer is None:
            _cut(environ)
            start("500 Dropped", [])
            return []
        start(answer[0], answer[1])
        return [answer[2]]

    def steer(self, verb: str, body: bytes, start: Start) -> Iterable[bytes]:
        status = "200 OK"
        try:
            found = getattr(self.control, verb)(**json.loads(body or b"{}"))
            text = json.dumps(found).encode()
        except Exception as error:
            status, text = "400 Bad Request", f"{type(error).__name__}: {error}".encode()
        start(status, [("Content-Type", "application/json"), ("Content-Length", str(len(text)))])
        return [text]

    def serve(self, environ: dict[str, Any], body: bytes) -> Answer | None:
        """One call's answer. None: the connection is cut."""
        action = action_of(environ, body)
        there = self.faults.arrived(action)
        if self.faults.latency_s:
            time.sleep(self.faults.latency_s)
        if not there:
            return error_of(environ, action, 503, "RequestLimitExceeded", "Request limit exceeded.")
        fault = self.faults.next(action, body)
        if fault and fault.kind == "hang":
            self.faults.released.wait(fault.seconds)
        elif fault and fault.kind == "hang-drop":
            self.faults.released.wait(fault.seconds)
            return None
        elif fault and fault.kind == "drop-before":
            return None
        elif fault and fault.kind == "error":
            return error_of(environ, action, fault.status, fault.code, fault.message)
        if refusal := self.permitted(environ, action, body):
            return refusal
        answer = self.remembered(environ, action, body)
        if fault and fault.kind == "hang-after":
            self.faults.released.wait(fault.seconds)
        return None if fault and fault.kind == "drop-after" else answer

    def permitted(self, environ: dict[str, Any], action: str, body: bytes) -> Answer | None:
        """EC2's dry run answers 412 where the call would be allowed. Source: EC2 API reference, DryRun."""
        ec2 = service_of(environ) == "ec2"
        if action in self.faults.denied:
            code = "UnauthorizedOperation" if ec2 else "AccessDenied"
            what = f"not authorized to perform: {self.faults.denied[action]}"
            return error_of(environ, action, 403, code, f"You are {what}")
        if ec2 and b"DryRun=true" in body:
            return error_of(environ, action, 412, "DryRunOperation", "Request would have succeeded, but DryRun is set.")
        return None

    def remembered(self, environ: dict[str, Any], action: str, body: bytes) -> Answer:
        """The answer given before to the same client token, or to the same read while reads are stale."""
        if action in self.faults.stale:
            at, kept = self.faults.remembered.get((action, body), (0.0, None))
            if kept is None or time.monotonic() - at > self.faults.stale[action]:
                kept = self.made(environ, action, body)
                self.faults.remembered[action, body] = (time.monotonic(), kept)
            return kept
        token = _token_of(environ, action, body)
        if token is None:
            return self.made(environ, action, body)
        with self.faults.mutex:
            lock = self.control._token_locks.setdefault((action, token), threading.Lock())
        with lock:
            if (action, token) in self.control._tokens:
                first, answer = self.control._tokens[action, token]
                if first != body:
                    said = "Arguments on this idempotent request are inconsistent with arguments used in previous"
                    return error_of(environ, action, 400, "IdempotentParameterMismatch", said)
                if action == "RunInstances" and world.terminated(answer[2]):
                    said = "The client token was used for instances that are terminated."
                    return error_of(environ, action, 400, "IdempotentInstanceTerminated", said)
                return answer
            answer = self.made(environ, action, body)
            if answer[0].startswith("200"):
                self.control._tokens[action, token] = (body, answer)
            return answer

    def made(self, environ: dict[str, Any], action: str, body: bytes) -> Answer:
        box: list[tuple[str, list[tuple[str, str]]]] = []
        out = b"".join(self.moto(environ, lambda status, headers, _=None: box.append((status, headers))))
        status, headers = box[0]
        self.faults.answered(action, out)
        seen, code = self.faults.unseen(action, body, out)
        if code:
            return error_of(environ, action, 400, code, "The ID does not exist")
        if seen is not out:
            headers = [pair for pair in headers if pair[0].lower() != "content-length"]
            headers.append(("Content-Length", str(len(seen))))
        return status, headers, seen


def _token_of(environ: dict[str, Any], action: str, body: bytes) -> str | None:
    if not action.startswith(("Create", "Run")) or b"Token" not in body:
        return None
    if environ.get("HTTP_X_AMZ_TARGET"):
        return next((str(found) for name in TOKEN_NAMES if (found := json.loads(body).get(name))), None)
    form = urllib.parse.parse_qs(body.decode("utf-8", "replace"))
    return next((form[name][0] for name in TOKEN_NAMES if name in form), None)


def error_of(environ: dict[str, Any], action: str, status: int, code: str, message: str) -> Answer:
    """An error as the called service words it: JSON, S3's, EC2's or the other query services' XML."""
    service, kind = service_of(environ), "text/xml"
    if environ.get("HTTP_X_AMZ_TARGET"):
        text, kind = json.dumps({"__type": code, "message": message}), "application/x-amz-json-1.1"
    elif service == "s3":
        text, kind = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>", "application/xml"
    elif service == "ec2":
        inner = f"<Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>"
        text = f"<Response>{inner}<RequestID>0</RequestID></Response>"
    else:
        inner = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        text = f"<ErrorResponse>{inner}<RequestId>0</RequestId></ErrorResponse>"
    data = text.encode()
    return f"{status} Injected", [("Content-Type", kind), ("Content-Length", str(len(data)))], data


def _tell(_: Any, exception: BaseException, **__: Any) -> None:
    """Moto has no answer to a call: the client gets a 500, the test can read why in the log."""
    traceback.print_exception(exception)


def _cut(environ: dict[str, Any]) -> None:
    connection = environ.get("werkzeug.socket")
    if connection is not None:
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()


class Quiet(MotoRequestHandler):  # type: ignore[misc]
    protocol_version = "HTTP/1.1"

    def log_error(self, *_: Any) -> None: ...

    def log_request(self, *_: Any) -> None: ...


def main(port: int) -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    shims.install()
    server = ThreadedWSGIServer("127.0.0.1", port, App(), Quiet)
    server.daemon_threads = True
    print("ready", server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
