"""Words about the format, and the page about the rules. Real: pydantic's schema of the models, the docs."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from aifactory import paths
from aifactory.region import checks, schema
from aifactory.region.checks.rules import MEANINGS
from aifactory.region.spec import Region


def patterns(node: Any) -> set[str]:
    if isinstance(node, list):
        return set().union(*map(patterns, node)) if node else set()
    if not isinstance(node, dict):
        return set()
    own = {node["pattern"]} if isinstance(node.get("pattern"), str) else set()
    return own.union(*map(patterns, node.values())) if node else own


def test_forms_every_pattern_of_the_spec_has_words() -> None:
    assert patterns(Region.model_json_schema()) == set(schema.FORMS)


def test_forms_examples_have_their_form() -> None:
    for pattern, (_, example) in schema.FORMS.items():
        assert not example or re.search(pattern, example.strip('"')), pattern


def test_at_walks_sections_lists_kinds_and_free_maps() -> None:
    data = {"provider": {"kind": "static"}, "pools": [{}]}
    assert schema.keys(schema.at(("provider",), data)) == ("kind", "ssh")
    assert schema.expected(schema.at(("pools", 0, "nodes"), data)) == "a whole number, 1 to 4096"
    assert schema.expected(schema.at(("labels", "anything"), data)) == "text"
    assert schema.at(("pools", 0, "nothing"), data) is None
    assert schema.choices(schema.at(("provider",), {})) == ("local", "static", "aws")


def test_rules_every_function_names_its_rule_and_every_rule_has_a_meaning() -> None:
    for rule, find in (*checks.RULES, *checks.FILES_RULES):
        assert rule in MEANINGS
        assert (find.__doc__ or "").startswith(f"{rule}."), find
    assert len({rule for rule, _ in (*checks.RULES, *checks.FILES_RULES)}) == len(checks.RULES) + len(
        checks.FILES_RULES
    )


def test_rules_every_rule_used_in_the_code_has_a_meaning() -> None:
    folder = Path(checks.__file__).parents[1]
    used = {
        node.value
        for path in folder.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"SPEC-\d{3}", node.value)
    }
    assert used == set(MEANINGS)


def test_rules_page_lists_every_rule_with_its_meaning() -> None:
    page = (paths.REPO / "docs" / "region-rules.md").read_text()
    assert re.findall(r"^\| (SPEC-\d{3}) \| (.*) \|$", page, re.MULTILINE) == list(MEANINGS.items())
