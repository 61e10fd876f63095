"""`aifactory:aws:PlacementGroup`: where a pool's nodes stand to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from aifactory.provider import tokens
from aifactory.provider.aws import owned, tags
from aifactory.provider.aws.api import Api
from aifactory.provider.aws.cloud import CloudInput
from aifactory.provider.aws.failures import CloudError
from aifactory.provider.aws.owned import Owned, Work
from aifactory.provider.journal import Journal
from aifactory.provider.resource import UNKNOWN, CheckFailure, Context, HalfMade, Refused, prop

BUSY_S = 600.0
"""How long the nodes of a group may take to be gone before its delete gives up."""


@dataclass(frozen=True)
class PlacementGroupInputs:
    region: str = prop(doc="Region name.", replaces=True)
    cloud: CloudInput = prop(doc="Where its API is.")
    name: str = prop(doc="Name of the group, unique in the account and region.", replaces=True)
    strategy: Literal["cluster", "spread"] = prop(doc="Close together, or each on hardware of its own.", replaces=True)
    token: str = prop("", doc="Identity of the resource.", check=True)


@dataclass(frozen=True)
class PlacementGroupOutputs:
    group_name: str = prop(doc="Name.")
    group_id: str = prop(doc="Id of the cloud.")
    nonce: str = prop(doc="Fence of delete and update.")


class PlacementGroup(Owned[PlacementGroupInputs, PlacementGroupOutputs]):
    """One object, made by one call. Its delete waits for the last node to be gone."""

    token = tokens.AWS_PLACEMENT_GROUP
    Inputs = PlacementGroupInputs
    Outputs = PlacementGroupOutputs
    name_stays = True

    def id_of(self, news: PlacementGroupInputs) -> str:
        return news.name

    def check(
        self, ctx: Context, news: PlacementGroupInputs, olds: PlacementGroupInputs | None
    ) -> tuple[PlacementGroupInputs, list[CheckFailure]]:
        return news, owned.refused({"name": ("ec2_placement_group", news.name)})

    def preview(
        self, ctx: Context, news: PlacementGroupInputs, outs: PlacementGroupOutputs | None
    ) -> PlacementGroupOutputs:
        return outs or PlacementGroupOutputs(news.name, UNKNOWN, UNKNOWN)

    def changed(self, api: Api, olds: PlacementGroupInputs, outs: PlacementGroupOutputs) -> tuple[str, ...]:
        group = _group(api, olds.name)
        if group is None or group["GroupId"] != outs.group_id:
            return ("group_id",)
        return ()

    def found(self, api: Api, olds: PlacementGroupInputs, outs: PlacementGroupOutputs) -> PlacementGroupOutputs | None:
        group = _group(api, olds.name)
        if group is None or tags.read(group.get("Tags")).get(tags.TOKEN) != olds.token:
            return None
        made = _outputs(group, outs.nonce)
        if group["State"] != "available":
            raise HalfMade(self.id_of(olds), made, [f"placement group {olds.name} is {group['State']}"])
        return made

    def make(self, work: Work[PlacementGroupOutputs], news: PlacementGroupInputs) -> PlacementGroupOutputs:
        api = work.api

        def seen() -> dict[str, Any] | None:
            group = _group(api, news.name)
            if group is not None:
                owned.claim(f"placement group {news.name}", tags.read(group.get("Tags")), work.tags)
            return group

        group = api.create(
            "ec2",
            "CreatePlacementGroup",
            seen,
            lambda answer: dict(answer["PlacementGroup"]),
            GroupName=news.name,
            Strategy=news.strategy,
            TagSpecifications=tags.specification("placement-group", work.tags),
        )
        if group["Strategy"] != news.strategy:
            raise Refused(
                f"placement group {news.name} is there with the strategy {group['Strategy']}, wanted is "
                f"{news.strategy}; fix: remove it, or set placement: {group['Strategy']}"
            )
        work.exists(_outputs(group, work.nonce))
        if tags.read(group.get("Tags")).get(tags.TOKEN) != news.token:
            api.call("ec2", "CreateTags", Resources=[group["GroupId"]], Tags=tags.pairs(work.tags))
        return _outputs(api.until(lambda: _ready(api, news.name), f"placement group {news.name}"), work.nonce)

    def remove(self, api: Api, journal: Journal, olds: PlacementGroupInputs, outs: PlacementGroupOutputs) -> None:
        group = _group(api, olds.name)
        if group is None or tags.read(group.get("Tags")).get(tags.TOKEN) != olds.token:
            return
        try:
            owned.removed(api, "ec2", "DeletePlacementGroup", busy_s=BUSY_S, GroupName=olds.name)
        except CloudError as error:
            if error.kind != "in_use":
                raise
            raise Refused(
                f"placement group {olds.name} still has instances after {BUSY_S:.0f} s; "
                "terminate them and destroy again"
            ) from error


def _group(api: Api, name: str) -> dict[str, Any] | None:
    """The group of that name, ours or not; None where there is none, or only what is left of a deleted one."""
    answer = owned.absent_is_none(lambda: api.call("ec2", "DescribePlacementGroups", GroupNames=[name]))
    groups = [dict(g) for g in (answer or {}).get("PlacementGroups", ()) if g["State"] not in ("deleting", "deleted")]
    return groups[0] if groups else None


def _ready(api: Api, name: str) -> dict[str, Any] | None:
    group = _group(api, name)
    return group if group is not None and group["State"] == "available" else None


def _outputs(group: dict[str, Any], nonce: str) -> PlacementGroupOutputs:
    return PlacementGroupOutputs(str(group["GroupName"]), str(group["GroupId"]), nonce)
