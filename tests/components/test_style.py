"""Rules that every component keeps, seen in the syntax tree. Real: the components' source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from aifactory import components

SOURCES = sorted(Path(components.__path__[0]).glob("*.py"))


def component_classes(tree: ast.Module) -> list[ast.ClassDef]:
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and any("ComponentResource" in ast.unparse(base) for base in node.bases)
    ]


def calls(node: ast.AST, name: str) -> list[ast.Call]:
    found = [c for c in ast.walk(node) if isinstance(c, ast.Call)]
    return [c for c in found if ast.unparse(c.func).rpartition(".")[2] == name]


COMPONENTS = [(p.name, cls) for p in SOURCES for cls in component_classes(ast.parse(p.read_text(encoding="utf-8")))]


def test_components_are_found() -> None:
    assert {cls.name for _, cls in COMPONENTS} == {"Region", "Pool", "Serving", "AwsGround"}


@pytest.mark.parametrize(("file", "cls"), COMPONENTS, ids=[cls.name for _, cls in COMPONENTS])
def test_component_registers_its_outputs_once_and_last(file: str, cls: ast.ClassDef) -> None:
    assert len(calls(cls, "register_outputs")) == 1
    init = next(f for f in cls.body if isinstance(f, ast.FunctionDef) and f.name == "__init__")
    last = init.body[-1]
    assert isinstance(last, ast.Expr)
    assert ast.unparse(last).startswith("self.register_outputs("), file


@pytest.mark.parametrize(("file", "cls"), COMPONENTS, ids=[cls.name for _, cls in COMPONENTS])
def test_component_takes_name_plan_and_options(file: str, cls: ast.ClassDef) -> None:
    init = next(f for f in cls.body if isinstance(f, ast.FunctionDef) and f.name == "__init__")
    assert [a.arg for a in init.args.args] == ["self", "name", "plan"], file
    assert "opts" in [a.arg for a in init.args.kwonlyargs]


@pytest.mark.parametrize("path", SOURCES, ids=[p.name for p in SOURCES])
def test_no_apply_creates_resources_and_no_options_are_merged(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not calls(tree, "merge")
    for call in calls(tree, "apply"):
        for inner in ast.walk(call):
            assert not (isinstance(inner, ast.Call) and "opts" in [k.arg for k in inner.keywords]), path.name
