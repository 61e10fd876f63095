"""`python -m aifactory.toolchain`: the engine part of `make setup`. `--kubernetes` builds that provider too."""

from __future__ import annotations

import sys

from aifactory.errors import Exit, ProblemError, render_text
from aifactory.toolchain import gobuild, locate


def main(arguments: list[str]) -> int:
    terminal = sys.stderr.isatty()
    progress = _on_one_line if terminal else _lines
    every_s = 1.0 if terminal else 10.0
    try:
        found = locate.on_path() or locate.in_cache()
        if found is None:
            progress("engine: not found on PATH or in the cache; building it once, some minutes")
            gobuild.build(progress, every_s=every_s)
            found = locate.resolve()
        if "--kubernetes" in arguments:
            gobuild.build(progress, kubernetes=True, every_s=every_s)
    except ProblemError as error:
        print(("\n" if terminal else "") + render_text(error.problems), file=sys.stderr)
        return int(error.code)
    except KeyboardInterrupt:
        print("\nStopped. What was compiled is kept: run it again.", file=sys.stderr)
        return int(Exit.INTERRUPTED)
    if terminal:
        print("\r\033[K", end="", file=sys.stderr)
    print(f"engine: pulumi {found.version} ({found.source}: {found.pulumi})")
    return int(Exit.OK)


def _lines(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _on_one_line(text: str) -> None:
    print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
