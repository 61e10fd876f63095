"""Refusals of the engine that have nothing to do with the region itself, in plain words."""

from __future__ import annotations

from aifactory import paths
from aifactory.engine import environment, locks, stackfile
from aifactory.errors import Exit, ProblemError, fail

LOCKED = "is currently locked by"


def known(region: str, text: str) -> ProblemError | None:  # noqa: PLR0911 - a list of cases
    """The problem behind the engine's error text; None when it is the region's own."""
    file = environment.passphrase_file()
    if "incorrect passphrase" in text:
        return fail(
            "ENG-005",
            f"The passphrase in {file} is not the one that region {region} was made with.",
            code=Exit.PREFLIGHT,
            fix=f"put the right one back from your backup: {file}",
        )
    if "PULUMI_CONFIG_PASSPHRASE" in text:
        return fail(
            "ENG-003", f"The passphrase file {file} cannot be read.", code=Exit.PREFLIGHT, fix=f"put {file} back"
        )
    if LOCKED in text and (owners := locks.told(text)):
        return locks.refuse(region, owners[0])
    if LOCKED in text:
        fix = "wait for the other run, then try again"
        return fail("ENG-011", f"Region {region}: {text}", code=Exit.PREFLIGHT, fix=fix)
    if "failed to load checkpoint" in text:
        return _damaged(region, text)
    if "invalid YAML file" in text:
        config = stackfile.path(region)
        fix = (
            f"mend it, or remove it: `aifactory up {region}` makes it again, without the encrypted values that it held"
        )
        return fail("ENG-009", f"{config} cannot be read: {text}", code=Exit.PREFLIGHT, fix=fix)
    if "no space left on device" in text:
        return fail("ENG-007", text, code=Exit.PREFLIGHT, fix="free space there, or point AIFACTORY_HOME elsewhere")
    if "no folder at path" in text:
        return fail("ENG-006", f"The provider plugin is not installed: {text}", code=Exit.PREFLIGHT, fix="make setup")
    return None


def _damaged(region: str, text: str) -> ProblemError:
    files = (paths.home() / "state" / ".pulumi" / "stacks").glob(f"*/{region}.json.zst")
    fix = next(
        (
            f"put back what the engine kept of the step before: cp {file}.bak {file}; without that, move {file} away: "
            f"`aifactory up {region}` finds what exists by its labels"
            for file in files
        ),
        "put a backup of it back",
    )
    return fail("ENG-008", f"The state of region {region} is damaged: {text}", code=Exit.PREFLIGHT, fix=fix)


def refused(region: str, stderr: str) -> ProblemError:
    """The problem of a short call that ended badly."""
    text = "\n".join(line for line in stderr.splitlines() if line.strip())
    return known(region, text) or fail("ENG-001", f"The engine refused:\n{text}", code=Exit.FAILED)
