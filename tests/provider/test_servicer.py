"""The servicer over real gRPC, with the test cloud behind it and a listening engine log. No engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from aifactory.provider import server, wire
from aifactory.provider.resource import UNKNOWN
from aifactory.provider.servicer import Servicer
from google.protobuf import empty_pb2
from pulumi.runtime.proto import engine_pb2_grpc, plugin_pb2, provider_pb2_grpc, status_pb2
from pulumi.runtime.proto import provider_pb2 as pb

from tests.provider import cloud
from tests.provider.pulumi_project import wait_for

PASSWORD = "correct-horse-battery"


class FakeEngine(engine_pb2_grpc.EngineServicer):
    """Takes log lines as the engine does."""

    def __init__(self) -> None:
        self.lines: list[Any] = []
        self.server = grpc.server(futures.ThreadPoolExecutor(4))
        engine_pb2_grpc.add_EngineServicer_to_server(self, self.server)
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def Log(self, request: Any, context: Any) -> Any:
        self.lines.append(request)
        return empty_pb2.Empty()


class Client:
    """Calls as the engine makes them."""

    def __init__(self, servicer: Servicer, folder: Path) -> None:
        self.servicer, self.folder = servicer, folder
        self.server, port = server.start(servicer)
        channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=server.CHANNEL_OPTIONS)
        self.stub = provider_pb2_grpc.ResourceProviderStub(channel)
        self.configure()

    def configure(self, deployment: str = "t-deploy") -> Any:
        return self.stub.Configure(pb.ConfigureRequest(args=wire.dump({"deployment": deployment})))

    @staticmethod
    def about(type_: str = cloud.NETWORK, name: str = "net") -> dict[str, str]:
        return {"urn": f"urn:pulumi:s::p::my:component:Pool${type_}::{name}", "name": name, "type": type_}

    def values(self, **more: Any) -> dict[str, Any]:
        return {"cloud": str(self.folder), "cidr": "10.0.0.0/24", **more}

    def check(self, news: dict[str, Any], olds: Any = None, **about: str) -> Any:
        message = news if not isinstance(news, dict) else wire.dump(news, [("password",)], preview=True)
        return self.stub.Check(pb.CheckRequest(news=message, olds=olds, **self.about(**about)))

    def create(self, news: dict[str, Any], *, preview: bool = False, timeout: float = 0, **about: str) -> Any:
        inputs = self.check(news, **about).inputs
        request = pb.CreateRequest(properties=inputs, preview=preview, timeout=timeout, **self.about(**about))
        return inputs, self.stub.Create(request)

    def diff(self, inputs: Any, made: Any, news: dict[str, Any], **more: Any) -> Any:
        news_message = self.check(news, inputs).inputs
        return self.stub.Diff(
            pb.DiffRequest(
                id=made.id, olds=made.properties, old_inputs=inputs, news=news_message, **self.about(), **more
            )
        )


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    engine = FakeEngine()
    yield engine
    engine.server.stop(None)


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: FakeEngine) -> Iterator[Client]:
    monkeypatch.setenv("AIFACTORY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PULUMI_PARALLEL", "40")
    (tmp_path / "cloud").mkdir()
    client = Client(Servicer(cloud.registry(), "0.1.0", engine.address), tmp_path / "cloud")
    yield client
    client.servicer.cancel.set()
    client.server.stop(None)


def failed(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details()


def init_failed(error: grpc.RpcError) -> pb.ErrorResourceInitFailed:
    data = dict(error.trailing_metadata())["grpc-status-details-bin"]
    detail = pb.ErrorResourceInitFailed()
    status = status_pb2.Status.FromString(data)
    assert status.code == error.code().value[0]
    assert status.details[0].Unpack(detail)
    return detail


class TestPlugin:
    def test_handshake_says_what_is_understood(self, client: Client, engine: FakeEngine) -> None:
        answer = client.stub.Handshake(pb.ProviderHandshakeRequest(engine_address=engine.address))
        assert answer.accept_secrets
        assert not answer.accept_resources
        assert not answer.accept_outputs

    def test_configure_says_what_is_understood(self, client: Client) -> None:
        answer = client.configure()
        assert answer.acceptSecrets
        assert answer.supportsPreview

    def test_plugin_info_has_the_version(self, client: Client) -> None:
        assert client.stub.GetPluginInfo(empty_pb2.Empty()).version == "0.1.0"

    def test_attach_moves_the_log_to_another_engine(self, client: Client) -> None:
        other = FakeEngine()
        client.stub.Attach(plugin_pb2.PluginAttach(address=other.address))
        client.create(client.values())
        assert [line.message for line in other.lines] == ["net is there"]
        other.server.stop(None)

    @pytest.mark.parametrize(
        ("call", "request_", "text"),
        [
            ("Invoke", pb.InvokeRequest(tok="aifactory:x:f"), "no functions (aifactory:x:f)"),
            ("Call", pb.CallRequest(tok="aifactory:x/m"), "no methods (aifactory:x/m)"),
            ("Construct", pb.ConstructRequest(type="aifactory:x:C"), "no remote components (aifactory:x:C)"),
        ],
    )
    def test_what_there_is_not_says_so(self, client: Client, call: str, request_: Any, text: str) -> None:
        code, details = failed(lambda: getattr(client.stub, call)(request_))
        assert code is grpc.StatusCode.UNIMPLEMENTED
        assert text in details

    def test_unknown_type_names_the_nearest(self, client: Client) -> None:
        code, details = failed(lambda: client.check({}, type_="aifactory:test:Netwrok"))
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert "aifactory:test:Network" in details


class TestConfig:
    def test_missing_deployment_says_how_to_set_it(self, client: Client) -> None:
        [failure] = client.stub.CheckConfig(pb.CheckRequest(news=wire.dump({"version": "1"}))).failures
        assert failure.property == "deployment"
        assert "pulumi config set aifactory:deployment" in failure.reason

    @pytest.mark.parametrize("value", ["ab", "Has-Capitals", "has space", "x" * 65])
    def test_bad_deployment_is_refused(self, client: Client, value: str) -> None:
        [failure] = client.stub.CheckConfig(pb.CheckRequest(news=wire.dump({"deployment": value}))).failures
        assert "must be 4 to 64" in failure.reason

    def test_other_keys_are_refused_without_their_value(self, client: Client) -> None:
        news = wire.dump({"deployment": "t-deploy", "deploymnt": "x", "password": "y"})
        found = client.stub.CheckConfig(pb.CheckRequest(news=news)).failures
        assert [f.property for f in found] == ["", ""]
        assert "did you mean deployment?" in found[0].reason

    def test_unknown_deployment_is_taken_in_a_preview(self, client: Client) -> None:
        news = wire.dump({"deployment": UNKNOWN}, preview=True)
        assert not client.stub.CheckConfig(pb.CheckRequest(news=news)).failures
        client.stub.Configure(pb.ConfigureRequest(args=news))
        assert wire.decode(client.check(client.values()).inputs)["token"] is UNKNOWN

    @pytest.mark.parametrize(
        ("new", "changes"), [("t-deploy", pb.DiffResponse.DIFF_NONE), ("t-other", 2), (UNKNOWN, 2)]
    )
    def test_diff_config_tells_the_truth(self, client: Client, new: Any, changes: int) -> None:
        old, news = wire.dump({"deployment": "t-deploy"}), wire.dump({"deployment": new}, preview=True)
        assert client.stub.DiffConfig(pb.DiffRequest(old_inputs=old, olds=old, news=news)).changes == changes


class TestCheck:
    def test_fills_defaults_and_token_and_keeps_secrets_wrapped(self, client: Client) -> None:
        inputs = wire.decode(client.check(client.values(password=PASSWORD)).inputs)
        assert inputs["size"] == 1
        assert len(inputs["token"]) == 32
        assert inputs["password"] == wire.Secret(PASSWORD)

    def test_declared_secret_is_wrapped_even_when_it_came_in_clear(self, client: Client) -> None:
        message = wire.dump(client.values(password=PASSWORD))
        assert wire.decode(client.check(message).inputs)["password"] == wire.Secret(PASSWORD)

    def test_undeclared_secret_stays_one(self, client: Client) -> None:
        message = wire.dump(client.values(), [("cidr",)])
        assert wire.decode(client.check(message).inputs)["cidr"] == wire.Secret("10.0.0.0/24")

    def test_unknown_stays_unknown(self, client: Client) -> None:
        assert wire.decode(client.check(client.values(cidr=UNKNOWN)).inputs)["cidr"] is UNKNOWN

    def test_token_is_kept_from_the_old_inputs(self, client: Client) -> None:
        inputs = client.check(client.values()).inputs
        again = client.check(client.values(size=9), inputs).inputs
        assert again.fields["token"] == inputs.fields["token"]

    def test_replacement_is_checked_twice_and_chains(self, client: Client) -> None:
        first = client.check(client.values()).inputs
        client.configure()
        client.check(client.values(cidr="10.1.0.0/24"), first)
        second = client.check(client.values(cidr="10.1.0.0/24")).inputs
        assert second.fields["token"] != first.fields["token"]

    def test_failures_are_all_named_with_nested_paths(self, client: Client) -> None:
        news = {"cloud": 3, "nodes": [{"name": "a"}, {"size": 1.5}], "nodse": []}
        found = client.check(news, type_=cloud.GANG).failures
        assert {(f.property, f.reason) for f in found} == {
            ("cloud", "must be text, is a number"),
            ("nodes[1].name", "is required"),
            ("nodes[1].size", "must be a whole number"),
            ("", "nodse is not a property here; did you mean nodes?"),
        }

    def test_no_failure_names_the_property_of_a_secret(self, client: Client) -> None:
        for password in (3.0, "too-short-password"):
            [failure] = client.check(client.values(password=password)).failures
            assert failure.property == ""
            assert failure.reason.startswith("password ")
            assert "too-short-password" not in failure.reason

    def test_failures_of_the_resource_come_through(self, client: Client) -> None:
        [failure] = client.check(client.values(cidr="10.0.0.0")).failures
        assert (failure.property, failure.reason) == ("cidr", "must have a prefix length")


class TestDiff:
    def test_nothing_changed(self, client: Client) -> None:
        inputs, made = client.create(client.values(password=PASSWORD))
        assert client.diff(inputs, made, client.values(password=PASSWORD)).changes == pb.DiffResponse.DIFF_NONE

    def test_update_names_the_smallest_path(self, client: Client) -> None:
        inputs, made = client.create(client.values(labels={"a.b": "1", "c": "1", "old": "1"}))
        news = client.values(labels={"a.b": "2", "c": "1", "new": "1"}, size=2)
        answer = client.diff(inputs, made, news)
        kinds = {path: (entry.kind, entry.inputDiff) for path, entry in answer.detailedDiff.items()}
        assert kinds == {
            'labels["a.b"]': (pb.PropertyDiff.UPDATE, True),
            "labels.new": (pb.PropertyDiff.ADD, True),
            "labels.old": (pb.PropertyDiff.DELETE, True),
            "size": (pb.PropertyDiff.UPDATE, True),
        }
        assert answer.changes == pb.DiffResponse.DIFF_SOME
        assert answer.hasDetailedDiff
        assert set(answer.diffs) == {"labels", "size"}
        assert not answer.replaces

    def test_replace_says_so_and_how(self, client: Client) -> None:
        inputs, made = client.create(client.values())
        answer = client.diff(inputs, made, client.values(cidr="10.1.0.0/24"))
        assert list(answer.replaces) == ["cidr"]
        assert answer.deleteBeforeReplace
        assert answer.detailedDiff["cidr"].kind == pb.PropertyDiff.UPDATE_REPLACE

    def test_new_generation_does_not_list_the_token(self, client: Client) -> None:
        inputs, made = client.create(client.values())
        assert list(client.diff(inputs, made, client.values(generation=2)).detailedDiff) == ["generation"]

    def test_ignored_changes_do_not_count(self, client: Client) -> None:
        inputs, made = client.create(client.values(labels={"a": "1"}))
        news = client.values(labels={"a": "2"}, size=3, cidr="10.1.0.0/24")
        answer = client.diff(inputs, made, news, ignoreChanges=["size", "labels.a", "cidr"])
        assert answer.changes == pb.DiffResponse.DIFF_NONE
        assert set(client.diff(inputs, made, news, ignoreChanges=["labels"]).diffs) == {"cidr", "size"}

    def test_unknown_new_value_is_a_change(self, client: Client) -> None:
        inputs, made = client.create(client.values())
        assert list(client.diff(inputs, made, client.values(size=UNKNOWN)).detailedDiff) == ["size"]

    def test_change_in_the_world_is_an_output_diff(self, client: Client) -> None:
        news = {"cloud": str(client.folder), "nodes": [{"name": "a"}, {"name": "b"}]}
        about = {"type_": cloud.GANG}
        inputs, made = client.create(news, **about)
        things = cloud.Cloud(str(client.folder))
        things.drop(next(t for t in things.all() if t["name"] == "b"))
        answer = client.stub.Diff(
            pb.DiffRequest(id=made.id, olds=made.properties, old_inputs=inputs, news=inputs, **client.about(cloud.GANG))
        )
        assert {p: e.inputDiff for p, e in answer.detailedDiff.items()} == {"hosts[1]": False}

    def test_nonce_lost_to_a_killed_run_asks_for_an_update_which_takes_it_back(self, client: Client) -> None:
        inputs, made = client.create(client.values())
        client.configure()
        _, lost = client.create(client.values())
        assert lost.id == made.id
        answer = client.diff(inputs, made, client.values())
        assert list(answer.detailedDiff) == ["nonce"]
        updated = client.stub.Update(
            pb.UpdateRequest(id=made.id, olds=made.properties, old_inputs=inputs, news=inputs, **client.about())
        )
        assert updated.properties.fields["nonce"] == lost.properties.fields["nonce"]


class TestCreate:
    def test_preview_tells_what_it_knows_and_touches_nothing(self, client: Client) -> None:
        _, planned = client.create(client.values(password=PASSWORD), preview=True)
        tree = wire.decode(planned.properties)
        assert tree["arn"] == "arn:net"
        assert tree["ip"] is UNKNOWN
        assert tree["password"] == wire.Secret(PASSWORD)
        assert cloud.Cloud(str(client.folder)).all() == []

    def test_made_and_unwrapped_secrets_are_wrapped(self, client: Client) -> None:
        _, made = client.create(client.values(password=PASSWORD))
        tree = wire.decode(made.properties)
        assert isinstance(tree["key"], wire.Secret)
        assert tree["password"] == wire.Secret(PASSWORD)
        assert tree["arn"] == "arn:net"

    def test_output_named_as_a_secret_input_is_secret_though_none_declares_it(self, client: Client) -> None:
        inputs = client.check(wire.dump(client.values(size=3), [("size",)])).inputs
        made = client.stub.Create(pb.CreateRequest(properties=inputs, **client.about()))
        assert wire.decode(made.properties)["size"] == wire.Secret(3.0)

    def test_half_made_keeps_id_outputs_inputs_and_reasons(self, client: Client) -> None:
        (client.folder / "net.broken").touch()
        inputs = client.check(client.values(password=PASSWORD)).inputs
        with pytest.raises(grpc.RpcError) as caught:
            client.stub.Create(pb.CreateRequest(properties=inputs, **client.about()))
        assert caught.value.code() is grpc.StatusCode.UNKNOWN
        detail = init_failed(caught.value)
        assert detail.id == cloud.Cloud(str(client.folder)).all()[0]["id"]
        assert detail.inputs == inputs
        assert wire.decode(detail.properties)["password"] == wire.Secret(PASSWORD)
        assert list(detail.reasons) == ["net did not boot", "[secret] was no help"]

    def test_refused_is_plain_text_without_secrets(self, client: Client) -> None:
        (client.folder / "refuse").touch()
        answer = failed(lambda: client.create(client.values(password=PASSWORD)))
        assert answer == (grpc.StatusCode.FAILED_PRECONDITION, "no quota for [secret]")

    def test_bug_is_one_line_with_its_place_and_the_trace_goes_to_the_debug_log(
        self, client: Client, engine: FakeEngine
    ) -> None:
        (client.folder / "bug").touch()
        code, details = failed(lambda: client.create(client.values(password=PASSWORD)))
        assert code is grpc.StatusCode.INTERNAL
        assert details.startswith("internal error in create of net (cloud.py:")
        assert "KeyError" in details
        assert "\n" not in details
        [trace] = [line.message for line in engine.lines]
        assert "Traceback" in trace
        assert PASSWORD not in details + trace

    def test_deadline_reaches_the_resource(self, client: Client) -> None:
        (client.folder / "net.slow").touch()
        with pytest.raises(grpc.RpcError) as caught:
            client.create(client.values(), timeout=0.1)
        assert list(init_failed(caught.value).reasons) == ["timed out: the time set for this operation is over"]

    def test_cancel_stops_what_runs_and_what_comes_until_the_next_run(self, client: Client) -> None:
        (client.folder / "net.slow").touch()
        errors: list[grpc.RpcError] = []

        def create() -> None:
            try:
                client.create(client.values())
            except grpc.RpcError as error:
                errors.append(error)

        thread = threading.Thread(target=create)
        thread.start()
        wait_for(lambda: bool(cloud.Cloud(str(client.folder)).all()))
        client.stub.Cancel(empty_pb2.Empty())
        thread.join(5)
        assert list(init_failed(errors[0]).reasons) == ["cancelled"]
        gang = {"cloud": str(client.folder), "nodes": [{"name": "a"}]}
        code, details = failed(lambda: client.create(gang, type_=cloud.GANG))
        assert (code, details) == (grpc.StatusCode.CANCELLED, "create of net was cancelled; run it again")
        client.configure()
        client.create(gang, type_=cloud.GANG)

    def test_forty_creates_run_at_once(self, client: Client) -> None:
        names = [f"n{i}" for i in range(40)]
        for name in names:
            (client.folder / f"{name}.slow").touch()
        things = cloud.Cloud(str(client.folder))
        with futures.ThreadPoolExecutor(40) as pool:
            running = [pool.submit(client.create, client.values(), name=name) for name in names]
            wait_for(lambda: len(things.all()) == 40)
            for name in names:
                (client.folder / f"{name}.slow").unlink()
            assert len({done.result()[1].id for done in running}) == 40

    def test_ten_megabytes_go_through(self, client: Client) -> None:
        labels = {f"key-{i}": "x" * 1000 for i in range(10_000)}
        inputs, _ = client.create(client.values(labels=labels))
        assert inputs.ByteSize() > 10_000_000


class TestReadUpdateDelete:
    def read(self, client: Client, id_: str, **more: Any) -> Any:
        return client.stub.Read(pb.ReadRequest(id=id_, **client.about(), **more))

    def test_read_gives_inputs_and_outputs_with_secrets_wrapped(self, client: Client) -> None:
        inputs, made = client.create(client.values(password=PASSWORD))
        found = self.read(client, made.id, inputs=inputs, properties=made.properties)
        assert (found.id, found.inputs, found.properties) == (made.id, inputs, made.properties)

    def test_read_of_what_is_gone_has_no_id(self, client: Client) -> None:
        inputs, made = client.create(client.values())
        cloud.Cloud(str(client.folder)).drop({"kind": "network", "name": "net", "id": made.id})
        assert self.read(client, made.id, inputs=inputs, properties=made.properties).id == ""

    def test_read_for_an_import_fills_all(self, client: Client) -> None:
        _, made = client.create(client.values())
        found = self.read(client, f"{client.folder}/{made.id}")
        assert wire.decode(found.inputs)["cidr"] == "10.0.0.0/24"
        assert wire.decode(found.properties)["arn"] == "arn:net"

    def test_read_of_what_is_half_made_says_so_again(self, client: Client) -> None:
        inputs, made = client.create(client.values())
        (client.folder / "net.broken").touch()
        with pytest.raises(grpc.RpcError) as caught:
            self.read(client, made.id, inputs=inputs, properties=made.properties)
        assert init_failed(caught.value).inputs == inputs

    def test_update_preview_then_update(self, client: Client) -> None:
        inputs, made = client.create(client.values())
        news = client.check(client.values(size=4), inputs).inputs
        request = {"id": made.id, "olds": made.properties, "old_inputs": inputs, "news": news, **client.about()}
        planned = client.stub.Update(pb.UpdateRequest(preview=True, **request))
        assert wire.decode(planned.properties)["ip"] == "10.0.0.1"
        assert cloud.Cloud(str(client.folder)).all()[0]["size"] == 1
        assert wire.decode(client.stub.Update(pb.UpdateRequest(**request)).properties)["ip"] == "10.0.0.4"

    def test_delete_reads_a_state_of_another_version(self, client: Client) -> None:
        inputs, made = client.create(client.values())
        made.properties.fields["from_the_future"].number_value = 1
        del made.properties.fields["arn"]
        inputs.fields["size"].string_value = "was text then"
        client.stub.Delete(
            pb.DeleteRequest(id=made.id, properties=made.properties, old_inputs=inputs, **client.about())
        )
        assert cloud.Cloud(str(client.folder)).all() == []


class TestLog:
    def test_facts_are_kept_and_status_is_ephemeral_and_at_most_one_a_second(
        self, client: Client, engine: FakeEngine
    ) -> None:
        (client.folder / "net.slow").touch()
        with pytest.raises(grpc.RpcError):
            client.create(client.values(), timeout=0.3)
        said = [(line.message, line.ephemeral, line.urn) for line in engine.lines]
        urn = client.about()["urn"]
        assert said == [("net is there", False, urn), ("booting", True, urn)]

    def test_engine_that_is_gone_fails_nothing(self, client: Client, engine: FakeEngine) -> None:
        engine.server.stop(None).wait()
        begun = time.monotonic()
        client.create(client.values())
        assert time.monotonic() - begun < 5
