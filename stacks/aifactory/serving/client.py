"""A client of the region's front door: what `ask` and acceptance use. OpenAI's API, the region's own CA, no more.

Certificates are always verified, proxies and certificates of the environment are not looked at.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

CONNECT_S = 5.0
EXCERPT = 300


class ServingError(Exception):
    """The front door did not answer, or not with what was asked for. `status` is None where there was no answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Usage:
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Completion:
    """A whole answer. `usage` is None where the server sent none."""

    text: str
    finish_reason: str
    usage: Usage | None


@dataclass
class Stream:
    """An answer as it comes: iterate over its pieces. Afterwards `completion` is the whole of it.

    Raises ServingError when the answer ends before its end was said, and for errors sent inside the stream.
    """

    events: Iterator[Any]
    completion: Completion | None = None
    _text: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[str]:
        finish, usage = None, None
        for event in self.events:
            if "error" in event:
                raise ServingError(f"the answer failed: {_message(event)}")
            usage = _usage(event) or usage
            for choice in event.get("choices", ()):
                finish = choice.get("finish_reason") or finish
                piece = (choice.get("delta") or {}).get("content")
                if piece:
                    self._text.append(piece)
                    yield piece
        if finish is None:
            raise ServingError("the answer was cut off: the connection ended before it was complete")
        self.completion = Completion("".join(self._text), finish, usage)


@dataclass(frozen=True)
class Client:
    """`endpoint` is `https://host[:port]`; `ca_pem` the certificate to trust, empty = those of the system."""

    endpoint: str
    ca_pem: str
    key: str = field(repr=False)
    timeout_s: float = 300.0

    def complete(self, model: str, prompt: str, **options: Any) -> Completion:
        """The whole answer to one question. Blocks up to `timeout_s` without a byte; raises ServingError."""
        with self._http() as http, _explained(self.endpoint):
            answer = http.post("/v1/chat/completions", json=_body(model, prompt, options))
            _check(answer)
            return _completion(answer)

    def stream(self, model: str, prompt: str, **options: Any) -> Stream:
        """The answer piece by piece; nothing is sent before the iteration begins."""
        return Stream(
            self._events(_body(model, prompt, {**options, "stream": True, "stream_options": {"include_usage": True}}))
        )

    def request(self, method: str, path: str, *, with_key: bool = True, body: Any = None) -> tuple[int, str]:
        """Status and text of any request; only the lack of an answer raises."""
        with self._http(with_key) as http, _explained(self.endpoint):
            answer = http.request(method, path, json=body)
            return answer.status_code, answer.text

    def _events(self, body: dict[str, Any]) -> Iterator[Any]:
        with (
            self._http() as http,
            _explained(self.endpoint),
            http.stream("POST", "/v1/chat/completions", json=body) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                answer.read()
            _check(answer)
            for data in events(answer.iter_bytes()):
                if data == "[DONE]":
                    return
                yield _parsed(data)

    def _http(self, with_key: bool = True) -> httpx.Client:
        context = ssl.create_default_context(cadata=self.ca_pem or None)
        headers = {"authorization": f"Bearer {self.key}"} if with_key else {}
        timeout = httpx.Timeout(self.timeout_s, connect=CONNECT_S)
        return httpx.Client(base_url=self.endpoint, headers=headers, verify=context, timeout=timeout, trust_env=False)


def complete(endpoint: str, ca_pem: str, key: str, model: str, prompt: str, **options: Any) -> Completion:
    return Client(endpoint, ca_pem, key).complete(model, prompt, **options)


def stream(endpoint: str, ca_pem: str, key: str, model: str, prompt: str, **options: Any) -> Iterator[str]:
    return iter(Client(endpoint, ca_pem, key).stream(model, prompt, **options))


def events(chunks: Iterable[bytes]) -> Iterator[str]:
    """The `data` of each server-sent event, however the bytes are cut. Comments and other fields are left out.

    An event that the end of the stream cuts is dropped, as the standard says.
    Source: HTML Living Standard, 9.2 Server-sent events.
    """
    data: list[str] = []
    for line in _lines(chunks):
        if not line:
            if data:
                yield "\n".join(data)
            data = []
        name, _, value = line.partition(":")
        if name == "data":
            data.append(value.removeprefix(" "))


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Whole lines, ended by LF, CR LF or CR; decoded only when whole, so that no character is cut."""
    rest = b""
    for chunk in chunks:
        rest += chunk
        held = rest.endswith(b"\r")  # an LF may follow
        *lines, rest = (rest[:-1] if held else rest).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        rest += b"\r" if held else b""
        yield from (line.decode("utf-8", "replace") for line in lines)
    if rest.endswith(b"\r"):
        yield rest[:-1].decode("utf-8", "replace")


def _body(model: str, prompt: str, options: dict[str, Any]) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": prompt}], **options}


def _check(answer: httpx.Response) -> None:
    if answer.status_code != httpx.codes.OK:
        try:
            message = _message(answer.json())
        except (ValueError, AttributeError, TypeError):
            message = answer.text[:EXCERPT]
        raise ServingError(f"the front door answered {answer.status_code}: {message}", answer.status_code)


def _message(value: Any) -> str:
    error = value["error"] if isinstance(value, dict) and "error" in value else value
    return str(error["message"] if isinstance(error, dict) and "message" in error else error)[:EXCERPT]


def _completion(answer: httpx.Response) -> Completion:
    try:
        value = answer.json()
        choice = value["choices"][0]
        return Completion(choice["message"]["content"] or "", str(choice["finish_reason"]), _usage(value))
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ServingError(f"the answer is not a completion: {answer.text[:EXCERPT]}", answer.status_code) from error


def _usage(value: Any) -> Usage | None:
    usage = value.get("usage")
    return Usage(int(usage["prompt_tokens"]), int(usage["completion_tokens"])) if usage else None


def _parsed(data: str) -> Any:
    try:
        value = json.loads(data)
    except ValueError as error:
        raise ServingError(f"the stream holds something else than JSON: {data[:EXCERPT]}") from error
    if not isinstance(value, dict):
        raise ServingError(f"the stream holds something else than an event: {data[:EXCERPT]}")
    return value


@contextmanager
def _explained(endpoint: str) -> Iterator[None]:
    """Turns transport errors into ServingError."""
    try:
        yield
    except httpx.TimeoutException as error:
        raise ServingError(f"{endpoint} did not answer in time ({type(error).__name__})") from error
    except httpx.RemoteProtocolError as error:
        raise ServingError(f"the answer was cut off: {error}") from error
    except httpx.TransportError as error:
        raise ServingError(f"{endpoint} cannot be reached: {error}") from error
