"""What the role tests of services share: keys as the region makes them, inputs, runs, a client."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from aifactory.hosts import run as hosts_run
from aifactory.provider.host.keys import Keys, KeysInputs, KeysOutputs
from aifactory.provider.host.play_resource import PlayInputs, PlayResource
from aifactory.provider.service.front_door import Client as DoorClient
from aifactory.provider.service.front_door import DoorService, FrontDoor, FrontDoorInputs
from aifactory.provider.service.service import Endpoint
from aifactory.serving.client import Client

from tests.provider.harness import context
from tests.roles.conftest import Node, Site

KEY = b"t-key"
PORT = 443


def make_keys(node: Node) -> KeysOutputs:
    """CA, server certificate for the node, client and upstream keys."""
    resource = Keys()
    names = ("localhost", node.host.node_address)
    return resource.create(context(resource), KeysInputs(region="t-region", server_names=names, token="t"))[1]


def run(site: Site, resource: PlayResource[Any, Any], given: PlayInputs, **changes: Any) -> hosts_run.RunResult:
    return hosts_run.run_play(replace(resource.play(given), **changes), site.ssh, key=KEY, progress=print)


def four_runs(site: Site, resource: PlayResource[Any, Any], given: PlayInputs) -> dict[str, hosts_run.RunResult]:
    """The four runs that tell a role apart from a script: before, first, second, after."""
    steps = {"check before": True, "first": False, "second": False, "check after": True}
    done = {}
    for name, check in steps.items():
        done[name] = run(site, resource, given, check=check)
        print(name, done[name])
    return done


def door_inputs(node: Node, keys: KeysOutputs, servers: Sequence[Endpoint], **changes: Any) -> FrontDoorInputs:
    values: dict[str, Any] = {
        "region": "t-region", "hosts": (node.host,), "hostname": node.host.node_address, "port": PORT,
        "certificate": keys.server_certificate, "private_key": keys.server_key,
        "clients": (DoorClient("tester", keys.client_key_sha256),), "upstream_key": keys.upstream_key,
        "services": (DoorService("chat", "golden-tiny", tuple(servers)),),
    }  # fmt: skip
    return FrontDoorInputs(**{**values, **changes})


def door_client(given: FrontDoorInputs, keys: KeysOutputs, **changes: Any) -> Client:
    endpoint = FrontDoor().more_outputs(given)["endpoint"]
    return Client(
        **{"endpoint": endpoint, "ca_pem": keys.ca_certificate, "key": keys.client_key, "timeout_s": 30, **changes}
    )
