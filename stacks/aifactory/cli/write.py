"""Commands that write files of the user: init."""

from __future__ import annotations

import re


def init(name: str, provider: str, force: bool) -> None:
    from aifactory import naming, paths
    from aifactory.errors import Exit, Problem, ProblemError, fail
    from aifactory.region import starters

    kinds = ("local", "static", "aws")
    problems = []
    if not re.fullmatch(naming.REGION_RE, name):
        problems.append(
            Problem(
                "CLI-003",
                f"`{name}` is not a region name.",
                allowed="a lower-case letter, then 1 to 30 of a-z, 0-9 and -",
            )
        )
    if provider not in kinds:
        problems.append(Problem("CLI-004", f"`{provider}` is not a provider kind.", allowed=", ".join(kinds)))
    if problems:
        raise ProblemError(problems)
    path = paths.region_file(name)
    text = starters.starter(name, provider)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise fail(
            "CLI-005",
            f"{path} exists.",
            code=Exit.BAD_INPUT,
            fix=f"edit it, or: aifactory init {name} --provider {provider} --force",
        ) from None
    print(f"Wrote {path}")
    print(f"Next: edit it, then  aifactory validate {name}  and  aifactory plan {name}")
