"""Checks through the front door. Real: the client, TLS, HTTP; the door answers from a script."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from aifactory.acceptance import serving, verify
from aifactory.hosts.play import SshAccess

from tests.unit.serving.test_client import Door, chunk, send, stream

TEXT = "one two three"


class Region(Door):
    """A door that does everything right; `wrong` changes one thing."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.wrong: dict[str, Any] = {}
        self.answer = self._complete
        region = self

        def get(handler: BaseHTTPRequestHandler) -> None:
            path, has_key = handler.path, "authorization" in handler.headers
            status = {"/v1/health/ready": 200, "/v1/models": 200 if has_key else 401}.get(path, 404)
            status = region.wrong.get(f"{path}{'' if has_key else ' without key'}", status)
            send(handler, status, {"data": [{"id": name} for name in region.wrong.get("models", ["chat"])]})

        self.server.RequestHandlerClass.do_GET = get  # type: ignore[attr-defined]

    def _complete(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        assert (body["temperature"], body["model"]) == (0, "chat")
        usage = self.wrong.get("usage", {"prompt_tokens": 3, "completion_tokens": 3})
        if not body.get("stream"):
            text, finish = self.wrong.get("text", TEXT), self.wrong.get("finish", "stop")
            choice = {"message": {"content": text}, "finish_reason": finish}
            send(handler, self.wrong.get("status", 200), {"choices": [choice], "usage": usage})
            return
        pieces = self.wrong.get("pieces", ["one ", "two ", "three"])
        last = json.dumps({"choices": [], "usage": self.wrong.get("stream usage", usage)})
        stream(*[chunk(p) for p in pieces], *self.wrong.get("end", [chunk(finish="stop")]), last, "[DONE]")(
            handler, body
        )


@pytest.fixture
def region(tmp_path: Path) -> Iterator[Region]:
    region = Region(tmp_path)
    yield region
    region.server.shutdown()
    region.server.server_close()


def verdicts(region: Region, **changes: Any) -> dict[str, str]:
    found = serving.verify(region.client(), ["chat"], ready_s=0.1, wait=lambda _: None, **changes)
    return {verdict.check: verdict.verdict for verdict in found}


CHECKS = ["door.ready", "door.key", "door.paths", "door.models", "service.completion", "service.stream"]


def test_all_well_passes(region: Region) -> None:
    assert verdicts(region) == dict.fromkeys(CHECKS, "pass")


@pytest.mark.parametrize(
    ("wrong", "bad"),
    [
        ({"/v1/health/ready without key": 503}, {"door.ready": "fail"}),
        ({"/v1/models without key": 200}, {"door.key": "fail"}),
        ({"/slots": 200}, {"door.paths": "fail"}),
        ({"/slots": 401}, {"door.paths": "fail"}),
        ({"models": ["chat", "more"]}, {"door.models": "fail"}),
        ({"models": []}, {"door.models": "fail"}),
        ({"text": "  "}, {"service.completion": "fail", "service.stream": "fail"}),
        ({"finish": "error"}, {"service.completion": "fail", "service.stream": "fail"}),
        (
            {"usage": {"prompt_tokens": 3, "completion_tokens": 0}},
            {"service.completion": "fail", "service.stream": "fail"},
        ),
        ({"usage": None}, {"service.completion": "fail", "service.stream": "fail"}),
        ({"status": 503}, {"service.completion": "fail", "service.stream": "not_proved"}),
        ({"pieces": ["one two four"]}, {"service.stream": "fail"}),
        ({"pieces": [TEXT]}, {"service.stream": "fail"}),
        ({"stream usage": None}, {"service.stream": "fail"}),
        ({"end": []}, {"service.stream": "not_proved"}),
    ],
    ids=str,
)
def test_one_thing_wrong_is_seen(region: Region, wrong: dict[str, Any], bad: dict[str, str]) -> None:
    region.wrong = wrong
    assert verdicts(region) == {**dict.fromkeys(CHECKS, "pass"), **bad}


def test_door_that_is_not_there_proves_nothing(region: Region) -> None:
    region.server.server_close()
    assert verdicts(region) == {**dict.fromkeys(CHECKS, "not_proved"), "door.ready": "fail"}


def test_door_that_becomes_ready_is_waited_for(region: Region) -> None:
    region.wrong = {"/v1/health/ready without key": 503}
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            region.wrong = {}

    found = serving.verify(region.client(), ["chat"], ready_s=30, wait=wait)
    assert found[0].verdict == "pass"
    assert len(waits) == 2


def test_region_without_services_is_not_asked_for_any() -> None:
    assert verify.verify_region(
        hosts=(), ssh=SshAccess(), endpoint=None, ca_certificate=None, client_key=None, services=()
    ) == []  # fmt: skip


@pytest.mark.parametrize(
    ("endpoint", "key", "missing"), [(None, "k", "no endpoint"), ("https://x", None, "no client key")]
)
def test_region_that_lacks_what_is_needed_is_not_proved(endpoint: str | None, key: str | None, missing: str) -> None:
    found = verify.verify_region(
        hosts=(), ssh=SshAccess(), endpoint=endpoint, ca_certificate=None, client_key=key, services=({"name": "chat"},)
    )
    assert [v.check for v in found] == CHECKS
    assert {v.verdict for v in found} == {"not_proved"}
    assert all(missing in v.detail for v in found)
