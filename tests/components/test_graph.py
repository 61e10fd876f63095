"""The resource graph of a region. Real: spec, catalogue, plan, components, SDK. Made up: the engine and the plugin."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pulumi
import pytest
from aifactory import naming
from aifactory.components.region import Region
from aifactory.plan import build, render
from aifactory.plan.model import RegionPlan
from aifactory.provider import tokens

from tests.components import graph
from tests.unit.plan import regions

SERVE = {"name": "serve", "shape": "local-cpu", "nodes": 2}
CHAT = {"name": "chat", "model": "golden-tiny", "pool": "serve", "replicas": 2}


def registered(plan: RegionPlan) -> graph.Graph:
    def program() -> None:
        region = Region(naming.REGION, plan)
        for name, value in region.exports.items():
            pulumi.export(name, value)

    return graph.run(program)


@pytest.fixture(scope="module")
def local() -> graph.Graph:
    return registered(build.plan(regions.example("local")))


@pytest.fixture(scope="module")
def static() -> graph.Graph:
    spec = regions.static(
        "cpu-small", 2, services=[{"name": "chat", "model": "golden-tiny", "pool": "p", "replicas": 2}]
    )
    return registered(build.plan(spec))


def test_graph_local_region_types_names_parents(local: graph.Graph) -> None:
    assert Counter((r.type, r.name, r.parent) for r in local.resources) == Counter(
        {
            (tokens.COMPONENT_REGION, "region", "aifactory-local"): 1,
            (tokens.HOST_KEYS, "keys", "region"): 1,
            (tokens.LOCAL_NETWORK, "network", "region"): 1,
            (tokens.LOCAL_NODE_IMAGE, "node-image", "region"): 1,
            (tokens.COMPONENT_POOL, "serve", "region"): 1,
            (tokens.LOCAL_NODE_POOL, "serve", "serve"): 1,
            (tokens.HOST_CONFIGURATION, "serve", "serve"): 1,
            (tokens.COMPONENT_POOL, "front", "region"): 1,
            (tokens.LOCAL_NODE_POOL, "front", "front"): 1,
            (tokens.HOST_CONFIGURATION, "front", "front"): 1,
            (tokens.COMPONENT_SERVING, "serving", "region"): 1,
            (tokens.SERVICE_ENGINE_IMAGE, "llama-cpp", "serving"): 1,
            (tokens.SERVICE_SERVICE, "chat", "serving"): 1,
            (tokens.SERVICE_FRONT_DOOR, "front-door", "serving"): 1,
            (tokens.SERVICE_ACCEPTANCE, "acceptance", "region"): 1,
        }
    )


def after(found: graph.Registered) -> set[str]:
    return {dependency for dependency in found.dependencies if "component" not in dependency}


def test_graph_order_keys_network_image_pool_configuration(local: graph.Graph) -> None:
    assert after(local.of(tokens.HOST_KEYS)["keys"]) == set()
    assert after(local.of(tokens.LOCAL_NETWORK)["network"]) == set()
    assert after(local.of(tokens.LOCAL_NODE_IMAGE)["node-image"]) == {f"network|{tokens.LOCAL_NETWORK}"}
    ground = {f"network|{tokens.LOCAL_NETWORK}", f"node-image|{tokens.LOCAL_NODE_IMAGE}", f"keys|{tokens.HOST_KEYS}"}
    for pool in ("serve", "front"):
        assert after(local.of(tokens.LOCAL_NODE_POOL)[pool]) == ground
        assert after(local.of(tokens.HOST_CONFIGURATION)[pool]) == {
            f"{pool}|{tokens.LOCAL_NODE_POOL}",
            f"keys|{tokens.HOST_KEYS}",
        }


def test_graph_pools_do_not_wait_for_each_other(local: graph.Graph) -> None:
    assert not any("front|" in d for d in local.of(tokens.LOCAL_NODE_POOL)["serve"].dependencies)
    assert not any("serve|" in d for d in local.of(tokens.HOST_CONFIGURATION)["front"].dependencies)


def test_graph_order_service_front_door_acceptance(local: graph.Graph) -> None:
    service = after(local.of(tokens.SERVICE_SERVICE)["chat"])
    assert {f"serve|{tokens.HOST_CONFIGURATION}", f"llama-cpp|{tokens.SERVICE_ENGINE_IMAGE}"} <= service
    assert not any(d.startswith("front|") for d in service)
    door = after(local.of(tokens.SERVICE_FRONT_DOOR)["front-door"])
    assert {f"front|{tokens.HOST_CONFIGURATION}", f"chat|{tokens.SERVICE_SERVICE}"} <= door
    acceptance = after(local.of(tokens.SERVICE_ACCEPTANCE)["acceptance"])
    assert {
        f"front-door|{tokens.SERVICE_FRONT_DOOR}",
        f"chat|{tokens.SERVICE_SERVICE}",
        f"serve|{tokens.HOST_CONFIGURATION}",
        f"front|{tokens.HOST_CONFIGURATION}",
    } <= acceptance


def test_graph_acceptance_is_taken_anew_after_every_run(local: graph.Graph) -> None:
    """After a node was only started again, too: nothing else of the graph changes then."""
    nodes = [f"nodes-{name}" for name in ("serve", "front")]
    runs = [f"run-{name}" for name in ("serve", "front", "chat", "front-door")]
    assert local.of(tokens.SERVICE_ACCEPTANCE)["acceptance"].inputs["after"] == nodes + runs


def test_graph_made_nodes_take_what_stands_on_them_along(local: graph.Graph) -> None:
    assert local.of(tokens.SERVICE_SERVICE)["chat"].deleted_with == "serve"
    assert local.of(tokens.SERVICE_FRONT_DOOR)["front-door"].deleted_with == "front"


def test_graph_hosts_that_stay_are_cleared_at_a_delete(static: graph.Graph) -> None:
    assert static.of(tokens.SERVICE_SERVICE)["chat"].deleted_with == ""
    assert static.of(tokens.SERVICE_FRONT_DOOR)["front-door"].deleted_with == ""


def test_graph_hosts_go_where_they_are_needed(local: graph.Graph) -> None:
    def hosts(token: str, name: str) -> list[str]:
        return [h["name"] for h in local.of(token)[name].inputs["hosts"]]

    assert hosts(tokens.HOST_CONFIGURATION, "front") == ["local-front-000"]
    assert hosts(tokens.SERVICE_SERVICE, "chat") == ["local-serve-000", "local-serve-001"]
    assert hosts(tokens.SERVICE_FRONT_DOOR, "front-door") == ["local-front-000"]
    assert hosts(tokens.SERVICE_ACCEPTANCE, "acceptance") == ["local-serve-000", "local-serve-001", "local-front-000"]


def test_graph_service_with_fewer_replicas_than_nodes_sees_only_their_hosts() -> None:
    plan = build.plan(regions.spec(pools=[{**SERVE, "nodes": 3}], services=[{**CHAT, "replicas": 2}]))
    service = registered(plan).of(tokens.SERVICE_SERVICE)["chat"]
    assert [h["name"] for h in service.inputs["hosts"]] == ["lab-serve-000", "lab-serve-001"]


def test_graph_node_input_of_the_front_publishes_the_door(local: graph.Graph) -> None:
    (node,) = local.of(tokens.LOCAL_NODE_POOL)["front"].inputs["nodes"]
    assert node == {
        "name": "local-front-000",
        "address": "10.64.0.2",
        "rank": 2,
        "gpus": 0,
        "labels": {},
        "publish": [{"host_port": 8443, "node_port": 443}],
    }


def test_graph_layers_and_role_vars(local: graph.Graph) -> None:
    serve = local.of(tokens.HOST_CONFIGURATION)["serve"].inputs
    assert serve["layers"] == ["host", "fabric", "gpu", "runtime"]
    assert set(serve["role_vars"]) == set(serve["layers"])
    assert serve["role_vars"]["runtime"]["engine"] == "podman"
    front = local.of(tokens.HOST_CONFIGURATION)["front"].inputs
    assert front["layers"] == ["host"] == list(front["role_vars"])


def test_graph_front_door_clients_take_the_regions_own_key(local: graph.Graph) -> None:
    door = local.of(tokens.SERVICE_FRONT_DOOR)["front-door"].inputs
    assert [(c["name"], c["key_sha256"]) for c in door["clients"]] == [("aifactory", "ab" * 32)]
    assert door["certificate"] == "SERVER"
    (service,) = door["services"]
    assert [s["node"] for s in service["servers"]] == ["local-serve-000", "local-serve-001"]


def test_graph_secrets_stay_secret(local: graph.Graph) -> None:
    private = {
        tokens.HOST_CONFIGURATION: {"ssh_private_key"},
        tokens.SERVICE_SERVICE: {"ssh_private_key", "upstream_key"},
        tokens.SERVICE_FRONT_DOOR: {"ssh_private_key", "upstream_key", "private_key"},
        tokens.SERVICE_ACCEPTANCE: {"ssh_private_key", "client_key"},
    }
    for token, wanted in private.items():
        for found in local.of(token).values():
            assert wanted <= found.secrets, (token, found.secrets)
    assert {"client_key", "ssh_private_key"} <= local.secret_outputs
    assert not {"fleet", "endpoint", "services", "verdicts", "ca_certificate"} & local.secret_outputs


def test_outputs_local_region(local: graph.Graph) -> None:
    out = local.outputs
    assert set(out) == {
        "fleet", "endpoint", "ca_certificate", "services", "verdicts", "client_key", "ssh_private_key", "plan_digest",
    }  # fmt: skip
    assert out["endpoint"] == "https://127.0.0.1:8443"
    assert out["fleet"]["version"] == "aifactory.fleet/1"
    assert [h["name"] for h in out["fleet"]["hosts"]] == ["local-serve-000", "local-serve-001", "local-front-000"]
    assert out["services"][0]["name"] == "chat"
    assert out["ca_certificate"] == "CA"
    assert out["plan_digest"] == render.digest(build.plan(regions.example("local")))


def test_units_name_every_replica_and_the_door(local: graph.Graph) -> None:
    units = local.of(tokens.SERVICE_ACCEPTANCE)["acceptance"].inputs["units"]
    assert units == {
        "local-serve-000": ["aifactory-chat-0.service"],
        "local-serve-001": ["aifactory-chat-1.service"],
        "local-front-000": ["haproxy.service"],
    }


def test_graph_static_region_logs_in_with_the_users_key(static: graph.Graph) -> None:
    assert not static.of(tokens.LOCAL_NETWORK)
    pool = static.of(tokens.STATIC_NODE_POOL)["p"]
    assert [h["name"] for h in pool.inputs["hosts"]] == ["h1", "h2"]
    for token in (tokens.HOST_CONFIGURATION, tokens.SERVICE_SERVICE, tokens.SERVICE_FRONT_DOOR):
        for found in static.of(token).values():
            assert "ssh_private_key" not in found.inputs
    assert static.outputs.get("ssh_private_key") is None
    assert static.outputs["endpoint"] == "https://10.0.0.1:443"


def test_graph_region_without_services_has_no_serving() -> None:
    found = registered(build.plan(regions.spec(pools=[SERVE])))
    assert not found.of(tokens.COMPONENT_SERVING)
    assert found.of(tokens.SERVICE_ACCEPTANCE)["acceptance"].inputs["services"] == []
    assert found.outputs.get("endpoint") is None


def test_graph_two_services_share_one_engine_image() -> None:
    plan = build.plan(regions.spec(pools=[SERVE], services=[CHAT, {**CHAT, "name": "more"}]))
    found = registered(plan)
    (image,) = found.of(tokens.SERVICE_ENGINE_IMAGE).values()
    assert image.inputs["models"] == ["golden-tiny"]
    assert set(found.of(tokens.SERVICE_SERVICE)) == {"chat", "more"}


def test_graph_certificate_from_the_stacks_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {"secret:tls_certificate": "CHAIN", "secret:tls_key": "KEY"}
    tls = {"certificate": "secret:tls_certificate", "key": "secret:tls_key"}
    plan = build.plan(regions.spec(pools=[SERVE], services=[CHAT], front_door={"tls": tls}))
    pulumi.runtime.set_all_config(given, ["secret:tls_key", "secret:tls_certificate"])
    try:
        found = registered(plan)
    finally:
        pulumi.runtime.set_all_config({}, [])
    door = found.of(tokens.SERVICE_FRONT_DOOR)["front-door"]
    assert (door.inputs["certificate"], door.inputs["private_key"]) == ("CHAIN", "KEY")
    assert {"certificate", "private_key"} <= door.secrets
    assert found.outputs.get("ca_certificate") is None
