"""Type tokens of this provider's resources, by their short names; the table is provider/tokens.py."""

from aifactory.provider.tokens import AWS_BUCKET as BUCKET
from aifactory.provider.tokens import AWS_DOOR as DOOR
from aifactory.provider.tokens import AWS_FILE_SYSTEM as FILE_SYSTEM
from aifactory.provider.tokens import AWS_IDENTITY as IDENTITY
from aifactory.provider.tokens import AWS_KEY as KEY
from aifactory.provider.tokens import AWS_LAUNCH_TEMPLATE as LAUNCH_TEMPLATE
from aifactory.provider.tokens import AWS_NETWORK as NETWORK
from aifactory.provider.tokens import AWS_NODE_POOL as NODE_POOL
from aifactory.provider.tokens import AWS_PLACEMENT_GROUP as PLACEMENT_GROUP

__all__ = [
    "BUCKET", "DOOR", "FILE_SYSTEM", "IDENTITY", "KEY", "LAUNCH_TEMPLATE", "NETWORK", "NODE_POOL", "PLACEMENT_GROUP",
]  # fmt: skip
