"""docs/catalogue.md. Real: the page's own Python, run on the shipped catalogue."""

from __future__ import annotations

import re

from aifactory import catalog
from aifactory.paths import REPO

PAGE = (REPO / "docs" / "catalogue.md").read_text(encoding="utf-8")


def test_python_of_the_page_runs_and_gives_what_it_says() -> None:
    code = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert code
    names: dict[str, object] = {}
    exec(code[1], names)  # noqa: S102 (our own page)
    stated = re.findall(r"^(catalog\.\S.*?)  # (\d+)$", code[1], re.MULTILINE)
    assert stated
    for expression, value in stated:
        assert eval(expression, names) == int(value)  # noqa: S307


def test_every_table_and_every_error_code_stands_in_the_page() -> None:
    assert [t for t in catalog.TABLES if f"\n| {t} |" not in PAGE] == []
    rules = set(re.findall(r"CAT-\d{3}", (REPO / "stacks/aifactory/catalog/load.py").read_text(encoding="utf-8")))
    assert max(rules) in PAGE
    assert min(rules) in PAGE
