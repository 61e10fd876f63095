"""What a cloud's API answers when it does not do what was asked, sorted by what can be done about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from aifactory.provider.resource import Refused

Kind = Literal[
    "throttled", "transient", "lost", "absent", "exists", "in_use", "capacity", "quota", "denied", "expired", "other"
]
"""throttled: ask again later, nothing was done · transient: the service is unwell, perhaps done · lost: no answer came,
perhaps done · absent: it is not there (or not yet seen) · exists: the name is taken · in_use: something still needs
it · capacity: the cloud has no such machine now · quota: the account may have no more · denied: a permission is
missing · expired: the credentials are · other: the request itself is wrong."""

THROTTLED = {
    "RequestLimitExceeded", "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled",
    "RequestThrottledException", "TooManyRequestsException", "SlowDown", "PriorRequestNotComplete",
    "BandwidthLimitExceeded", "EC2ThrottledException", "ProvisionedThroughputExceededException",
}  # fmt: skip
"""Source: botocore 1.44.8, retries/special.py and retries/standard.py, ThrottledRetryableChecker."""
TRANSIENT = {
    "InternalError", "InternalFailure", "InternalServerError", "ServiceUnavailable", "Unavailable", "RequestTimeout",
    "RequestTimeoutException", "ServiceFailure", "KMSInternalException", "ConcurrentModification",
    "ConcurrentModificationException", "OperationAborted", "IncorrectState",
}  # fmt: skip
EXISTS = {
    "BucketAlreadyOwnedByYou", "Resource.AlreadyAssociated", "InvalidSubnet.Conflict", "DuplicateLoadBalancerName",
    "DuplicateTargetGroupName", "DuplicateListener",
}  # fmt: skip
"""Besides every code that ends in Duplicate, AlreadyExists or AlreadyExistsException. A subnet's range is its name: two
of one VPC never overlap. Source: EC2 API error codes; botocore 1.44.8, elbv2."""
IN_USE = {"DependencyViolation", "DeleteConflict", "BucketNotEmpty", "ResourceInUse", "VolumeInUse"}
ABSENT = {"404", "InvalidPlacementGroup.Unknown", "Gateway.NotAttached"}
"""Besides every code that ends in NotFound, NotFoundException or NotFoundError (S3), or begins with NoSuch."""
CAPACITY = {
    "InsufficientInstanceCapacity", "InsufficientHostCapacity", "InsufficientReservedInstanceCapacity",
    "InsufficientCapacity", "InsufficientCapacityOnHost", "ReservationCapacityExceeded", "SpotMaxPriceTooLow",
    "MaxSpotInstanceCountExceeded", "Unsupported",
}  # fmt: skip
"""`Unsupported`: the type is not offered in that zone. Source: EC2 API error codes, read 2026-11."""
QUOTA = {
    "VcpuLimitExceeded",
    "InstanceLimitExceeded",
    "ServiceQuotaExceededException",
    "ServiceLimitExceeded",
    "LimitExceeded",
    "LimitExceededException",
}
DENIED = {
    "UnauthorizedOperation",
    "AccessDenied",
    "AccessDeniedException",
    "Client.UnauthorizedOperation",
    "OptInRequired",
    "403",  # a HEAD has no body that could say more
}
EXPIRED = {
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "AuthFailure",
    "SignatureDoesNotMatch",
}


class CloudError(Exception):
    """One refused or unanswered call. The message names action, code and what the service said."""

    def __init__(self, action: str, code: str, message: str, *, status: int = 0, kind: Kind | None = None) -> None:
        super().__init__(f"{action}: {code}: {message}" if message else f"{action}: {code}")
        self.action, self.code, self.message, self.status = action, code, message, status
        self.kind: Kind = kind or _kind(code, status)


def _kind(code: str, status: int) -> Kind:
    words: tuple[tuple[Kind, set[str]], ...] = (
        ("throttled", THROTTLED), ("exists", EXISTS), ("in_use", IN_USE), ("capacity", CAPACITY), ("quota", QUOTA),
        ("denied", DENIED), ("expired", EXPIRED), ("transient", TRANSIENT),
    )  # fmt: skip
    for kind, codes in words:
        if code in codes:
            return kind
    if code in ABSENT or code.startswith("NoSuch") or code.endswith(("NotFound", "NotFoundException", "NotFoundError")):
        return "absent"
    if code.endswith(("Duplicate", "AlreadyExists", "AlreadyExistsException")):
        return "exists"
    if code.endswith(".InUse"):
        return "in_use"
    if code.endswith("LimitExceeded") or code.startswith("TooMany"):
        return "quota"
    return "transient" if status >= 500 else "other"


@contextmanager
def told() -> Iterator[None]:
    """Makes of a CloudError what a verb may raise when nothing was begun."""
    try:
        yield
    except CloudError as error:
        raise Refused(str(error)) from error
