"""What the docs name exists: links, paths, make targets, aifactory commands with their options."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer
from aifactory.cli.app import app

REPO = Path(__file__).resolve().parents[2]
PAGES = sorted([*REPO.glob("*.md"), *(REPO / "docs").rglob("*.md")])
TOP = ("stacks/", "playbooks/", "templates/", "tests/", "docs/", ".ci/")
SHOULD_NOT_EXIST = re.compile(r"[<>*{}…]|NAME|REGION")
"""Marks of a pattern rather than a path."""
GENERATED = {"stacks/regions/Pulumi.local.yaml"}


def code(page: Path) -> list[str]:
    """Inline code and the lines of fenced blocks."""
    text = page.read_text(encoding="utf-8")
    fenced = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.M | re.S)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    return inline + [line for block in fenced for line in block.splitlines()]


def commands(page: Path, program: str) -> list[list[str]]:
    """Words after `program` wherever a snippet starts with it; comments are cut off."""
    found = []
    for snippet in code(page):
        line = re.sub(r"^(\$ |\.venv/bin/)", "", snippet.strip())
        if line.startswith(program + " "):
            cut = re.split(r"\s#|\s·|\s\||;|\s{3,}", line)[0]
            try:
                words = shlex.split(cut)[1:]
            except ValueError:
                continue
            found.append(words)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(REPO)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    targets = re.findall(r"\]\(([^)#\s]+)", text)
    dead = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert dead == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(REPO)))
def test_paths_exist(page: Path) -> None:
    words = {w.rstrip(".,:;)") for snippet in code(page) for w in snippet.split() if w.startswith(TOP)}
    missing = [w for w in words if not SHOULD_NOT_EXIST.search(w) and w not in GENERATED and not (REPO / w).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(REPO)))
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z%-]+):", (REPO / "Makefile").read_text(), re.M))
    named = {words[0] for words in commands(page, "make") if words}
    unknown = [
        t
        for t in named
        if t not in targets and not (t.startswith("bench-") and (REPO / f"tests/bench/bench_{t[6:]}.py").exists())
    ]
    assert [t for t in unknown if t != "bench-*"] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(REPO)))
def test_aifactory_commands_and_options_exist(page: Path) -> None:
    group = typer.main.get_command(app)
    known = group.commands  # type: ignore[attr-defined]
    wrong = []
    for words in commands(page, "aifactory"):
        name = words[0]
        if name.startswith("-"):
            continue
        if not re.fullmatch(r"[a-z]+", name):
            continue
        if name not in known:
            wrong.append(" ".join(words))
            continue
        options = {o for p in known[name].params for o in (*p.opts, *p.secondary_opts)} | {"--help", "-h"}
        wrong += [f"{name} {w}" for w in words if re.fullmatch(r"--?[a-z][a-z-]*", w) and w not in options]
    assert wrong == []


def test_the_readme_shows_the_region_that_it_brings_up() -> None:
    shown = re.search(r"```yaml\n# stacks/regions/local\.yaml\n(.*?)```", (REPO / "README.md").read_text(), re.S)
    assert shown is not None
    lines = (REPO / "stacks/regions/local.yaml").read_text().splitlines()
    assert shown.group(1).splitlines() == [line for line in lines if not line.startswith("#")]


def test_no_work_is_left_marked_in_the_tree() -> None:
    words = "|".join(["TO" + "DO", "FIX" + "ME", "NotImpl" + "emented"])
    done = subprocess.run(
        ["git", "grep", "-nE", words, "--", ":!tests"], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert done.stdout == ""
