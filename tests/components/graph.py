"""Runs a component against Pulumi's mocks and keeps what it registered: types, names, parents, inputs, dependencies.

Answers for new resources have the names of the plugin's outputs; the values are made up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi
from aifactory.provider import tokens
from pulumi.runtime import mocks, rpc, settings

SECRET = "1b47061264138c4ac30d75fd1eb44270"
SIGNATURE = "4dabf18193072939515e22adb298388d"

ANSWERS: Mapping[str, Mapping[str, Any]] = {
    tokens.HOST_KEYS: {
        "ssh_public_key": "ssh-ed25519 PUBLIC",
        "ssh_private_key": "SSH-PRIVATE",
        "ca_certificate": "CA",
        "ca_key": "CA-KEY",
        "ca_expires_at": "2036-01-01T00:00:00+00:00",
        "server_certificate": "SERVER",
        "server_key": "SERVER-KEY",
        "server_expires_at": "2027-01-01T00:00:00+00:00",
        "upstream_key": "UPSTREAM",
        "client_key": "CLIENT",
        "client_key_sha256": "ab" * 32,
        "nonce": "n",
    },
    tokens.LOCAL_NETWORK: {
        "engine": "podman",
        "network": "aifactory-local",
        "subnet": "10.64.0.0/16",
        "gateway": "10.64.0.1",
        "nonce": "n",
    },
    tokens.LOCAL_NODE_IMAGE: {"image": "f00d", "reference": "localhost/node", "digest": "d", "nonce": "n"},
    tokens.SERVICE_ENGINE_IMAGE: {
        "archive": "engine.tar",
        "archive_sha256": "d",
        "image_id": "beef",
        "model_files": {"golden-tiny": "golden.gguf"},
        "nonce": "n",
    },
    tokens.AWS_KEY: {"key_id": "k", "key_arn": "KEY-ARN", "origin": "AWS_KMS", "nonce": "n"},
    tokens.AWS_NETWORK: {
        "vpc_id": "vpc",
        "subnet_ids": {"nodes-a": "subnet-nodes", "public-a": "subnet-public"},
        "node_group": "sg-nodes",
        "door_group": "sg-door",
        "nat_address": "192.0.2.1",
        "route_tables": {},
        "nonce": "n",
    },
    tokens.AWS_IDENTITY: {
        "role_arn": "ROLE",
        "instance_profile": "profile",
        "instance_profile_arn": "PROFILE",
        "nonce": "n",
    },
    tokens.AWS_BUCKET: {"bucket": "a-bucket", "arn": "BUCKET-ARN", "location": "eusc-de-east-1", "nonce": "n"},
    tokens.AWS_FILE_SYSTEM: {"file_system_id": "fs", "dns_name": "fs.dns", "mount_name": "m", "nonce": "n"},
    tokens.AWS_PLACEMENT_GROUP: {"group_name": "a-group", "group_id": "pg", "nonce": "n"},
    tokens.AWS_LAUNCH_TEMPLATE: {
        "template_id": "lt",
        "template_version": 1,
        "user_data_sha256": "d",
        "nonce": "n",
    },
    tokens.AWS_DOOR: {"dns_name": "door.elb.example.eu", "arn": "DOOR-ARN", "nonce": "n"},
    tokens.SERVICE_ACCEPTANCE: {"verdicts": [{"check": "completion", "verdict": "pass"}], "nonce": "n"},
}
SECRETS = {"ssh_private_key", "ca_key", "server_key", "upstream_key", "client_key"}


@dataclass
class Registered:
    """One resource as the engine was asked for it. `dependencies` are names, `secrets` the inputs that were wrapped."""

    type: str
    name: str
    parent: str
    inputs: dict[str, Any]
    dependencies: set[str]
    secrets: set[str]
    deleted_with: str


@dataclass
class Graph:
    """Everything registered, in order, and the stack outputs."""

    resources: list[Registered] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    secret_outputs: set[str] = field(default_factory=set)

    def of(self, token: str) -> dict[str, Registered]:
        return {r.name: r for r in self.resources if r.type == token}


class _Monitor(mocks.MockMonitor):
    """Keeps the requests; the SDK's mocks hide parents, dependencies and secrets."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(_Answers())
        self.graph = graph

    def RegisterResource(self, request: Any) -> Any:
        if request.type != "pulumi:pulumi:Stack":
            self.graph.resources.append(
                Registered(
                    type=request.type,
                    name=request.name,
                    parent=request.parent.rpartition("::")[2],
                    inputs=_plain(rpc.deserialize_properties(request.object)),
                    dependencies={urn.rpartition("::")[2] + "|" + _type(urn) for urn in request.dependencies},
                    deleted_with=request.deletedWith.rpartition("::")[2],
                    secrets={key for key, value in request.object.fields.items() if _is_secret(value)},
                )
            )
        return super().RegisterResource(request)

    def RegisterResourceOutputs(self, request: Any) -> Any:
        if _type(request.urn) == "pulumi:pulumi:Stack":
            self.graph.outputs = _plain(rpc.deserialize_properties(request.outputs))
            self.graph.secret_outputs = {k for k, v in request.outputs.fields.items() if _is_secret(v)}
        return super().RegisterResourceOutputs(request)


