"""Commands that change a region: preview, up, refresh, destroy; and env for plain `pulumi`."""

from __future__ import annotations

import dataclasses
import datetime as dt
import shlex
import sys
import time
from typing import TYPE_CHECKING, Any

from aifactory.cli import output, regions
from aifactory.errors import Exit, ProblemError, fail

if TYPE_CHECKING:
    from aifactory.engine import Outcome, Stack
    from aifactory.plan.model import RegionPlan
    from aifactory.region.loader import LoadedRegion


def preflight_problems(loaded: LoadedRegion, plan: RegionPlan) -> None:
    """The region's law, then read-only questions to the machine or cloud.

    Raises ProblemError with everything in the way: exit 2 for the law, 3 for the rest.
    """
    from aifactory import sovereignty
    from aifactory.components import limits

    sovereignty.check(loaded, plan, dt.date.today())
    problems = list(loaded.placed([*limits.problems(plan), *limits.unheeded(loaded.spec)]))
    if not problems and plan.provider == "local":
        from aifactory.provider.local import preflight

        problems += preflight.check(plan, _stack(loaded).deployment())
    if not problems and plan.provider == "aws":
        from aifactory.provider.aws import preflight as cloud

        problems += loaded.placed(cloud.check(plan, _stack(loaded).deployment()))
    if problems:
        raise ProblemError(problems, Exit.PREFLIGHT)


def env(region: str | None, *, as_json: bool) -> None:
    from aifactory import paths, toolchain
    from aifactory.engine import Stack, environment

    held: dict[str, str] = {}
    ambient: list[str] = []
    if region is None:
        exports = environment.exports(None, toolchain.resolve(), paths.REPO)
    else:
        stack = Stack(regions.load(region).spec)
        stack.ensure()
        exports, held = stack.exports(), environment.references(stack.spec)
        ambient = environment.lies_around(stack.spec)
    if as_json:
        output.emit_json(exports)
    else:
        if ambient:
            print(f"unset {' '.join(ambient)}")
        for name, value in exports.items():
            print(f"export {name}={shlex.quote(value)}")
        for name, variable in held.items():  # keys go by the name of their variable, never by value
            print(f'export {name}="${{{variable}-}}"')


def preview(region: str, *, as_json: bool, verbose: bool) -> None:
    loaded, plan = regions.load_plan(region)
    preflight_problems(loaded, plan)
    outcome = _run(_stack(loaded), "preview", as_json=as_json, verbose=verbose)
    if not as_json:
        print(_changes(outcome, would=True))
    _finish(outcome, region, as_json=as_json)


def up(region: str, *, yes: bool, as_json: bool, verbose: bool) -> None:
    loaded, plan = regions.load_plan(region)
    preflight_problems(loaded, plan)
    stack = _stack(loaded)
    if not yes and sys.stdin.isatty() and sys.stdout.isatty():
        foreseen = _run(stack, "preview", as_json=as_json, verbose=verbose)
        if not foreseen.ok:
            _finish(foreseen, region, as_json=as_json)
        print(_changes(foreseen, would=True))
    output.confirm(f"Bring up region {region}?", yes=yes)
    started = time.monotonic()
    outcome = _run(stack, "up", as_json=as_json, verbose=verbose)
    if outcome.ok and not as_json:
        _print_summary(region, outcome, time.monotonic() - started)
    _finish(outcome, region, as_json=as_json)


def refresh(region: str, *, yes: bool, as_json: bool, verbose: bool) -> None:
    loaded = regions.load(region)
    output.confirm(f"Read what is there into the state of {region}?", yes=yes)
    outcome = _run(_stack(loaded), "refresh", as_json=as_json, verbose=verbose)
    if outcome.ok and not as_json:
        print(_changes(outcome, would=False))
    _finish(outcome, region, as_json=as_json)


def destroy(region: str, *, yes: bool, as_json: bool, verbose: bool) -> None:
    loaded = regions.load(region)
    stack = _stack(loaded)
    if not stack.exists():
        _refuse_lost_state(loaded)
        _say_nothing_there(region, as_json=as_json)
        return
    output.confirm(f"Remove region {region} and all it made?", yes=yes)
    outcome = _run(stack, "destroy", as_json=as_json, verbose=verbose)
    if outcome.ok:
        stack.remove()
        if not as_json:
            print(f"Region {region} is gone: {_counted(outcome.changes.get('delete', 0), 'resource')} removed.")
    _finish(outcome, region, as_json=as_json)


def _refuse_lost_state(loaded: LoadedRegion) -> None:
    """Raises ProblemError when the state is gone and containers of its deployment are not."""
    from aifactory import paths
    from aifactory.engine import stackfile
    from aifactory.provider.local import driver, engine_errors, labels

    region, deployment = loaded.spec.name, stackfile.deployment(loaded.spec.name)
    if loaded.spec.provider.kind != "local" or deployment is None:
        return
    try:
        engine = driver.find(loaded.spec.provider.engine)
        left = engine.containers({labels.DEPLOYMENT: deployment, labels.REGION: region})
    except engine_errors.EngineError:
        return
    if left:
        raise fail(
            "CLI-016",
            f"Region {region} has no state in {paths.home()}, but containers of it stand: "
            f"{', '.join(sorted(c.name for c in left))}.",
            code=Exit.FAILED,
            fix=f"put {paths.home()} back from a backup, or clear them away without it, as docs/local.md says",
        )


