"""IAM as a role of the nodes and its instance profile need it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from aifactory.provider.aws import owned, policies, tags
from aifactory.provider.aws.api import Api
from aifactory.provider.aws.owned import Setting

POLICY = "aifactory-node"
"""Name of the one policy that the role has."""
SETTLED_S = 30.0
"""How long IAM may take to see that nothing hangs on a role any more."""


@dataclass(frozen=True)
class Found:
    """A role or an instance profile."""

    arn: str
    tags: dict[str, str]
    trust: Any = None
    """Of a role: who may be it."""
    roles: dict[str, Any] = field(default_factory=dict)
    """Of a profile: name → trust of the roles in it; None where the cloud does not say."""


class IdentityApi:
    """Role and instance profile of one name."""

    def __init__(self, api: Api, name: str, policy: policies.Document | None) -> None:
        self.api, self.name = api, name
        self._policy = policy
        self._role: dict[str, Any] = {"RoleName": name}
        self._profile: dict[str, Any] = {"InstanceProfileName": name}

    def role(self) -> Found | None:
        answer = owned.absent_is_none(lambda: self.api.call("iam", "GetRole", **self._role))
        return None if answer is None else _found(answer["Role"])

    def profile(self) -> Found | None:
        answer = owned.absent_is_none(lambda: self.api.call("iam", "GetInstanceProfile", **self._profile))
        return None if answer is None else _found(answer["InstanceProfile"])

    def make_role(self, mine: dict[str, str]) -> Found:
        """The role, made where it is missing. Raises Refused where it is somebody else's."""
        trust = policies.text(policies.node_trust())
        found = self.api.create(
            "iam",
            "CreateRole",
            lambda: self._ours("role", self.role(), mine),
            lambda answer: Found(str(answer["Role"]["Arn"]), dict(mine), policies.plain(trust)),
            AssumeRolePolicyDocument=trust,
            Tags=tags.pairs(mine),
            **self._role,
        )
        if found.tags.get(tags.TOKEN) != mine[tags.TOKEN]:
            self.api.call("iam", "TagRole", Tags=tags.pairs(mine), **self._role)
        return found

    def make_profile(self, mine: dict[str, str]) -> Found:
        """The instance profile, made where it is missing. Raises Refused where it is somebody else's."""
        found = self.api.create(
            "iam",
            "CreateInstanceProfile",
            lambda: self._ours("instance profile", self.profile(), mine),
            lambda answer: Found(str(answer["InstanceProfile"]["Arn"]), dict(mine)),
            Tags=tags.pairs(mine),
            **self._profile,
        )
        if found.tags.get(tags.TOKEN) != mine[tags.TOKEN]:
            self.api.call("iam", "TagInstanceProfile", Tags=tags.pairs(mine), **self._profile)
        return found

    def claim(self, mine: dict[str, str]) -> None:
        """Raises Refused where one of the two is somebody else's, before anything is made."""
        role, profile = owned.at_once(self.role, self.profile)
        self._ours("role", role, mine)
        self._ours("instance profile", profile, mine)

    def _ours(self, kind: str, found: Found | None, mine: dict[str, str]) -> Found | None:
        if found is not None:
            owned.claim(f"{kind} {self.name}", found.tags, mine)
        return found

    def settings(self, profile: Found, trust: Any) -> list[Setting]:
        """What can be put right, with profile and trust as they were read a moment ago. Three reads, at one time."""
        others = [role for role in profile.roles if role != self.name]
        inline, policy, attached = owned.at_once(self._inline, self._written, self._attached)
        strange = sorted(name for name in inline if name != POLICY)
        wanted = policies.plain(policies.node_trust())
        return [
            Setting("instance_profile", others, [], lambda: self._take_out(others)),
            Setting("trust", wanted if trust is None else trust, wanted, self._put_trust),
            Setting("policy", policy, policies.plain(self._policy), self._put_policy),
            Setting("other_policies", strange, [], lambda: self._delete_policies(strange)),
            Setting("attached_policies", attached, [], lambda: self._detach(attached)),
        ]

    def bind(self) -> None:
        """Puts the role into the profile, which holds one at most."""
        self.api.create(
            "iam",
            "AddRoleToInstanceProfile",
            self._bound,
            lambda _: True,
            just_made=True,
            **self._role,
            **self._profile,
        )

    def _bound(self) -> bool | None:
        found = self.profile()
        return True if found is not None and self.name in found.roles else None

    def remove_profile(self, profile: Found) -> None:
        self._take_out(list(profile.roles))
        owned.removed(self.api, "iam", "DeleteInstanceProfile", busy_s=SETTLED_S, **self._profile)

    def remove_role(self) -> None:
        inline, attached = owned.at_once(self._inline, self._attached)
        self._delete_policies(inline)
        self._detach(attached)
        owned.removed(self.api, "iam", "DeleteRole", busy_s=SETTLED_S, **self._role)

    # -- one setting each

    def _inline(self) -> Any:
        return list(self._listed("ListRolePolicies", "PolicyNames"))

    def _attached(self) -> Any:
        return sorted(item["PolicyArn"] for item in self._listed("ListAttachedRolePolicies", "AttachedPolicies"))

    def _listed(self, action: str, key: str) -> list[Any]:
        return owned.absent_is_none(lambda: list(self.api.pages("iam", action, key, **self._role))) or []

    def _written(self) -> Any:
        answer = owned.absent_is_none(lambda: self.api.call("iam", "GetRolePolicy", PolicyName=POLICY, **self._role))
        return None if answer is None else policies.plain(answer["PolicyDocument"])

    def _put_trust(self) -> None:
        trust = policies.text(policies.node_trust())
        self.api.call("iam", "UpdateAssumeRolePolicy", just_made=True, PolicyDocument=trust, **self._role)

    def _put_policy(self) -> None:
        if self._policy is None:
            self._delete_policies([POLICY])
            return
        written = policies.text(self._policy)
        self.api.call("iam", "PutRolePolicy", just_made=True, PolicyName=POLICY, PolicyDocument=written, **self._role)

    def _delete_policies(self, names: list[str]) -> None:
        for name in names:
            owned.removed(self.api, "iam", "DeleteRolePolicy", PolicyName=name, **self._role)

    def _detach(self, arns: list[str]) -> None:
        for arn in arns:
            owned.removed(self.api, "iam", "DetachRolePolicy", PolicyArn=arn, **self._role)

    def _take_out(self, roles: list[str]) -> None:
        for role in roles:
            owned.removed(self.api, "iam", "RemoveRoleFromInstanceProfile", RoleName=role, **self._profile)


def _found(item: dict[str, Any]) -> Found:
    roles = {str(r["RoleName"]): policies.plain(r.get("AssumeRolePolicyDocument")) for r in item.get("Roles", ())}
    trust = policies.plain(item.get("AssumeRolePolicyDocument"))
    return Found(str(item["Arn"]), tags.read(item.get("Tags")), trust, roles)
