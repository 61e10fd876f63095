"""The provider's configuration: one key, `aifactory:deployment`. No credentials: the engine keeps it in the state."""

from __future__ import annotations

import re
from typing import Any

from pulumi.runtime.proto import provider_pb2 as pb

from aifactory.catalog.suggest import nearest
from aifactory.provider import wire
from aifactory.provider.resource import UNKNOWN

KEY = "deployment"
DEPLOYMENT_RE = re.compile(r"[a-z0-9][a-z0-9-]{3,63}")
ENGINE_KEYS = frozenset({"version", "pluginDownloadURL"})
HOW_TO_SET = (
    "`aifactory up <region>` sets it; by hand, once a stack and never again: "
    "pulumi config set aifactory:deployment <a new id, like deploy-2f9c41> -s <region>"
)


def deployment(tree: dict[str, Any]) -> Any:
    """The deployment id, UNKNOWN, or "" where there is none."""
    value = tree.get(KEY, "")
    value = value.value if isinstance(value, wire.Secret) else value
    return value if value is UNKNOWN or isinstance(value, str) else ""


def failures(tree: dict[str, Any]) -> list[pb.CheckFailure]:
    """What is wrong with a configuration, and how it is set right."""
    found = []
    given = deployment(tree)
    if given is not UNKNOWN and not DEPLOYMENT_RE.fullmatch(given):
        wrong = "must be 4 to 64 of a-z, 0-9 and -" if given else "is not set"
        found.append(pb.CheckFailure(property=KEY, reason=f"aifactory:deployment {wrong}. {HOW_TO_SET}"))
    for key in sorted({*tree} - {KEY} - ENGINE_KEYS):
        if not key.startswith("__"):
            hint = f"; did you mean {KEY}?" if nearest(key, [KEY]) else f"; the only one is {KEY}"
            # Without a property name the engine prints no value: it may be a secret in the wrong place.
            found.append(pb.CheckFailure(property="", reason=f"aifactory:{key} is not a setting of the provider{hint}"))
    return found


def diff(olds: dict[str, Any], news: dict[str, Any]) -> pb.DiffResponse:
    """Whether the deployment changed. The engine configures with the OLD values where this says no."""
    if deployment(olds) == deployment(news):
        return pb.DiffResponse(changes=pb.DiffResponse.DIFF_NONE)
    kind = pb.PropertyDiff(kind=pb.PropertyDiff.UPDATE, inputDiff=True)
    return pb.DiffResponse(
        changes=pb.DiffResponse.DIFF_SOME, diffs=[KEY], detailedDiff={KEY: kind}, hasDetailedDiff=True
    )
