"""The plugin's table of resources, and the server that the engine starts: `python -m tests.faults.plugin ADDRESS`."""

from __future__ import annotations

import sys

from aifactory.provider import registry as product
from aifactory.provider.aws import tokens
from aifactory.provider.registry import Registry

CLASSES = {
    tokens.NETWORK: "aifactory.provider.aws.network:Network",
    tokens.KEY: "aifactory.provider.aws.key:Key",
    tokens.IDENTITY: "aifactory.provider.aws.identity:Identity",
    tokens.BUCKET: "aifactory.provider.aws.bucket:Bucket",
    tokens.FILE_SYSTEM: "aifactory.provider.aws.file_system:FileSystem",
    tokens.PLACEMENT_GROUP: "aifactory.provider.aws.placement_group:PlacementGroup",
    tokens.LAUNCH_TEMPLATE: "aifactory.provider.aws.launch_template:LaunchTemplate",
    tokens.NODE_POOL: "aifactory.provider.aws.node_pool:NodePool",
    tokens.DOOR: "aifactory.provider.aws.door:Door",
}


def registry() -> Registry:
    """The product's table, and above for what it has not yet."""
    return Registry(product.PACKAGE, {**CLASSES, **product.CLASSES})


if __name__ == "__main__":
    from aifactory.provider.server import serve

    serve(registry(), sys.argv[1:])
