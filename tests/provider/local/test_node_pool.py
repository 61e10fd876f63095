"""local:NodePool with real containers, systemd, sshd and SSH logins. The engine is the harness, not Pulumi."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aifactory.provider.local import driver, labels, pool_types, ports, reach
from aifactory.provider.local.engine_flags import RunFlags
from aifactory.provider.local.node_pool import NodePool
from aifactory.provider.resource import UNKNOWN, HalfMade, Refused

from tests.provider.harness import CheckFailed, Engine
from tests.provider.local.ground import Ground, ssh
from tests.provider.local.ground import ground as real_ground

pytestmark = pytest.mark.containers


@pytest.fixture
def pool(ground: Ground) -> Engine:
    return ground.engine(NodePool())


@pytest.fixture(scope="module")
def pair(node_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Ground, Engine]]:
    """A pool of two nodes, for tests that only look."""
    home = tmp_path_factory.mktemp("pair")
    with pytest.MonkeyPatch.context() as patch, real_ground(node_image) as own:
        patch.setenv("AIFACTORY_HOME", str(home))
        patch.setenv("AIFACTORY_CACHE", str(home))
        engine = own.engine(NodePool())
        engine.up(own.values(2))
        yield own, engine


def test_create_nodes_let_their_user_in_and_become_root(pair: tuple[Ground, Engine]) -> None:
    ground, pool = pair
    assert pool.state
    for index, host in enumerate(pool.state.outputs.hosts):
        told = ssh(ground, host, "hostname; sudo id -u; ip -4 -o addr show eth0; cat /etc/machine-id")
        name, uid, address, machine_id = told.stdout.splitlines()
        assert (name, uid) == (f"{ground.region}-serve-{index:03d}", "0")
        assert f"inet {host.node_address}/24" in address
        assert len(machine_id) == 32
    assert pool.lines.progress[-1] == "2/2 nodes reachable"


def test_create_private_host_key_is_in_no_label_argument_or_state(pair: tuple[Ground, Engine]) -> None:
    ground, pool = pair
    name = ground.node(0)["name"]
    inside = ground.podman.execute(name, "cat", "/etc/ssh/ssh_host_ed25519_key").stdout.decode()
    secret = inside.splitlines()[2]
    told = ground.podman.run("container", "inspect", name).stdout.decode()
    assert secret not in told + repr(pool.state)
    assert ground.podman.execute(name, "stat", "-c", "%a %U", "/etc/ssh/ssh_host_ed25519_key").stdout == b"600 root\n"
    assert _temporary_files_with(secret.encode()) == []


def _temporary_files_with(text: bytes) -> list[Path]:
    """podman was seen to leave what it had read from a pipe under /var/tmp."""
    found = []
    for file in [*Path("/var/tmp").iterdir(), *Path("/tmp").iterdir(), *Path("/dev/shm").rglob("*")]:
        with contextlib.suppress(OSError):
            if file.is_file() and file.stat().st_size < 1 << 16 and text in file.read_bytes():
                found.append(file)
    return found


def test_create_system_comes_up_whole(pair: tuple[Ground, Engine]) -> None:
    ground, pool = pair
    assert pool.state
    assert ssh(ground, pool.state.outputs.hosts[0], "systemctl is-system-running --wait").stdout == "running\n"


def test_create_nodes_find_each_other_by_name_and_address(pair: tuple[Ground, Engine]) -> None:
    ground, pool = pair
    assert pool.state
    first, second = pool.state.outputs.hosts
    assert second.node_address in ssh(ground, first, "getent hosts", second.name).stdout
    assert ssh(ground, first, f"exec 3<>/dev/tcp/{second.node_address}/22 && head -c 4 <&3").stdout == "SSH-"


def test_up_unchanged_asks_the_engine_once_and_opens_no_connection(
    pair: tuple[Ground, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    ground, pool = pair
    state = pool.state
    asked: list[tuple[str, ...]] = []
    real = driver._call
    monkeypatch.setattr(driver, "_call", lambda argv, *more: (asked.append(tuple(argv[1:3])), real(argv, *more))[1])
    monkeypatch.setattr(reach, "until_in", None)
    pool.process()
    assert pool.up(ground.values(2)) is state
    assert asked == [("ps", "-a"), ("container", "inspect")]


def test_up_adds_at_the_end_and_removes_from_the_end(ground: Ground, pool: Engine) -> None:
    two = pool.up(ground.values(2)).outputs.hosts
    three = pool.up(ground.values(3)).outputs.hosts
    assert three[:2] == two
    one = pool.up(ground.values(1)).outputs.hosts
    assert one == two[:1]
    assert list(ground.containers()) == [two[0].name]
    assert ground.volumes() == [pool_types.volume(two[0].name)]


def test_up_added_node_is_the_only_one_logged_into(
    ground: Ground, pool: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool.up(ground.values(2))
    asked: list[str] = []
    real = reach.until_in

    def until_in(*args: Any, **more: Any) -> None:
        asked.append(args[3].name)
        real(*args, **more)

    monkeypatch.setattr(reach, "until_in", until_in)
    pool.up(ground.values(3))
    assert asked == [ground.node(2)["name"]]
    assert pool.lines.progress[-2:] == ["2/3 nodes reachable", "3/3 nodes reachable"]


def test_up_node_keeps_a_port_that_was_not_its_first_choice(ground: Ground, pool: Engine) -> None:
    name = ground.node(0)["name"]
    first_choice = ports.pick(f"{ground.deployment}/{name}", set())
    with socket.create_server(("127.0.0.1", first_choice)):
        before = pool.up(ground.values(1)).outputs.hosts[0]
    assert before.port != first_choice
    ground.podman.remove(name)
    after = pool.up(ground.values(1)).outputs.hosts[0]
    assert after.port == before.port


def test_up_removed_node_is_made_again_with_its_address_and_port(ground: Ground, pool: Engine) -> None:
    before = pool.up(ground.values(2)).outputs.hosts
    ground.podman.remove(before[1].name)
    diff, previewed = pool.preview(ground.values(2))
    assert diff is not None
    assert diff.output_updates == ("hosts[1]",)
    assert previewed.hosts == (before[0], UNKNOWN)
    after = pool.up(ground.values(2)).outputs.hosts
    assert after[0] == before[0]
    assert after[1].id != before[1].id
    assert after[1].host_key != before[1].host_key
    assert (after[1].port, after[1].node_address) == (before[1].port, before[1].node_address)


def test_up_sleeping_node_runs_again_as_itself(ground: Ground, pool: Engine) -> None:
    first = pool.up(ground.values(1)).outputs
    before, runs = first.hosts, {first.run_id}
    name = before[0].name
    ssh(ground, before[0], "touch /var/tmp/mine")
    for how in (ground.podman.stop, ground.podman.pause, lambda name: ground.podman.run("kill", name)):
        how(name)
        assert pool.preview(ground.values(1))[1].run_id is UNKNOWN
        after = pool.up(ground.values(1)).outputs
        assert after.hosts == before
        runs.add(after.run_id)
        assert ssh(ground, before[0], "ls /var/tmp/mine").returncode == 0
    assert pool.operations == ["create", "update", "update", "update"]
    assert len(runs) == 4, "acceptance asks again only because of a new run"


def test_node_restarted_by_hand_keeps_its_identity(ground: Ground, pool: Engine) -> None:
    host = pool.up(ground.values(1)).outputs.hosts[0]
    ground.podman.run("restart", "-t", "0", host.name)
    assert pool.up(ground.values(1)).outputs.hosts == (host,)
    assert pool.operations == ["create"]
    end = time.monotonic() + 20
    while ssh(ground, host, "true").returncode and time.monotonic() < end:
        time.sleep(0.2)
    assert ssh(ground, host, "true").returncode == 0


def test_up_raised_generation_replaces_node_by_node(ground: Ground, pool: Engine) -> None:
    before = pool.up(ground.values(2)).outputs.hosts
    pool.lines.progress.clear()
    after = pool.up(ground.values(2, generation=2)).outputs.hosts
    assert not {h.id for h in before} & {h.id for h in after}
    assert [h.port for h in after] == [h.port for h in before]
    assert len(ground.containers()) == 2
    told = [line for line in pool.lines.progress if "replacing" in line]
    assert told == [f"replacing {h.name}, 1/2 nodes reachable" for h in before]
    assert pool.up(ground.values(2, generation=2)).outputs.hosts == after


def test_up_another_address_replaces_that_node_only(ground: Ground, pool: Engine) -> None:
    before = pool.up(ground.values(2)).outputs.hosts
    moved = [ground.node(0), {**ground.node(1), "address": ground.address(9)}]
    after = pool.up(ground.values(nodes=0) | {"nodes": moved}).outputs.hosts
    assert after[0] == before[0]
    assert after[1].node_address == ground.address(9)


def test_up_another_rank_or_image_touches_no_node(ground: Ground, pool: Engine) -> None:
    before = pool.up(ground.values(1)).outputs.hosts[0]
    values = ground.values(0) | {
        "nodes": [{**ground.node(0), "rank": 7, "labels": {"rack": "r1"}}],
        "image": "sha256:0",
    }
    after = pool.up(values).outputs.hosts[0]
    assert (after.id, after.rank, after.labels["rack"]) == (before.id, 7, "r1")


def test_up_another_login_key_is_put_on_running_nodes(ground: Ground, pool: Engine) -> None:
    from aifactory.provider.host.key_material import ssh_key_pair

    private, public = ssh_key_pair()
    before = pool.up(ground.values(1, authorized_key=public, ssh_private_key=private)).outputs.hosts[0]
    assert ssh(ground, before, "true").returncode != 0
    after = pool.up(ground.values(1)).outputs.hosts[0]
    assert after == before
    assert ssh(ground, after, "true").returncode == 0


def test_create_published_port_leads_to_the_node(ground: Ground, pool: Engine) -> None:
    port = _free_port()
    node = ground.node(0) | {"publish": [{"host_port": port, "node_port": 22}]}
    pool.up(ground.values(0) | {"nodes": [node]})
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        assert connection.recv(4) == b"SSH-"


def test_create_taken_published_port_names_its_holder_and_keeps_the_other_node(ground: Ground, pool: Engine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        node = ground.node(1) | {"publish": [{"host_port": port, "node_port": 443}]}
        values = ground.values(0) | {"nodes": [ground.node(0), node]}
        with pytest.raises(HalfMade) as half:
            pool.up(values)
        (reason,) = half.value.reasons
        assert reason.startswith(f"failed: {node['name']}: port {port} of this machine is taken by ")
        assert "(process " in reason
        assert [h.name for h in half.value.outputs.hosts] == [ground.node(0)["name"]]
        assert list(ground.containers()) == [ground.node(0)["name"]]
        assert ground.volumes() == [pool_types.volume(ground.node(0)["name"])]
    kept = pool.state.outputs.hosts[0] if pool.state else None
    after = pool.up(values).outputs.hosts
    assert after[0] == kept
    assert len(after) == 2


def test_create_ssh_port_taken_in_the_last_moment_takes_another(
    ground: Ground, pool: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_pick, given = ports.pick, []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def pick(key: str, taken: set[int], preferred: int | None = None) -> int:
            given.append(server.getsockname()[1] if not given else real_pick(key, taken, preferred))
            return given[-1]

        monkeypatch.setattr(ports, "pick", pick)
        host = pool.up(ground.values(1)).outputs.hosts[0]
    assert len(given) == 2
    assert host.port == given[1]


def test_up_sleeping_node_whose_port_is_taken_names_the_holder(ground: Ground, pool: Engine) -> None:
    host = pool.up(ground.values(1)).outputs.hosts[0]
    ground.podman.stop(host.name)
    with socket.create_server(("127.0.0.1", host.port)):
        with pytest.raises(HalfMade) as half:
            pool.up(ground.values(1))
        (reason,) = half.value.reasons
        assert reason.startswith(f"failed: {host.name}: its port {host.port} is taken by ")
        assert "(process " in reason
    assert pool.up(ground.values(1)).outputs.hosts == (host,)


@pytest.mark.parametrize("base", [("--runtime", "nosuch"), ("--ulimit", "nproc=1:999999999")], ids=["runtime", "limit"])
def test_create_remembered_flags_that_fit_no_longer_are_found_anew(
    ground: Ground, pool: Engine, monkeypatch: pytest.MonkeyPatch, base: tuple[str, ...]
) -> None:
    monkeypatch.setattr(ground.podman, "_flags", RunFlags(base, privileged=True))
    host = pool.up(ground.values(1)).outputs.hosts[0]
    assert ssh(ground, host, "true").returncode == 0
    assert ground.podman.flags(ground.image, print).base != base


def test_create_on_a_machine_that_forbids_privileged_gives_plain_nodes_and_says_so(
    ground: Ground, pool: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ground.podman.flags(ground.image, print)
    monkeypatch.setattr(ground.podman, "_flags", RunFlags(flags.base, privileged=False))
    host = pool.up(ground.values(1)).outputs.hosts[0]
    assert host.labels == {labels.NESTING: "no"}
    assert ssh(ground, host, "systemctl is-active ssh").stdout == "active\n"


def test_create_foreign_container_of_the_same_name_is_refused_and_kept(ground: Ground, pool: Engine) -> None:
    name = ground.node(0)["name"]
    ground.podman.run("create", "--name", name, "--label", f"{labels.REGION}={ground.region}", ground.image)
    foreign = ground.containers()[name].id
    with pytest.raises(Refused, match=f"container {name} exists already and belongs to something"):
        pool.up(ground.values(1))
    assert ground.containers()[name].id == foreign
    assert ground.volumes() == []


def test_create_node_without_ssh_is_half_made_and_says_why(ground: Ground, pool: Engine) -> None:
    deaf = _deaf_image(ground)
    try:
        with pytest.raises(HalfMade) as half:
            pool.up(ground.values(1, image=deaf, ready_timeout_s=3))
        (reason,) = half.value.reasons
        assert reason.startswith(f"unreachable: {ground.region}-serve-000 did not let ops in within 3 s")
        assert "its ssh unit is inactive" in reason
        assert "connection refused" in reason
        assert len(half.value.outputs.hosts) == 1
        hosts = pool.up(ground.values(1, generation=2)).outputs.hosts
        assert ssh(ground, hosts[0], "true").returncode == 0
    finally:
        ground.clear()
        ground.podman.run("rmi", deaf)


def test_create_node_with_a_host_key_that_is_not_ours_fails_at_once(
    ground: Ground, pool: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aifactory.provider.host import key_material
    from aifactory.provider.static.login import fingerprint

    real_pair = key_material.ssh_key_pair
    _, other = real_pair()
    monkeypatch.setattr(key_material, "ssh_key_pair", lambda: (real_pair()[0], other))
    started = time.monotonic()
    with pytest.raises(HalfMade) as half:
        pool.up(ground.values(1))
    assert time.monotonic() - started < 40
    (reason,) = half.value.reasons
    assert reason.startswith("wrong host key: ")
    assert f"expected {fingerprint(other)}, seen SHA256:" in reason


def test_create_unknown_image_is_refused_and_leaves_nothing(ground: Ground, pool: Engine) -> None:
    with pytest.raises(Refused, match="image not known"):
        pool.up(ground.values(2, image=f"sha256:{'0' * 64}"))
    assert ground.containers() == {}
    assert ground.volumes() == []


def test_create_cancelled_while_waiting_keeps_the_nodes_and_goes_on(ground: Ground, pool: Engine) -> None:
    stop = threading.Timer(0.1, pool.cancel.set)
    values = ground.values(2)
    stop.start()
    with pytest.raises((HalfMade, Refused)) as stopped:
        pool.up(values)
    assert "cancelled" in str(stopped.value)
    pool.process()
    assert len(pool.up(values).outputs.hosts) == 2
    assert len(ground.containers()) == 2


def test_create_half_made_node_is_waited_for_by_the_next_up(ground: Ground, pool: Engine) -> None:
    from aifactory.provider.host.key_material import ssh_key_pair

    with pytest.raises(HalfMade, match="login refused"):
        pool.up(ground.values(1, authorized_key=ssh_key_pair()[1], ready_timeout_s=8))
    before = ground.containers()
    pool.up(ground.values(1))
    assert ground.containers() == before


def test_destroy_removes_what_was_added_and_twice_is_fine(ground: Ground, pool: Engine) -> None:
    state = pool.up(ground.values(2))
    pool.destroy()
    assert ground.containers() == {}
    assert ground.volumes() == []
    pool.resource.delete(pool.context(), state.id, state.inputs, state.outputs)


def test_refresh_forgets_a_pool_that_is_gone(ground: Ground, pool: Engine) -> None:
    pool.up(ground.values(1))
    ground.clear()
    assert pool.refresh() is None


def test_two_pools_do_not_touch_each_other(ground: Ground, pool: Engine) -> None:
    hosts = pool.up(ground.values(1)).outputs.hosts
    other = ground.engine(NodePool(), name="front")
    front = ground.values(0) | {"pool": "front", "nodes": [ground.node(5, pool="front")]}
    other.up(front)
    assert len(ground.volumes()) == 2
    other.destroy()
    assert ground.volumes() == [pool_types.volume(hosts[0].name)]
    ground.podman.remove(ground.node(0)["name"])
    other.up(front)
    assert pool_types.volume(hosts[0].name) in ground.volumes()
    pool.up(ground.values(1))
    other.destroy()
    hosts = pool.state.outputs.hosts if pool.state else ()
    assert pool.up(ground.values(1)).outputs.hosts == hosts
    assert pool.operations == ["create", "update"]


def test_lost_journal_does_not_lose_the_nodes(ground: Ground, pool: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    before = pool.up(ground.values(2)).outputs.hosts
    monkeypatch.setenv("AIFACTORY_HOME", "/nowhere-yet/home")
    assert pool.up(ground.values(2)).outputs.hosts == before
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"user": "root"}, "user"),
        ({"nodes": []}, "nodes"),
        ({"nodes": [{"name": "a b", "address": "10.0.0.1", "rank": 0}]}, "nodes[0].name"),
        ({"nodes": [{"name": "a", "address": "10.0.0.300", "rank": 0}]}, "nodes[0].address"),
        ({"generation": 0}, "generation"),
    ],
)
def test_check_wrong_inputs_are_named(ground: Ground, pool: Engine, change: dict[str, object], where: str) -> None:
    with pytest.raises(CheckFailed) as failed:
        pool.up(ground.values(1) | change)
    assert [f.property for f in failed.value.failures] == [where]


def test_preview_create_is_all_unknown(ground: Ground, pool: Engine) -> None:
    _, outs = pool.preview(ground.values(2))
    assert outs.hosts is UNKNOWN
    assert ground.containers() == {}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _deaf_image(ground: Ground) -> str:
    """The node image with sshd masked."""
    name = f"{ground.region}-deaf"
    unit = "/etc/systemd/system/ssh.service"
    flags = ground.podman.flags(ground.image, print).argv()
    ground.podman.run(
        "run", "--name", name, "--network", "none", "--label", f"{labels.REGION}={ground.region}",
        *flags, ground.image, "ln", "-s", "/dev/null", unit,
    )  # fmt: skip
    ground.podman.run("commit", "-q", "--change", 'CMD ["/sbin/init"]', name, f"localhost/{name}:1")
    ground.podman.remove(name)
    return f"localhost/{name}:1"
