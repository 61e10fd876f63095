"""Rules of a security group brought to what is wanted, whatever was answered and whatever was lost."""

from __future__ import annotations

from collections.abc import Callable

from aifactory.provider.aws import network_rules
from aifactory.provider.aws.api import Api
from aifactory.provider.aws.failures import CloudError
from aifactory.provider.aws.network_rules import Rules, Wanted
from aifactory.provider.aws.network_world import Group

TURNS = 4
"""Readings of a group whose rules are not as the last one said: an answer was lost, or somebody else is at work."""


def settle(api: Api, group: Group, wanted: Wanted, read: Callable[[], Group | None]) -> None:
    """Adds what is missing, then takes away what is too much. `read` reads the group again. Raises CloudError."""
    for way, asked in (("ingress", wanted.ingress), ("egress", wanted.egress)):
        _settle(api, group, way, asked, read)


def _settle(api: Api, group: Group, way: str, wanted: Rules, read: Callable[[], Group | None]) -> None:
    now: Rules = getattr(group, way)
    for turn in range(TURNS):
        missing, extra = wanted - now, now - wanted
        try:
            if missing:
                _call(api, "Authorize", way, group, missing, just_made=True)
            if extra:  # a rule that is not there is not one that is not seen yet: it is not waited for
                _call(api, "Revoke", way, group, extra)
            return
        except CloudError as error:
            # All rules of a call are taken or none: one that is there already says nothing about the others.
            if error.kind not in ("exists", "absent") or turn == TURNS - 1:
                raise
        api.ctx.wait(1.0)
        found = read()
        now = getattr(found, way) if found is not None else now


def _call(api: Api, verb: str, way: str, group: Group, rules: Rules, *, just_made: bool = False) -> None:
    given = network_rules.permissions(rules)
    action = f"{verb}SecurityGroup{way.title()}"
    api.call("ec2", action, just_made=just_made, GroupId=group.id, IpPermissions=given)
