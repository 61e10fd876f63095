"""Code never names a GPU, a shape, a model, a driver branch or a cloud: those are data. Real: the whole source tree.

Read are the string constants of every .py file (not docstrings, not comments) and every line of every .j2 file (not
comments), outside tests. Not refused: keys that are also values of a Literal in region/spec.py (`local`, `static`,
`aws`, the acceptance level `l4`), for there the word is the region file's own, and countries, regimes, engines and
versions, whose keys are such values or ordinary words.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from aifactory import catalog
from aifactory.paths import PLAYBOOKS, REPO, TEMPLATES
from aifactory.region import spec

TABLES = ("gpus", "shapes", "models", "drivers", "clouds")


def literals_of_the_spec() -> frozenset[str]:
    """Every string inside a `Literal[...]` of region/spec.py."""
    tree = ast.parse(Path(spec.__file__).read_text(encoding="utf-8"))
    inside = [n for n in ast.walk(tree) if isinstance(n, ast.Subscript) and ast.unparse(n.value) == "Literal"]
    return frozenset(
        c.value for n in inside for c in ast.walk(n) if isinstance(c, ast.Constant) and type(c.value) is str
    )


@cache
def keys() -> frozenset[str]:
    return frozenset(k for t in TABLES for k in getattr(catalog, t)()) - literals_of_the_spec()


def named(text: str, *, whole: bool) -> list[str]:
    """Keys in `text`. A branch number counts only where it is the whole of a string: 580 is also a number."""
    words = set(re.findall(r"[A-Za-z0-9]+(?:[.-][A-Za-z0-9]+)*", text))
    return sorted(k for k in keys() & words if not k.isdigit() or (whole and text == k))


def strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of every string constant that is not a statement of its own (a docstring)."""
    alone = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield node.lineno, node.value


def in_python(text: str) -> list[tuple[int, str]]:
    return [(line, key) for line, value in strings(ast.parse(text)) for key in named(value, whole=True)]


def in_template(text: str) -> list[tuple[int, str]]:
    code = re.sub(r"\{#.*?#\}", lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.DOTALL)
    return [(n, key) for n, line in enumerate(code.splitlines(), 1) for key in named(line, whole=False)]


def sources() -> list[Path]:
    folders = (REPO / "stacks", PLAYBOOKS, TEMPLATES)
    found = [p for f in folders for p in sorted(f.rglob("*")) if p.suffix in {".py", ".j2"}]
    return [p for p in found if "__pycache__" not in p.parts]


def test_no_source_file_names_a_key_of_the_catalogue() -> None:
    files = sources()
    assert len(files) > 20
    wrong = []
    for path in files:
        text = path.read_text(encoding="utf-8")
        hits = in_python(text) if path.suffix == ".py" else in_template(text)
        wrong += [f"{path.relative_to(REPO)}:{line}: {key}" for line, key in hits]
    assert wrong == [], "names of data in code:\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('x = "h100-sxm"', ["h100-sxm"]),
        ('x = f"{y} on p5.48xlarge"', ["p5.48xlarge"]),
        ('if shape == "dgx-b200" or m in ("apertus-70b",): pass', ["apertus-70b", "dgx-b200"]),
        ('branch = "580"', ["580"]),
        ('region = "aws-cn"', ["aws-cn"]),
        ('x = "port 580"', []),
        ("x = 580", []),
        ('"""Such as h100-sxm."""\nx = 1  # p5.48xlarge', []),
        ('kind = "local"; level = "l4"; other = "aws"', []),
        ('x = "h100-sxm-other"', []),
    ],
)
def test_in_python_finds_keys_in_strings_only(text: str, wanted: list[str]) -> None:
    assert sorted(key for _, key in in_python(text)) == wanted


def test_in_template_finds_keys_outside_comments_with_their_line() -> None:
    assert in_template("{# for h100-sxm #}\n{% if gpu == 'b200-sxm' %}\nkind=local 580\n") == [(2, "b200-sxm")]
