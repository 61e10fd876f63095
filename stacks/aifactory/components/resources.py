"""The plugin's resources as the program sees them: plain custom resources, one class a type, no generated code.

Keyword arguments are the resource's inputs, annotations its outputs; names are the same on both sides of the
wire. What Check fills in (`token`, `digests`, `recipe`) is not set here. tests/components/test_resources.py
holds all of it against the provider's dataclasses.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pulumi
from pulumi import Input, Output, ResourceOptions

from aifactory.provider import tokens

Data = Mapping[str, Any]
Hosts = Input[Sequence[Data]]


class _Resource(pulumi.CustomResource):
    """Registers the inputs; every output that the class annotates becomes an attribute."""

    token: ClassVar[str]

    def __init__(self, name: str, opts: ResourceOptions | None, /, **inputs: Any) -> None:
        super().__init__(self.token, name, {**dict.fromkeys(self.outputs()), **inputs}, opts)

    @classmethod
    def outputs(cls) -> tuple[str, ...]:
        """Names of the outputs, inherited ones first."""
        bases = [base for base in reversed(cls.__mro__) if issubclass(base, _Resource) and base is not _Resource]
        return tuple(name for base in bases for name in inspect.get_annotations(base))


class _Play(_Resource):
    """What Ansible leaves on hosts. `access` says how they are reached (see access.py)."""

    digests: Output[Data]
    nodes: Output[Data]
    run_id: Output[str]
    nonce: Output[str]


class Keys(_Resource):
    token = tokens.HOST_KEYS
    ssh_public_key: Output[str]
    ssh_private_key: Output[str]
    ca_certificate: Output[str]
    ca_key: Output[str]
    ca_expires_at: Output[str]
    server_certificate: Output[str]
    server_key: Output[str]
    server_expires_at: Output[str]
    upstream_key: Output[str]
    client_key: Output[str]
    client_key_sha256: Output[str]
    nonce: Output[str]

    def __init__(self, name: str, *, region: str, server_names: Sequence[Input[str]], opts: ResourceOptions) -> None:
        super().__init__(name, opts, region=region, server_names=list(server_names))


class LocalNetwork(_Resource):
    token = tokens.LOCAL_NETWORK
    engine: Output[str]
    network: Output[str]
    subnet: Output[str]
    gateway: Output[str]
    nonce: Output[str]

    def __init__(self, name: str, *, region: str, cidr: str, engine: str, opts: ResourceOptions) -> None:
        super().__init__(name, opts, region=region, cidr=cidr, engine=engine)


class LocalNodeImage(_Resource):
    token = tokens.LOCAL_NODE_IMAGE
    image: Output[str]
    reference: Output[str]
    digest: Output[str]
    nonce: Output[str]

    def __init__(self, name: str, *, engine: Input[str], suite: str, opts: ResourceOptions) -> None:
        super().__init__(name, opts, engine=engine, suite=suite)


class NodePool(_Resource):
    """A pool of any provider: what follows sees its hosts and nothing else."""

    hosts: Output[Sequence[Data]]
    run_id: Output[str]
    nonce: Output[str]


class LocalNodePool(NodePool):
    token = tokens.LOCAL_NODE_POOL

    def __init__(
        self,
        name: str,
        *,
        region: str,
        pool: str,
        engine: Input[str],
        network: Input[str],
        image: Input[str],
        user: str,
        authorized_key: Input[str],
        ssh_private_key: Input[str],
        shape: str,
        nodes: Sequence[Data],
        generation: int,
        opts: ResourceOptions,
    ) -> None:
        super().__init__(
            name,
            opts,
            region=region,
            pool=pool,
            engine=engine,
            network=network,
            image=image,
            user=user,
            authorized_key=authorized_key,
            ssh_private_key=ssh_private_key,
            shape=shape,
            nodes=nodes,
            generation=generation,
        )


class StaticNodePool(NodePool):
    token = tokens.STATIC_NODE_POOL

    def __init__(
        self,
        name: str,
        *,
        region: str,
        pool: str,
        shape: str,
        user: str,
        hosts: Sequence[Data],
        access: Data,
        opts: ResourceOptions,
    ) -> None:
        super().__init__(name, opts, region=region, pool=pool, shape=shape, user=user, hosts=hosts, **access)


class Configuration(_Play):
    token = tokens.HOST_CONFIGURATION

    def __init__(
        self,
        name: str,
        *,
        region: str,
        pool: str,
        hosts: Hosts,
        access: Data,
        layers: Sequence[str],
        role_vars: Data,
        opts: ResourceOptions,
    ) -> None:
        super().__init__(
            name, opts, region=region, pool=pool, hosts=hosts, layers=list(layers), role_vars=role_vars, **access
        )


class EngineImage(_Resource):
    token = tokens.SERVICE_ENGINE_IMAGE
    archive: Output[str]
    archive_sha256: Output[str]
    image_id: Output[str]
    model_files: Output[Mapping[str, str]]
    nonce: Output[str]

    def __init__(
        self,
        name: str,
        *,
        region: str,
        engine: str,
        models: Sequence[str],
        container_engine: str,
        opts: ResourceOptions,
    ) -> None:
        super().__init__(
            name, opts, region=region, engine=engine, models=list(models), container_engine=container_engine
        )


class Service(_Play):
    token = tokens.SERVICE_SERVICE
    endpoints: Output[Sequence[Data]]

    def __init__(
        self,
        name: str,
        *,
        region: str,
        service: str,
        model: str,
        engine: str,
        hosts: Hosts,
        access: Data,
        image_archive: Input[str],
        image_id: Input[str],
        model_file: Input[str],
        model_sha256: str,
        context_tokens: int,
        parallel_requests: int,
        replicas: Sequence[Data],
        upstream_key: Input[str],
        opts: ResourceOptions,
    ) -> None:
        super().__init__(
            name,
            opts,
            region=region,
            service=service,
            model=model,
            engine=engine,
            hosts=hosts,
            image_archive=image_archive,
            image_id=image_id,
            model_file=model_file,
            model_sha256=model_sha256,
            context_tokens=context_tokens,
            parallel_requests=parallel_requests,
            replicas=replicas,
            upstream_key=upstream_key,
            **access,
        )


class FrontDoor(_Play):
    token = tokens.SERVICE_FRONT_DOOR
    endpoint: Output[str]

    def __init__(
        self,
        name: str,
        *,
        region: str,
        hostname: Input[str],
        port: int,
        hosts: Hosts,
        access: Data,
        certificate: Input[str],
        private_key: Input[str],
        clients: Sequence[Data],
        services: Sequence[Data],
        upstream_key: Input[str],
        opts: ResourceOptions,
    ) -> None:
        super().__init__(
            name,
            opts,
            region=region,
            hostname=hostname,
            port=port,
            hosts=hosts,
            certificate=certificate,
            private_key=private_key,
            clients=clients,
            services=services,
            upstream_key=upstream_key,
            **access,
        )


class Acceptance(_Resource):
    token = tokens.SERVICE_ACCEPTANCE
    verdicts: Output[Sequence[Data]]
    nonce: Output[str]

    def __init__(
        self,
        name: str,
        *,
        region: str,
        hosts: Hosts,
        access: Data,
        endpoint: Input[str] | None,
        ca_certificate: Input[str] | None,
        client_key: Input[str],
        services: Sequence[Data],
        units: Mapping[str, Sequence[str]],
        level: str,
        after: Sequence[Input[str]],
        opts: ResourceOptions,
    ) -> None:
        super().__init__(
            name,
            opts,
            region=region,
            hosts=hosts,
            endpoint=endpoint,
            ca_certificate=ca_certificate,
            client_key=client_key,
            services=services,
            units=units,
            level=level,
            after=list(after),
            **access,
        )
