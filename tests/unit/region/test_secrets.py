"""Secrets in region files are never shown. Real: loader and renderers; the secrets are made up."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from aifactory.errors import ProblemError, render_json, render_sarif, render_text
from aifactory.region import loader
from aifactory.region.secrets import says_secret
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.region import cases

STATIC = (cases.CASES / "region" / "file.ok.static.yaml").read_text()


def seen(path: Path) -> str:
    """All that the toolkit says about the file, in every form."""
    try:
        loader.load(path)
    except ProblemError as error:
        found = error.problems
        return "\n".join((str(error), render_text(found), render_json(found), render_sarif(found, "0"), repr(found)))
    return ""


@pytest.mark.parametrize(
    "form",
    [
        "AKIA{upper16}", "ASIA{upper16}", "sk-{word20}", "sk-proj-{word20}", "ghp_{word36}", "github_pat_{word36}",
        "glpat-{word20}", "hf_{word36}", "nvapi-{word36}", "xoxb-{word20}", "AIza{word36}", "hvs.{word36}",
        "eyJ{word20}.eyJ{word20}.{word20}", "AGE-SECRET-KEY-1{upper16}", "https://user:{word20}@host.example",
        "s3://bucket?token={word20}",
    ],
)  # fmt: skip
def test_forms_of_secrets_are_found_anywhere(form: str, tmp_path: Path) -> None:
    words = {
        "upper16": "Q7X2MPL4WZ9KTB3V",
        "word20": "q7X2mPl4wZ9kTb3vR8nY",
        "word36": "q7X2mPl4wZ9kTb3vR8nYq7X2mPl4wZ9kTb3v",
    }
    secret = form.format(**words)
    path = tmp_path / "case.yaml"
    for place in ("user: ops", "name: b200-01", "model: apertus-70b"):
        key = place.partition(":")[0]
        path.write_text(STATIC.replace(place, f'{key}: "{secret}"', 1))
        text = seen(path)
        assert "SPEC-010" in text
        assert not any(word in text for word in words.values())


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("password", True), ("dbPassword", True), ("DB_PASSWORD", True), ("api_key", True), ("apiKey", True),
        ("APIKey", True), ("access-key", True),
        ("token", True), ("secretKey", True), ("credentials", True), ("clientSecret", True),
        ("tokenizer", False), ("context_tokenizer", False), ("keyring", False), ("monkey", False), ("secretary", False),
        ("public_key", False), ("host_key", False), ("compass", False), ("rack", False),
    ],
)  # fmt: skip
def test_names_that_say_secret(name: str, secret: bool) -> None:
    assert says_secret(name) is secret


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), secret=st.text(string.ascii_letters + string.digits, min_size=16, max_size=40))
def test_password_never_shown_whatever_else_is_wrong(data: st.DataObject, secret: str, tmp_path: Path) -> None:
    secret = f"Zq{secret}9x"
    quote = data.draw(st.sampled_from(["", '"', "'"]))
    lines = STATIC.splitlines()
    at = data.draw(st.integers(0, len(lines)))
    indent = " " * data.draw(st.integers(0, 8))
    lines.insert(
        at,
        f"{indent}{data.draw(st.sampled_from(['password', '- token', 'apiKey', '# secret']))}: {quote}{secret}{quote}",
    )
    for _ in range(data.draw(st.integers(0, 4))):
        spot = data.draw(st.integers(0, len(lines) - 1))
        if secret not in lines[spot]:
            lines[spot] = data.draw(
                st.sampled_from(["{", "]", "\tx", "a: b: c", "? [", "'", '"', "&a", "- - -", "x", ""])
            )
    path = tmp_path / "case.yaml"
    path.write_text("\n".join(lines))
    assert secret not in seen(path)
