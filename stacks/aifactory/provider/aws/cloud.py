"""Where a region's API is: the part of every AWS resource's inputs that says which cloud, and whose keys open it.

No secret is among it: credentials are named (a profile, a prefix of environment variables, a role), never carried.
"""

from __future__ import annotations

from dataclasses import dataclass

from aifactory import catalog
from aifactory.plan.model import CloudPlan
from aifactory.provider.resource import prop


@dataclass(frozen=True)
class CloudInput:
    """One cloud as the region file names it. Two equal ones share their clients within a process."""

    key: str = prop(doc="Key of the clouds catalogue: what provider.partition of the region file names.")
    region: str = prop(doc="Region id inside the partition.")
    account: str = prop(doc="Account id, twelve digits; calls with anybody else's keys are refused.")
    endpoints: dict[str, str] = prop(
        doc="Service → URL, for what the client library does not know.", default_factory=dict
    )
    off_region: tuple[str, ...] = prop(
        (), doc="Services whose host stands outside the region and may be used all the same (rule LOC-07)."
    )
    profile: str = prop("", doc="Named profile of the credentials file.")
    env_prefix: str = prop("", doc="Prefix of the environment variables that hold the keys.")
    role_arn: str = prop("", doc="Role to assume with a web identity.")

    @classmethod
    def of(cls, plan: CloudPlan) -> CloudInput:
        """The plan's cloud; what it has none of is empty here."""
        return cls(
            key=plan.key,
            region=plan.region,
            account=plan.account,
            endpoints=dict(plan.endpoints),
            off_region=plan.off_region,
            profile=plan.profile or "",
            env_prefix=plan.env_prefix or "",
            role_arn=plan.role_arn or "",
        )

    @property
    def card(self) -> catalog.Cloud:
        """The catalogue's row. Raises KeyError for a cloud that is not in it."""
        return catalog.clouds()[self.key]

    @property
    def partition(self) -> str:
        """Partition of its ARNs; `aws` where the cloud has none of its own."""
        return self.card.partition or "aws"

    def arn(self, service: str, resource: str, *, region: bool = True) -> str:
        """`arn:<partition>:<service>:<region>:<account>:<resource>`; S3 buckets have neither region nor account."""
        if service == "s3":
            return f"arn:{self.partition}:s3:::{resource}"
        return f"arn:{self.partition}:{service}:{self.region if region else ''}:{self.account}:{resource}"