class _Answers(mocks.Mocks):
    def call(self, args: mocks.MockCallArgs) -> Any:
        raise AssertionError(f"the program called {args.token}")

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        answer = {**args.inputs, **_answer(args)}
        return f"{args.name}-id", {key: _wrapped(value) if key in SECRETS else value for key, value in answer.items()}


def _wrapped(value: Any) -> Any:
    """A secret as the plugin sends it."""
    return {SIGNATURE: SECRET, "value": value}


def _answer(args: mocks.MockResourceArgs) -> Mapping[str, Any]:
    run = {"digests": {}, "nodes": {}, "run_id": f"run-{args.name}", "nonce": "n"}
    if args.typ == tokens.HOST_CONFIGURATION:
        return run
    if args.typ in (tokens.LOCAL_NODE_POOL, tokens.STATIC_NODE_POOL, tokens.AWS_NODE_POOL):
        nodes = args.inputs.get("nodes") or args.inputs["hosts"]
        return {"hosts": [_host(args, node) for node in nodes], "run_id": f"nodes-{args.name}", "nonce": "n"}
    if args.typ == tokens.SERVICE_SERVICE:
        servers = [{"node": r["node"], "address": "10.0.0.1", "port": r["port"]} for r in args.inputs["replicas"]]
        return {**run, "endpoints": servers}
    if args.typ == tokens.SERVICE_FRONT_DOOR:
        url = f"https://{args.inputs['hostname']}:{int(args.inputs['port'])}"
        return {**run, "endpoint": url}
    return ANSWERS.get(args.typ, {})


def _host(args: mocks.MockResourceArgs, node: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": f"id-{node['name']}",
        "name": node["name"],
        "address": "127.0.0.1",
        "port": 2200 + int(node["rank"]),
        "user": args.inputs["user"],
        "host_key": "ssh-ed25519 HOST",
        "pool": args.inputs["pool"],
        "shape": args.inputs["shape"],
        "rank": node["rank"],
        "gpus": node["gpus"],
        "node_address": node.get("address") or f"10.20.0.{node['rank']}",
        "labels": {},
    }


def run(program: Callable[[], None]) -> Graph:
    """Runs `program` as the stack `local` of the project `aifactory`."""
    graph = Graph()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    mocks.set_mocks(_Answers(), project="aifactory", stack="local", preview=False, monitor=_Monitor(graph))
    settings.ROOT.set(None)  # the mocks bring a finished root; the program makes its own, as under the engine
    loop.run_until_complete(pulumi.runtime.run_in_stack(program))
    return graph


def _type(urn: str) -> str:
    return urn.split("::")[2].rpartition("$")[2]


def _is_secret(value: Any) -> bool:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        fields = value.struct_value.fields
        return (SIGNATURE in fields and fields[SIGNATURE].string_value == SECRET) or any(
            map(_is_secret, fields.values())
        )
    return kind == "list_value" and any(map(_is_secret, value.list_value.values))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        if value.get(SIGNATURE) == SECRET:
            return _plain(value["value"])
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
