"""Checks through the front door: it asks for a key, hides what is not listed, and answers with real completions."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence

from aifactory.serving.client import Client, Completion, ServingError, Stream

from .verdict import Verdict, judged, unmeasured

PROMPT = "Say in one sentence what you are."
MAX_TOKENS = 64
_HIDDEN = "/slots"
"""A path that engines have and the front door must not show."""

_READY, _KEY, _PATHS, _MODELS = "200", "401 without a key", "404", "the services of the region"
_TEXT = "a text, an end, usage above 0"
_SAME = "the same text in pieces, an end, usage above 0"


def verify(
    client: Client, services: Sequence[str], *, ready_s: float = 20.0, wait: Callable[[float], None] = time.sleep
) -> list[Verdict]:
    """Verdicts `door.ready`, `door.key`, `door.paths`, `door.models`, and two a service. Asks real questions."""
    ready = _ready(client, ready_s, wait)
    verdicts = [ready, _status("door.key", client, "/v1/models", 401, _KEY, with_key=False)]
    verdicts += [_status("door.paths", client, _HIDDEN, 404, _PATHS), _models(client, services)]
    for service in services:
        verdicts += _service(client, service)
    return verdicts


def unreachable(scope: str, services: Sequence[str], why: str) -> list[Verdict]:
    """The same checks where there is no door to ask."""
    floors = {"door.ready": _READY, "door.key": _KEY, "door.paths": _PATHS, "door.models": _MODELS}
    verdicts = [unmeasured(check, scope, floor, why) for check, floor in floors.items()]
    for service in services:
        verdicts += [
            unmeasured("service.completion", service, _TEXT, why),
            unmeasured("service.stream", service, _SAME, why),
        ]
    return verdicts


def _ready(client: Client, limit_s: float, wait: Callable[[float], None]) -> Verdict:
    """A door that was just configured has not heard from every replica yet: asked again for a while."""
    deadline = time.monotonic() + limit_s
    while True:
        verdict = _status("door.ready", client, "/v1/health/ready", 200, _READY, with_key=False, silence="fail")
        if verdict.verdict == "pass" or time.monotonic() > deadline:
            return verdict
        wait(0.3)


def _status(
    check: str,
    client: Client,
    path: str,
    wanted: int,
    floor: str,
    *,
    with_key: bool = True,
    silence: str = "not_proved",
) -> Verdict:
    try:
        status, _text = client.request("GET", path, with_key=with_key)
    except ServingError as error:
        if silence == "fail":
            return judged(check, client.endpoint, False, "no answer", floor, detail=str(error))
        return unmeasured(check, client.endpoint, floor, str(error))
    return judged(check, client.endpoint, status == wanted, f"{status} at {path}", floor)


def _models(client: Client, services: Sequence[str]) -> Verdict:
    check, scope = "door.models", client.endpoint
    try:
        status, text = client.request("GET", "/v1/models")
        names = sorted(str(model["id"]) for model in json.loads(text)["data"]) if status == 200 else []
    except ServingError as error:
        return unmeasured(check, scope, _MODELS, str(error))
    except (ValueError, KeyError, TypeError):
        return judged(check, scope, False, "no list of models", _MODELS, detail=text[:200])
    return judged(check, scope, status == 200 and names == sorted(services), ", ".join(names) or str(status), _MODELS)


def _service(client: Client, service: str) -> Iterator[Verdict]:
    """Whole and streamed, the same question at temperature 0."""
    options = {"temperature": 0, "max_tokens": MAX_TOKENS}
    try:
        whole = client.complete(service, PROMPT, **options)
    except ServingError as error:
        yield _refused("service.completion", service, _TEXT, error)
        yield unmeasured("service.stream", service, _SAME, "there is no whole answer to compare with")
        return
    yield judged("service.completion", service, _sound(whole), _shown(whole), _TEXT)
    try:
        stream = client.stream(service, PROMPT, **options)
        pieces = list(stream)
    except ServingError as error:
        yield _refused("service.stream", service, _SAME, error)
        return
    yield _streamed(service, whole, stream, pieces)


def _streamed(service: str, whole: Completion, stream: Stream, pieces: Sequence[str]) -> Verdict:
    done = stream.completion
    if done is None:
        return unmeasured("service.stream", service, _SAME, "the stream has no end")
    same = done.text == whole.text and done.finish_reason == whole.finish_reason
    detail = "" if same else f"whole: {whole.text[:80]!r}, streamed: {done.text[:80]!r}"
    good = same and _sound(done) and len(pieces) > 1
    return judged("service.stream", service, good, f"{len(pieces)} pieces, {_shown(done)}", _SAME, detail=detail)


def _refused(check: str, service: str, floor: str, error: ServingError) -> Verdict:
    """An answer that is an error was measured; silence was not."""
    if error.status is not None:
        return judged(check, service, False, f"status {error.status}", floor, detail=str(error))
    return unmeasured(check, service, floor, str(error))


def _sound(answer: Completion) -> bool:
    used = answer.usage is not None and answer.usage.prompt_tokens > 0 and answer.usage.completion_tokens > 0
    return bool(answer.text.strip()) and answer.finish_reason in ("stop", "length") and used


def _shown(answer: Completion) -> str:
    tokens = f"{answer.usage.completion_tokens} tokens" if answer.usage else "no usage"
    return f"{tokens}, finish_reason {answer.finish_reason}"