def _say_nothing_there(region: str, *, as_json: bool) -> None:
    if as_json:
        output.emit_json({"region": region, "operation": "destroy", "exit": 0, "changes": {}})
    else:
        print(f"Region {region} does not stand; there is nothing to remove.")


def _stack(loaded: LoadedRegion) -> Stack:
    from aifactory.engine import Stack

    return Stack(loaded.spec)


def _run(stack: Stack, operation: str, *, as_json: bool, verbose: bool) -> Outcome:
    """One operation of the engine, shown while it runs: live tree, plain lines, or raw events with `verbose`."""
    from aifactory.cli import tree

    progress = tree.Progress(preview=operation == "preview")
    with tree.shown(progress, quiet=as_json, verbose=verbose) as on_event:
        outcome: Outcome = getattr(stack, operation)(on_event)
    return outcome


def _changes(outcome: Outcome, *, would: bool) -> str:
    """What changed (or would), one line a resource."""
    from aifactory.cli import tree

    words = tree.WOULD if would else tree.DONE
    rows = [
        (words.get(c.op, c.op), c.type.rsplit(":", 1)[-1], c.name, ", ".join(p for p, _ in c.changed))
        for c in outcome.changed
        if not c.type.startswith(tree.QUIET) and c.op in words and c.op not in {"refresh", "read"}
    ]
    if not rows:
        return "Nothing would change." if would else "Nothing has changed."
    return output.table(("what", "kind", "name", "because of"), rows)


def _print_summary(region: str, outcome: Outcome, seconds: float) -> None:
    from aifactory.provider import tokens

    made = {k: v for k, v in outcome.changes.items() if k not in {"same", "read"} and v}
    hosts = ((outcome.outputs.get("fleet") or {}).get("hosts")) or []
    print(f"\nRegion {region} stands: {_counted(len(hosts), 'node')}, {seconds:.1f} s.")
    if not made:
        print("  nothing had to change")
    else:
        print("  " + ", ".join(f"{count} {word}" for word, count in _told(made)))
    verdicts = outcome.outputs.get("verdicts") or []
    if verdicts:
        proved = sum(v.get("verdict") == "pass" for v in verdicts)
        anew = any(change.type == tokens.SERVICE_ACCEPTANCE for change in outcome.changed)
        earlier = f" when it last changed; to prove it now: aifactory verify {region}"
        print(f"  {proved} of {len(verdicts)} checks proved{'' if anew else earlier}")
    services = outcome.outputs.get("services") or []
    if endpoint := outcome.outputs.get("endpoint"):
        print(f"  endpoint  {endpoint}")
        print(f"  services  {', '.join(s['name'] + ' (' + s['model'] + ')' for s in services)}")
    print(f'Next: aifactory ask {region} "…"   ·   aifactory status {region}   ·   aifactory destroy {region}')


def _told(changes: dict[str, int]) -> list[tuple[str, int]]:
    from aifactory.cli import tree

    counts: dict[str, int] = {}
    for op, number in changes.items():
        word = tree.DONE.get(op, op)
        counts[word] = counts.get(word, 0) + number
    return list(counts.items())


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _finish(outcome: Outcome, region: str, *, as_json: bool) -> None:
    """Prints failures (or everything as JSON) and leaves with the outcome's exit code when it is not 0."""
    if as_json:
        output.emit_json(_as_dict(outcome, region))
    elif outcome.exit in {Exit.INTERRUPTED, Exit.TERMINATED}:
        output.note(f"\nStopped. What was begun is in the state; go on with: aifactory {outcome.operation} {region}")
    elif not outcome.ok:
        output.note(failures_text(outcome, region))
    if not outcome.ok:
        sys.exit(int(outcome.exit))


def failures_text(outcome: Outcome, region: str) -> str:
    """Every failure with its reasons, and what to do next."""
    lines = [f"\n{outcome.operation} of {region} did not succeed:"]
    for failure in outcome.failures:
        kind = failure.type.rsplit(":", 1)[-1]
        lines.append(f"  ✗ {kind} {failure.name}".rstrip() if kind or failure.name else "  ✗ the program or the engine")
        lines.extend(f"      {line}" for reason in failure.reasons for line in reason.splitlines())
    if outcome.operation == "up":
        lines.append(f"What was made is kept in the state. When it is mended, go on with: aifactory up {region}")
    if outcome.log:
        lines.append(f"The engine's events: {outcome.log}")
    return "\n".join(lines)


def _as_dict(outcome: Outcome, region: str) -> dict[str, Any]:
    return {
        "region": region,
        "operation": outcome.operation,
        "exit": int(outcome.exit),
        "changes": outcome.changes,
        "changed": [dataclasses.asdict(c) for c in outcome.changed],
        "failures": [dataclasses.asdict(f) for f in outcome.failures],
        "warnings": list(outcome.warnings),
        "outputs": outcome.outputs,
        "seconds": outcome.seconds,
    }
