"""The `aifactory` command: parse and print only. Every command imports what it needs when it runs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from aifactory import __version__
from aifactory.errors import Exit, ProblemError, fail, render_json, render_sarif, render_text

EXIT_CODES = (
    "Exit codes: 0 ok · 2 bad input · 3 preflight refused · 4 a host or a service failed · "
    "5 acceptance not proved · 130/143 stopped."
)

app = typer.Typer(
    name="aifactory",
    help="One YAML file to a sovereign AI region: nodes, fabric, hosts, models in service, evidence.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def complete_region(incomplete: str) -> list[str]:
    """Names of the region files, for shell completion."""
    from aifactory import paths

    return sorted(
        p.stem
        for p in paths.regions_dir().glob("*.yaml")
        if not p.name.startswith("Pulumi.") and p.stem.startswith(incomplete)
    )


RegionArg = Annotated[str, typer.Argument(help="Region name (stem of its file).", autocompletion=complete_region)]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output on stdout.")]
Yes = Annotated[
    bool, typer.Option("--yes", "-y", help="Do not ask. Without a terminal the command refuses to go on without it.")
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show the engine's own output.")]


def _version(value: bool) -> None:
    if value:
        typer.echo(f"aifactory {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """One YAML file to a sovereign AI region."""


@app.command(rich_help_panel="Write")
def init(
    name: Annotated[str, typer.Argument(help="Name of the new region.")],
    provider: Annotated[str, typer.Option(help="local, static or aws.")] = "local",
    force: Annotated[bool, typer.Option(help="Write over an existing file.")] = False,
) -> None:
    """Write a commented starter file for a new region."""
    from aifactory.cli import write

    write.init(name, provider, force)


@app.command(rich_help_panel="Check")
def validate(
    regions: Annotated[
        list[str] | None,
        typer.Argument(help="Region names or files; none = all of them.", autocompletion=complete_region),
    ] = None,
    json_: Json = False,
    sarif: Annotated[bool, typer.Option(help="SARIF 2.1.0, for code-review tools.")] = False,
) -> None:
    """Check region files: every problem of every file, with its place and the fix."""
    from aifactory.cli import check

    check.validate(regions or [], as_json=json_, as_sarif=sarif)


@app.command(rich_help_panel="Check")
def plan(
    region: RegionArg,
    explain: Annotated[
        bool, typer.Option(help="Give every derived number its reason, and the defaults taken.")
    ] = False,
    json_: Json = False,
) -> None:
    """Show what the region will be. Needs no account and no network."""
    from aifactory.cli import check

    check.plan(region, explain=explain, as_json=json_)


@app.command(rich_help_panel="Check")
def sovereignty(
    region: RegionArg,
    live: Annotated[
        bool, typer.Option(help="What is there, as the region's state has it; none = what is planned.")
    ] = False,
    json_: Json = False,
) -> None:
    """Where it all is, whose law, whose keys, what leaves: every rule. Exit 2 when one is open."""
    from aifactory.cli import sovereignty as judge

    judge.show(region, live=live, as_json=json_)


@app.command(rich_help_panel="Check")
def preflight(region: RegionArg, json_: Json = False) -> None:
    """Ask the machine or cloud, read-only, whether `up` can work."""
    from aifactory.cli import check

    check.preflight(region, as_json=json_)


@app.command(rich_help_panel="Change")
def preview(region: RegionArg, json_: Json = False, verbose: Verbose = False) -> None:
    """Show what `up` would change."""
    from aifactory.cli import lifecycle

    lifecycle.preview(region, as_json=json_, verbose=verbose)


@app.command(rich_help_panel="Change")
def up(region: RegionArg, yes: Yes = False, json_: Json = False, verbose: Verbose = False) -> None:
    """Bring the region to what its file says; safe to repeat and to interrupt."""
    from aifactory.cli import lifecycle

    lifecycle.up(region, yes=yes, as_json=json_, verbose=verbose)


@app.command(rich_help_panel="Change")
def refresh(region: RegionArg, yes: Yes = False, json_: Json = False, verbose: Verbose = False) -> None:
    """Read what is really there into the state."""
    from aifactory.cli import lifecycle

    lifecycle.refresh(region, yes=yes, as_json=json_, verbose=verbose)


@app.command(rich_help_panel="Change")
def destroy(region: RegionArg, yes: Yes = False, json_: Json = False, verbose: Verbose = False) -> None:
    """Remove the region and all it made."""
    from aifactory.cli import lifecycle

    lifecycle.destroy(region, yes=yes, as_json=json_, verbose=verbose)


@app.command(rich_help_panel="Use")
def status(region: RegionArg, json_: Json = False) -> None:
    """What stands: nodes, services, front door, verdicts."""
    from aifactory.cli import use

    use.status(region, as_json=json_)


@app.command(rich_help_panel="Use")
def ask(
    region: RegionArg,
    text: Annotated[str, typer.Argument(help="The question.")],
    service: Annotated[str | None, typer.Option(help="Service name; none = the first one.")] = None,
    json_: Json = False,
) -> None:
    """Ask a served model through the front door; the answer streams."""
    from aifactory.cli import use

    use.ask(region, text, service=service, as_json=json_)


@app.command(rich_help_panel="Use")
def verify(region: RegionArg, json_: Json = False) -> None:
    """Prove the region again: SSH, units, a real completion. Exit 5 when something is not proved."""
    from aifactory.cli import use

    use.verify(region, as_json=json_)


@app.command(rich_help_panel="Use")
def health(region: RegionArg, json_: Json = False) -> None:
    """Judge every node with GPUs by the catalogue's signs; changes nothing. Exit 5 when one needs something done."""
    from aifactory.cli import health as judge

    judge.health(region, as_json=json_)


