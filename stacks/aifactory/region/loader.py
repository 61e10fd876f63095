"""The only reader of region files: bytes to a checked `Region`, or everything that is wrong with them.

Steps, each in its module: text (limits, encoding) → document (YAML tree) → secrets (covered before anything is
shown) → shape (pydantic) → checks (rules) → checks across files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aifactory import paths
from aifactory.catalog.suggest import nearest
from aifactory.errors import Exit, Problem, ProblemError
from aifactory.naming import REGION_RE
from aifactory.region import checks, document, secrets, text
from aifactory.region.checks.finding import Finding
from aifactory.region.document import MOST_PROBLEMS
from aifactory.region.positions import Path as KeyPath
from aifactory.region.positions import Positions, dotted
from aifactory.region.shape import Shaped, shape
from aifactory.region.spec import Region
from aifactory.region.starters import starter

__all__ = ["LoadedRegion", "digest", "find", "load", "starter", "validate"]


POOL_RULES = {"SPEC-018"}
"""Rules that say nothing true while the name of a pool is wrong."""


@dataclass(frozen=True)
class LoadedRegion:
    """A region that has passed all rules of its own file."""

    path: Path
    spec: Region
    positions: Positions

    def placed(self, problems: Iterable[Problem]) -> list[Problem]:
        """Problems found later (by the plan, say), with the places that their paths name in this file."""
        return [self.positions.placed(p) for p in problems]


@dataclass(frozen=True)
class _Read:
    """What became of one file. `partial` is a region without the parts that are wrong, for rules across files."""

    path: Path
    problems: tuple[Problem, ...]
    partial: Region | None = None
    positions: Positions | None = None
    wrong: tuple[KeyPath, ...] = ()


def load(path: Path) -> LoadedRegion:
    """The region in `path`, checked by itself. Raises ProblemError (exit 2) with everything wrong with the file."""
    return validate([path])[0]


def validate(files: Sequence[Path]) -> list[LoadedRegion]:
    """The regions in `files`, checked one by one and against each other.

    Raises one ProblemError (exit 2) with every problem of every file. Opens nothing but the files and the catalogue.
    """
    read = [_read(path) for path in files]
    problems = [p for r in read for p in r.problems]
    known = [r for r in read if r.partial and r.positions and ("name",) not in r.wrong]
    for rule, index, finding in checks.regions([r.partial for r in known if r.partial]):
        positions = known[index].positions
        if positions and not _follows(rule, finding.path, known[index].wrong):
            problems.append(_problem(rule, finding, positions))
    if problems:
        raise ProblemError(problems, Exit.BAD_INPUT)
    return [LoadedRegion(r.path, r.partial, r.positions) for r in read if r.partial and r.positions]


def find(name: str) -> Path:
    """The file of region `name`. Raises ProblemError SPEC-001 that names the nearest regions."""
    path = paths.region_file(name)
    if REGION_RE.fullmatch(name) and path.is_file():
        return path
    folder = paths.regions_dir()
    names = sorted(p.stem for p in folder.glob("*.yaml") if not p.name.startswith("Pulumi."))
    good = REGION_RE.fullmatch(name) is not None
    problem = Problem(
        "SPEC-001",
        f"There is no region {name[:60]} in {text.label(folder)}.",
        nearest=nearest(name[:60], names),
        allowed=f"{', '.join(names[:20])}{' …' if len(names) > 20 else '.'}" if names else None,
        fix=f"aifactory init {name} --provider local" if good and not names else None,
    )
    raise ProblemError([problem], Exit.BAD_INPUT)


def digest(spec: Region) -> str:
    """SHA-256 over the canonical JSON of the spec with all defaults filled in."""
    canonical = json.dumps(spec.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _read(path: Path) -> _Read:
    """One file through all steps; goes as far as the file lets it."""
    try:
        content = text.read(path)
    except ProblemError as error:
        return _Read(path, error.problems)
    parsed = document.parse(content)
    found = secrets.cover(parsed)
    problems = [*parsed.problems, *secrets.problems(found, content, MOST_PROBLEMS)]
    unreadable = text.unreadable(content)
    if unreadable:
        problems = [unreadable]
    if parsed.root is None or unreadable:
        return _Read(path, _shown(problems, content))
    positions = Positions(content, parsed.root)
    hidden = frozenset(f.path for f in found)
    shaped = shape(document.data(parsed.root), positions, hidden)
    problems.extend(_not_told(problems, shaped.problems))
    problems.extend(_rules(path, shaped, positions, hidden))
    return _Read(path, _shown(problems, content), shaped.partial, positions, shaped.wrong)


def _shown(problems: list[Problem], content: text.Text) -> tuple[Problem, ...]:
    """The first problems of a file, without secrets; how many more there are."""
    shown = sorted(problems, key=Problem.sort_key)[:MOST_PROBLEMS]
    if len(problems) > len(shown):
        message = f"{len(problems) - len(shown)} more problems of this file are not shown."
        shown.append(Problem(shown[-1].rule, message, shown[-1].place))
    return tuple(secrets.scrub(p, content) for p in shown)


def _not_told(told: list[Problem], more: Iterable[Problem]) -> list[Problem]:
    """Problems at places where nothing is told yet: a value that cannot be read needs no second complaint."""
    places = {(p.place.line, p.place.column) for p in told if p.place}
    return [p for p in more if not p.place or (p.place.line, p.place.column) not in places]


def _rules(path: Path, shaped: Shaped, positions: Positions, hidden: frozenset[KeyPath]) -> list[Problem]:
    """What the rules say about the region, or about what is left of it without its wrong parts."""
    region = shaped.partial
    if region is None:
        return []
    problems = []
    if region.name != path.stem and ("name",) not in shaped.wrong:
        message = f"The region is called {region.name}, its file {path.stem}: the file's stem is the name."
        fix = (
            f"write `name: {path.stem}`" if REGION_RE.fullmatch(path.stem) else f"rename the file to {region.name}.yaml"
        )
        problems.append(_problem("SPEC-030", Finding(("name",), message, fix=fix), positions))
    for rule, finding in checks.region(region):
        if finding.path not in hidden and not _follows(rule, finding.path, shaped.wrong):
            problems.append(_problem(rule, finding, positions))
        if len(problems) > MOST_PROBLEMS:
            break
    return problems


def _follows(rule: str, path: KeyPath, wrong: Iterable[KeyPath]) -> bool:
    """Whether a finding may come only from a part of wrong shape, which was left out or has a stand-in."""
    if rule in POOL_RULES and any(w[:1] == ("pools",) and (len(w) == 2 or w[2:] == ("name",)) for w in wrong):
        return True
    if rule in checks.ONE_VALUE:
        return any(path[: len(w)] == w or w[: len(path)] == path for w in wrong)
    return any((len(w) > 1 and path[: len(w) - 1] == w[:-1]) or path == w[: len(path)] for w in wrong)


def _problem(rule: str, finding: Finding, positions: Positions) -> Problem:
    place = positions.key(finding.path) if finding.at_key else positions.value(finding.path)
    return Problem(
        rule,
        finding.message,
        place,
        dotted(finding.path),
        finding.nearest,
        finding.allowed,
        finding.fix,
        finding.list_command,
    )
