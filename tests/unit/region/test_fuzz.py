"""Whatever stands in a file: problems or a region, never another error, never long. Real: loader and renderers."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from aifactory.errors import Exit, ProblemError, render_json, render_sarif
from aifactory.region import loader
from aifactory.region.checks.rules import MEANINGS
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.unit.region import cases

BASES = [p.read_bytes() for p in cases.single() if ".ok." in p.name]
PIECES = [
    b"{", b"}", b"[", b"]", b": ", b"- ", b"? ", b"&a ", b"*a", b"!t ", b"|", b">", b"'", b'"', b"\t", b"\n", b"\r",
    b"#",
    b"\n---\n", b"\n...\n", b"%YAML 1.1\n", b"<<: ", b"\\x", b"\xff", b"\x00", b"\xe2\x80\xa8", b"\xf0\x9f\x92\xa9",
    b"null",
    b"~", b"true", b"1e999", b"-1", b".nan", b'"\\ud800"', b"[]", b"{}", b"0", b"99999999999", b"kind: aws", b"kind: 7",
]  # fmt: skip
SLOWEST_S = 1.0


def load(content: bytes, folder: Path) -> None:
    path = folder / "case.yaml"
    path.write_bytes(content)
    started = time.process_time()
    error = refusal(path)
    assert time.process_time() - started < SLOWEST_S
    if error is None:
        return
    assert error.code == Exit.BAD_INPUT
    assert error.problems
    str(error).encode()
    render_json(error.problems).encode()
    render_sarif(error.problems, "0").encode()
    for problem in error.problems:
        assert problem.rule in MEANINGS
        assert problem.message
        assert problem.place
        assert problem.place.line is None or problem.place.line >= 1
        assert problem.place.column is None or problem.place.column >= 1


def refusal(path: Path) -> ProblemError | None:
    try:
        loader.load(path)
    except ProblemError as error:
        return error
    return None


relaxed = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@relaxed
@given(
    content=st.one_of(st.binary(max_size=300), st.text(max_size=200).map(lambda t: t.encode("utf-8", "surrogatepass")))
)
@example(content=b"\xef\xbb\xbf")
@example(content=b'"\\UFFFFFFFF"')
@example(content=b"? ")
@example(content=b"!<")
@example(content=b"%TAG ! !\n--- !a b")
def test_load_random_bytes(content: bytes, tmp_path: Path) -> None:
    load(content, tmp_path)


@relaxed
@given(data=st.data())
def test_load_damaged_region(data: st.DataObject, tmp_path: Path) -> None:
    content = data.draw(st.sampled_from(BASES))
    for _ in range(data.draw(st.integers(1, 6))):
        start = data.draw(st.integers(0, len(content)))
        end = min(len(content), start + data.draw(st.integers(0, 12)))
        piece = data.draw(st.one_of(st.sampled_from(PIECES), st.binary(max_size=4), st.just(content[start : end + 20])))
        content = content[:start] + piece + content[end:]
    load(content, tmp_path)


VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=12),
        st.sampled_from(["local", "secret:a"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)
KEYS = ["version", "name", "labels", "platform", "jurisdiction", "provider", "network", "fabric", "pools", "storage",
        "software", "services", "front_door", "power", "acceptance", "state", "kind", "nodes", "tls"]  # fmt: skip


@relaxed
@given(sections=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=8), base=st.sampled_from(BASES))
def test_load_sections_of_any_value(sections: dict[str, object], base: bytes, tmp_path: Path) -> None:
    lines = [line for line in base.decode().splitlines() if line.partition(":")[0] not in sections]
    content = "\n".join(lines) + "\n" + "\n".join(f"{k}: {json.dumps(v)}" for k, v in sections.items())
    load(content.encode("utf-8", "surrogatepass"), tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"a: " + b"x" * 200_000,
        b"x" * 200_000,
        b"password: " * 20_000,
        b"".join(b"password%d: x\n" % i for i in range(2_000)),
        b"-----BEGIN PRIVATE KEY-----\n" * 5_000,
        b"eyJaaaaaaaaaa." * 15_000,
        b"://a:" + b"b" * 200_000,
        b"[" * 200_000,
        b"{a: " * 50_000,
        b"- " * 100_000,
        b"a.b-c" * 40_000,
        b"%TAG !a! b\n" * 5_000,
    ],
    ids=lambda c: c[:12].decode(),
)
def test_load_what_could_take_long_does_not(content: bytes, tmp_path: Path) -> None:
    load(content, tmp_path)
