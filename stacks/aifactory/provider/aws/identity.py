"""`aifactory:aws:Identity`: what a node may do in the cloud: read the region's buckets, and no more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from aifactory.provider import tokens
from aifactory.provider.aws import owned, policies, tags
from aifactory.provider.aws.api import VISIBLE_S, Api
from aifactory.provider.aws.cloud import CloudInput
from aifactory.provider.aws.identity_api import Found, IdentityApi
from aifactory.provider.aws.owned import Owned, Work
from aifactory.provider.journal import Journal
from aifactory.provider.resource import UNKNOWN, CheckFailure, Context, prop


@dataclass(frozen=True)
class IdentityInputs:
    region: str = prop(doc="Region name.", replaces=True)
    cloud: CloudInput = prop(doc="Where its API is.")
    name: str = prop(doc="Name of role and instance profile, unique in the account.", replaces=True)
    bucket_arns: tuple[str, ...] = prop((), doc="Buckets that nodes read and list.")
    key_arn: str = prop("", doc="Key that they decrypt with.")
    token: str = prop("", doc="Identity of the resource.", check=True)


@dataclass(frozen=True)
class IdentityOutputs:
    role_arn: str = prop(doc="ARN of the role.")
    instance_profile: str = prop(doc="Name of the instance profile.")
    instance_profile_arn: str = prop(doc="ARN of the instance profile.")
    nonce: str = prop(doc="Fence of delete and update.")


class Identity(Owned[IdentityInputs, IdentityOutputs]):
    """A role that instances alone can be, with one policy, and its instance profile."""

    token = tokens.AWS_IDENTITY
    Inputs = IdentityInputs
    Outputs = IdentityOutputs

    def id_of(self, news: IdentityInputs) -> str:
        return news.name

    def check(
        self, ctx: Context, news: IdentityInputs, olds: IdentityInputs | None
    ) -> tuple[IdentityInputs, list[CheckFailure]]:
        return news, owned.refused({"name": ("iam_role", news.name)})

    def preview(self, ctx: Context, news: IdentityInputs, outs: IdentityOutputs | None) -> IdentityOutputs:
        if outs is not None or news.name is UNKNOWN:
            return outs or IdentityOutputs(UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN)
        return _named(news, UNKNOWN)

    def changed(self, api: Api, olds: IdentityInputs, outs: IdentityOutputs) -> tuple[str, ...]:
        """Four reads. A profile without the role has lost it; the role's own tags are looked at when that is mended."""
        there = _api(api, olds)
        profile = there.profile()
        if profile is None or olds.name not in profile.roles:
            return ("instance_profile",)
        return owned.differing(there.settings(profile, profile.roles[olds.name]))

    def found(self, api: Api, olds: IdentityInputs, outs: IdentityOutputs) -> IdentityOutputs | None:
        there = _api(api, olds)
        role, profile = owned.at_once(there.role, there.profile)
        if role is None and profile is None:
            return None
        return replace(
            outs,
            role_arn=role.arn if role else outs.role_arn,
            instance_profile_arn=profile.arn if profile else outs.instance_profile_arn,
        )

    def make(self, work: Work[IdentityOutputs], news: IdentityInputs) -> IdentityOutputs:
        """Role and profile at the same time, then what joins them."""
        there, named = _api(work.api, news), _named(news, work.nonce)
        there.claim(work.tags)

        def made(make: Callable[[dict[str, str]], Found]) -> Found:
            found = make(work.tags)
            work.exists(named)
            return found

        role, profile = owned.at_once(lambda: made(there.make_role), lambda: made(there.make_profile))
        outs = replace(named, role_arn=role.arn, instance_profile_arn=profile.arn)
        work.exists(outs)
        profile = work.api.until(there.profile, f"instance profile {news.name}", timeout_s=VISIBLE_S)
        owned.mend(work.api, there.settings(profile, role.trust), fresh=work.outs is None)
        if news.name not in profile.roles:
            there.bind()
            if work.outs is not None:
                work.api.ctx.log(f"instance_profile: without its role → {news.name}")
        return outs

    def remove(self, api: Api, journal: Journal, olds: IdentityInputs, outs: IdentityOutputs) -> None:
        there = _api(api, olds)
        role, profile = owned.at_once(there.role, there.profile)
        if profile is not None and profile.tags.get(tags.TOKEN) == olds.token:
            there.remove_profile(profile)
        if role is not None and role.tags.get(tags.TOKEN) == olds.token:
            there.remove_role()


def _api(api: Api, inputs: IdentityInputs) -> IdentityApi:
    return IdentityApi(api, inputs.name, policies.node(inputs.bucket_arns, inputs.key_arn))


def _named(news: IdentityInputs, nonce: str) -> IdentityOutputs:
    """ARNs follow from names: paths are not used here."""
    role = news.cloud.arn("iam", f"role/{news.name}", region=False)
    profile = news.cloud.arn("iam", f"instance-profile/{news.name}", region=False)
    return IdentityOutputs(role, news.name, profile, nonce)
