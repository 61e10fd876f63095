"""The engine's calls, one method each: typed values in, a verb of a resource, an honest answer out.

Real names of the protocol: pulumi/provider.proto. What the engine does with each answer was measured;
docs/provider.md keeps the table.
"""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf import empty_pb2  # type: ignore[import-untyped]
from pulumi.runtime.proto import plugin_pb2
from pulumi.runtime.proto import provider_pb2 as pb
from pulumi.runtime.proto.provider_pb2_grpc import ResourceProviderServicer

from aifactory.provider import coerce, differences, settings, wire
from aifactory.provider.calls import Operation, Rpc, answer
from aifactory.provider.engine_log import EngineLog
from aifactory.provider.identity import Tokens
from aifactory.provider.journal import live_nonce
from aifactory.provider.registry import Registry
from aifactory.provider.resource import UNKNOWN, CheckFailure

R = TypeVar("R")


class Servicer(ResourceProviderServicer):
    """One engine's view of the registry. Called from many threads."""

    def __init__(self, registry: Registry, version: str, engine_address: str = "") -> None:
        self.registry, self.version = registry, version
        self.cancel = threading.Event()
        self._log = EngineLog(engine_address)
        self._tokens = Tokens()
        self._deployment = ""

    # About the plugin

    def Handshake(self, request: pb.ProviderHandshakeRequest, rpc: Rpc) -> pb.ProviderHandshakeResponse:
        self._log.connect(request.engine_address)
        return pb.ProviderHandshakeResponse(accept_secrets=True, accept_resources=False, accept_outputs=False)

    def Attach(self, request: plugin_pb2.PluginAttach, rpc: Rpc) -> empty_pb2.Empty:
        self._log.connect(request.address)
        return empty_pb2.Empty()

    def GetPluginInfo(self, request: empty_pb2.Empty, rpc: Rpc) -> plugin_pb2.PluginInfo:
        return plugin_pb2.PluginInfo(version=self.version)

    def GetSchema(self, request: pb.GetSchemaRequest, rpc: Rpc) -> pb.GetSchemaResponse:
        from aifactory.provider import schema

        return pb.GetSchemaResponse(schema=schema.text(self.registry, self.version))

    def CheckConfig(self, request: pb.CheckRequest, rpc: Rpc) -> pb.CheckResponse:
        failures = settings.failures(wire.decode(request.news))
        return pb.CheckResponse(inputs=request.news, failures=failures)

    def DiffConfig(self, request: pb.DiffRequest, rpc: Rpc) -> pb.DiffResponse:
        olds = request.old_inputs if request.HasField("old_inputs") else request.olds
        return settings.diff(wire.decode(olds), wire.decode(request.news))

    def Configure(self, request: pb.ConfigureRequest, rpc: Rpc) -> pb.ConfigureResponse:
        """A run begins: an attached process may have served, and cancelled, another one before."""
        given = settings.deployment(wire.decode(request.args))
        self._deployment = "" if given is UNKNOWN else given
        self._tokens, self.cancel = Tokens(), threading.Event()
        return pb.ConfigureResponse(acceptSecrets=True, supportsPreview=True, acceptResources=False)

    def Cancel(self, request: empty_pb2.Empty, rpc: Rpc) -> empty_pb2.Empty:
        self.cancel.set()
        return empty_pb2.Empty()

    # About resources

    def Check(self, request: pb.CheckRequest, rpc: Rpc) -> pb.CheckResponse:
        return self._verb("check", request, rpc, lambda call: self._check(call, request))

    def _check(self, call: Operation, request: pb.CheckRequest) -> pb.CheckResponse:
        resource = call.resource
        loaded = call.load(resource.Inputs, request.news)
        if loaded.failures:
            return pb.CheckResponse(failures=[_failure(f) for f in loaded.failures])
        olds = call.state(resource.Inputs, request.olds)
        news, failures = resource.check(self._context(call), self._with_token(call, loaded.value, olds), olds)
        return pb.CheckResponse(
            inputs=None if failures else wire.dump(news, loaded.secrets, preview=True),
            failures=[_failure(f, call.secret_names) for f in failures],
        )

    def _with_token(self, call: Operation, news: Any, olds: Any) -> Any:
        if not hasattr(news, "token"):
            return news
        token = self._tokens.fill(
            self._deployment,
            call.urn,
            generation=getattr(news, "generation", 1),
            old_token=getattr(olds, "token", ""),
            old_generation=getattr(olds, "generation", None),
            given=news.token,
        )
        return dataclasses.replace(news, token=token)

    def Diff(self, request: pb.DiffRequest, rpc: Rpc) -> pb.DiffResponse:
        return self._verb("diff", request, rpc, lambda call: self._diff(call, request))

    def _diff(self, call: Operation, request: pb.DiffRequest) -> pb.DiffResponse:
        resource = call.resource
        olds = call.load(resource.Inputs, request.old_inputs, lenient=True).value
        outs = call.load(resource.Outputs, request.olds, lenient=True).value
        news = call.wanted(request.news)
        diff = resource.diff(self._context(call, preview=True), request.id, olds, outs, news)
        if live_nonce(olds, outs) not in (None, getattr(outs, "nonce", None)):
            diff = dataclasses.replace(diff, output_updates=(*diff.output_updates, "nonce"))
        return differences.answer(diff, olds, news, request.ignoreChanges)

    def Create(self, request: pb.CreateRequest, rpc: Rpc) -> pb.CreateResponse:
        return self._verb("create", request, rpc, lambda call: self._create(call, request))

    def _create(self, call: Operation, request: pb.CreateRequest) -> pb.CreateResponse:
        ctx = self._context(call, request.timeout, preview=request.preview)
        news = call.wanted(request.properties)
        if request.preview:
            planned = call.resource.preview(ctx, news, None)
            return pb.CreateResponse(properties=call.outputs(planned, preview=True))
        call.inputs = request.properties
        id_, outs = call.resource.create(ctx, news)
        return pb.CreateResponse(id=id_, properties=call.outputs(outs))

    def Read(self, request: pb.ReadRequest, rpc: Rpc) -> pb.ReadResponse:
        return self._verb("read", request, rpc, lambda call: self._read(call, request))

    def _read(self, call: Operation, request: pb.ReadRequest) -> pb.ReadResponse:
        resource, call.inputs = call.resource, request.inputs
        known = coerce.Loaded()
        if request.inputs.fields:
            known = call.load(resource.Inputs, request.inputs, lenient=True)
        outs = call.state(resource.Outputs, request.properties)
        found = resource.read(self._context(call, request.timeout), request.id, known.value, outs)
        if found is None:
            return pb.ReadResponse()
        inputs, outs = found
        return pb.ReadResponse(id=request.id, inputs=wire.dump(inputs, known.secrets), properties=call.outputs(outs))

    def Update(self, request: pb.UpdateRequest, rpc: Rpc) -> pb.UpdateResponse:
        return self._verb("update", request, rpc, lambda call: self._update(call, request))

    def _update(self, call: Operation, request: pb.UpdateRequest) -> pb.UpdateResponse:
        resource = call.resource
        ctx = self._context(call, request.timeout, preview=request.preview)
        olds = call.load(resource.Inputs, request.old_inputs, lenient=True).value
        outs = call.load(resource.Outputs, request.olds, lenient=True).value
        news = call.wanted(request.news)
        if request.preview:
            return pb.UpdateResponse(properties=call.outputs(resource.preview(ctx, news, outs), preview=True))
        live = live_nonce(olds, outs)
        if live is not None and hasattr(outs, "nonce"):
            # Whatever the engine updates is its own: it never updates what it is about to delete.
            outs = dataclasses.replace(outs, nonce=live)
        call.inputs = request.news
        outs = resource.update(ctx, request.id, olds, outs, news)
        return pb.UpdateResponse(properties=call.outputs(outs))

    def Delete(self, request: pb.DeleteRequest, rpc: Rpc) -> empty_pb2.Empty:
        return self._verb("delete", request, rpc, lambda call: self._delete(call, request))

    def _delete(self, call: Operation, request: pb.DeleteRequest) -> empty_pb2.Empty:
        resource = call.resource
        olds = call.load(resource.Inputs, request.old_inputs, lenient=True).value
        outs = call.load(resource.Outputs, request.properties, lenient=True).value
        resource.delete(self._context(call, request.timeout), request.id, olds, outs)
        return empty_pb2.Empty()

    # What this provider does not have

    def Invoke(self, request: pb.InvokeRequest, rpc: Rpc) -> NoReturn:
        _none(rpc, f"no functions ({request.tok})")

    def Call(self, request: pb.CallRequest, rpc: Rpc) -> NoReturn:
        _none(rpc, f"no methods ({request.tok})")

    def Construct(self, request: pb.ConstructRequest, rpc: Rpc) -> NoReturn:
        _none(rpc, f"no remote components ({request.type}); the program has them in aifactory.components")

    # Common to the verbs

    def _verb(self, verb: str, request: Any, rpc: Rpc, body: Callable[[Operation], R]) -> R:
        _, _, types, name = request.urn.split("::", 3)
        token = request.type or types.rpartition("$")[2]
        call = Operation(verb, request.urn, request.name or name, self._log)
        try:
            call.resource = self.registry.get(token)
            return body(call)
        except Exception as error:
            answer(rpc, call, error)
        finally:
            call.close()

    def _context(self, call: Operation, timeout_s: float = 0.0, *, preview: bool = False) -> Any:
        return call.context(self._deployment, self.cancel, timeout_s, preview=preview)


def _failure(found: coerce.Failure | CheckFailure, secret_names: set[str] | frozenset[str] = frozenset()) -> Any:
    """For the engine, which prints the value of the property that is named: a secret's path goes into the text."""
    if isinstance(found, coerce.Failure):
        path, hidden = wire.show(found.path), found.hidden
    else:
        path = found.property
        hidden = re.split(r"[.\[]", path, maxsplit=1)[0] in secret_names
    if hidden:
        return pb.CheckFailure(property="", reason=f"{path} {found.reason}")
    return pb.CheckFailure(property=path, reason=found.reason)


def _none(rpc: Rpc, what: str) -> NoReturn:
    rpc.abort(grpc.StatusCode.UNIMPLEMENTED, f"the aifactory provider has {what}")
    raise AssertionError("abort raises")