@app.command(rich_help_panel="Use", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def ssh(
    ctx: typer.Context,
    region: RegionArg,
    node: Annotated[str, typer.Argument(help="Node name; none = they are listed.")] = "",
) -> None:
    """Open a shell on a node, host key checked; words after the name run as a command."""
    from aifactory.cli import use

    use.ssh(region, node, ctx.args)


@app.command(rich_help_panel="Use")
def logs(
    region: RegionArg,
    service: Annotated[str | None, typer.Argument(help="Service name; none = front door and all services.")] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", help="Lines a node.", min=1)] = 50,
) -> None:
    """Last journal lines of a service's units on all its nodes."""
    from aifactory.cli import use

    use.logs(region, service, lines)


@app.command(rich_help_panel="Check")
def catalog(
    table: Annotated[
        str,
        typer.Argument(help="shapes, gpus, models, drivers, signals, xids, clouds and more; none = they are listed."),
    ] = "",
    provider: Annotated[str | None, typer.Option(help="shapes: only those of this provider.")] = None,
    json_: Json = False,
) -> None:
    """What the toolkit knows, as data."""
    from aifactory.cli import check

    check.catalog(table, provider=provider, as_json=json_)


@app.command(rich_help_panel="Check")
def doctor(json_: Json = False) -> None:
    """What this machine has and lacks, and the command that mends it."""
    from aifactory.cli import check

    check.doctor(as_json=json_)


@app.command(rich_help_panel="Use")
def env(
    region: Annotated[str | None, typer.Argument(help="Region name.", autocompletion=complete_region)] = None,
    json_: Json = False,
) -> None:
    """Exports for plain `pulumi`: eval "$(aifactory env local)"; pulumi preview -s local."""
    from aifactory.cli import lifecycle

    lifecycle.env(region, as_json=json_)


def main() -> None:
    """Console entry: problems are printed as text (or JSON, SARIF where asked for) and give their exit code."""
    arguments = sys.argv[1:]
    try:
        app()
    except ProblemError as error:
        _print_problems(error, arguments)
        sys.exit(int(error.code))
    except KeyboardInterrupt:
        sys.exit(int(Exit.INTERRUPTED))
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(int(Exit.OK))
    except OSError as error:
        if (problem := _of_this_machine(error)) is None:
            raise
        _print_problems(problem, arguments)
        sys.exit(int(problem.code))


def _of_this_machine(error: OSError) -> ProblemError | None:
    """A full disk, a folder that may not be written: of the machine, not of the toolkit. None for anything else."""
    import errno

    fixes = {
        errno.ENOSPC: "free space there, or point AIFACTORY_HOME or AIFACTORY_CACHE elsewhere",
        errno.EDQUOT: "free space there, or point AIFACTORY_HOME or AIFACTORY_CACHE elsewhere",
        errno.EROFS: "mount it writable, or point AIFACTORY_HOME or AIFACTORY_CACHE elsewhere",
        errno.EACCES: "give this user access, or run as the user whose it is",
        errno.EPERM: "give this user access, or run as the user whose it is",
        errno.ENOEXEC: "the program is damaged: remove the folder that it is in, then: make setup",
        errno.ENOTDIR: "move the file away that stands where a folder must be",
    }
    if error.errno not in fixes:
        return None
    what = f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror}."
    return fail("CLI-015", what, code=Exit.PREFLIGHT, fix=fixes[error.errno])


def _print_problems(error: ProblemError, arguments: list[str]) -> None:
    if "--sarif" in arguments:
        from aifactory.region.checks.rules import MEANINGS

        print(render_sarif(error.problems, __version__, MEANINGS))
    elif "--json" in arguments:
        print(render_json(error.problems))
    else:
        count = len(error.problems)
        print(render_text(error.problems), file=sys.stderr)
        if count > 1:
            print(f"\n{count} problems.", file=sys.stderr)


if __name__ == "__main__":
    main()
