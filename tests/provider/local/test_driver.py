"""The engine driver. Real: podman, and the docker command line talking to podman's Docker API. Docker Engine itself is
not here: what its command line would be told is compared with the text below."""

from __future__ import annotations

import io
import secrets
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aifactory.provider.local import driver
from aifactory.provider.local import engine_errors as errors
from aifactory.provider.local.driver import ContainerEngine, NewContainer
from aifactory.provider.local.engine_flags import EngineInfo, RunFlags

from tests.provider.local.ground import find_podman, remove_all, unused_cidr

NEW = NewContainer(
    name="t-a-serve-000",
    image="sha256:1234",
    network="aifactory-t-a",
    address="10.64.0.16",
    mac="02:42:0a:40:00:10",
    labels={"aifactory.region": "t-a", "aifactory.pool": "serve"},
    volumes=(("t-a-serve-000-containers", "/var/lib/containers"),),
    publish=((22011, 22), (8443, 443)),
)


def argv(name: str, cgroup_version: str, flags: RunFlags) -> str:
    info = EngineInfo(name, "1", "6.1", cgroup_version, "runc", rootless=False)
    return " ".join(ContainerEngine(info, f"/usr/bin/{name}").create_argv(NEW, flags))


def test_create_argv_podman() -> None:
    assert argv("podman", "1", RunFlags(("--runtime", "runc"), privileged=True)) == (
        "create --pull never --name t-a-serve-000 --hostname t-a-serve-000 --network aifactory-t-a --ip 10.64.0.16 "
        "--mac-address 02:42:0a:40:00:10 --runtime runc --privileged --systemd=always "
        "--label aifactory.pool=serve --label aifactory.region=t-a -v t-a-serve-000-containers:/var/lib/containers "
        "-p 127.0.0.1:22011:22 -p 127.0.0.1:8443:443 sha256:1234"
    )


def test_create_argv_docker_with_cgroup_2() -> None:
    assert argv("docker", "2", RunFlags((), privileged=True)) == (
        "create --pull never --name t-a-serve-000 --hostname t-a-serve-000 --network aifactory-t-a --ip 10.64.0.16 "
        "--mac-address 02:42:0a:40:00:10 --privileged --cgroupns=private --tmpfs /run --tmpfs /run/lock --tmpfs /tmp "
        "-e container=docker --stop-signal SIGRTMIN+3 --label aifactory.pool=serve --label aifactory.region=t-a "
        "-v t-a-serve-000-containers:/var/lib/containers -p 127.0.0.1:22011:22 -p 127.0.0.1:8443:443 sha256:1234"
    )


def test_create_argv_docker_with_cgroup_1_leaves_the_cgroup_namespace_alone() -> None:
    text = argv("docker", "1", RunFlags((), privileged=False))
    assert "cgroupns" not in text
    assert "--privileged" not in text


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A PATH with nothing on it but what the test puts there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    driver._open.cache_clear()
    yield folder
    driver._open.cache_clear()


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


DOWN = 'echo "Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?" >&2; exit 1'
FORBIDDEN = 'echo "permission denied while trying to connect to the Docker daemon socket at unix:///x" >&2; exit 1'
UP = """echo '{"ServerVersion":"27.1","KernelVersion":"6.1","CgroupVersion":"2","DefaultRuntime":"runc"}'"""


def test_find_no_engine_says_what_to_install(programs: Path) -> None:
    with pytest.raises(errors.NotInstalled, match="no container engine: install podman"):
        driver.find()


def test_find_missing_named_engine_says_so(programs: Path) -> None:
    with pytest.raises(errors.NotInstalled, match="docker is not installed"):
        driver.find("docker")


def test_find_stopped_service_is_told_from_a_missing_program(programs: Path) -> None:
    program(programs, "docker", DOWN)
    with pytest.raises(errors.NotRunning, match="docker is installed, but its service is not running"):
        driver.find()


def test_find_forbidden_service_is_told_from_a_stopped_one(programs: Path) -> None:
    program(programs, "docker", FORBIDDEN)
    with pytest.raises(errors.NoPermission, match="this user may not use it"):
        driver.find("docker")


def test_find_auto_takes_docker_where_podman_does_not_work(programs: Path) -> None:
    program(programs, "podman", 'echo "Error: cannot re-exec process" >&2; exit 125')
    program(programs, "docker", UP)
    assert driver.find().name == "docker"
    with pytest.raises(errors.NotRunning, match="podman is installed, but does not work: cannot re-exec"):
        driver.find("podman")


def test_run_command_that_hangs_is_ended(programs: Path) -> None:
    program(programs, "docker", "exec /bin/sleep 30")
    engine = ContainerEngine(EngineInfo("docker", "1", "1", "2", "runc", False), str(programs / "docker"))
    with pytest.raises(errors.EngineError, match="network ls did not end within 0 s"):
        engine.run("network", "ls", timeout_s=0.2)


def test_build_runs_the_containerfile_with_the_flags_of_the_machine(programs: Path, tmp_path: Path) -> None:
    program(programs, "podman", f'echo "$@" >>{tmp_path}/said')
    engine = ContainerEngine(EngineInfo("podman", "1", "1", "2", "crun", False), str(programs / "podman"))
    engine._flags = RunFlags(("--runtime", "runc", "--ulimit", "nofile=1:1"), True)
    engine.build(Path("/ctx"), "debian:x", "localhost/n:1", print, time.sleep)
    assert (tmp_path / "said").read_text().splitlines() == [
        "image inspect debian:x",
        "pull -q debian:x",
        "--runtime runc build --pull=false --ulimit nofile=1:1 -t localhost/n:1 -f /ctx/Containerfile /ctx",
    ]


class Verbs:
    """Every verb once, on a real engine."""

    pytestmark = pytest.mark.containers

    def test_life_of_a_container(self, engine: ContainerEngine, node_image: str, tmp_path: Path) -> None:
        name = f"t-{secrets.token_hex(4)}"
        mine = {"aifactory.region": name}
        cidr = unused_cidr(engine)
        try:
            self._live(engine, node_image, name, mine, cidr)
        finally:
            remove_all(engine, mine)
            remove_all(engine, {"aifactory.region": f"{name}x"})
            engine.remove_network(name)

    def _live(self, engine: ContainerEngine, image: str, name: str, mine: dict[str, str], cidr: str) -> None:
        engine.create_network(name, cidr, cidr.replace("0/24", "1"), mine)
        network = engine.network(name)
        assert network
        assert (network.subnets, network.labels) == ((cidr,), mine)
        assert network in engine.networks()
        with pytest.raises((errors.NameInUse, errors.SubnetInUse)):
            engine.create_network(name, cidr, cidr.replace("0/24", "1"), mine)

        engine.create_volume(f"{name}-v", mine)
        engine.create_volume(f"{name}-other", {"aifactory.region": f"{name}x", "aifactory.pool": "a"})
        assert [v.name for v in engine.volumes(mine)] == [f"{name}-v"]
        assert engine.volumes(mine | {"aifactory.pool": "a"}) == [], "labels are joined by and"
        engine.remove_volume(f"{name}-other")

        flags = engine.flags(image, print)
        new = NewContainer(
            name, image, name, cidr.replace("0/24", "77"), "02:42:00:00:00:77", mine, ((f"{name}-v", "/mine"),)
        )
        id = engine.create(new, flags)
        with pytest.raises(errors.NameInUse):
            engine.create(new, flags)
        engine.copy_in(name, _tar("etc/hello", b"there"))
        made = engine.container(name)
        assert made
        assert (made.id, made.state, made.image, made.labels["aifactory.region"]) == (id, "created", image, name)

        engine.start(name)
        assert self._state(engine, name) == "running"
        assert engine.execute(name, "cat", "/etc/hello").stdout == b"there"
        assert engine.execute(name, "false").returncode == 1
        engine.pause(name)
        assert self._state(engine, name) == "paused"
        engine.unpause(name)
        engine.stop(name, grace_s=5)
        assert self._state(engine, name) == "exited"
        with pytest.raises(errors.WrongState):
            engine.execute(name, "true")
        assert [c.name for c in engine.containers(mine)] == [name]
        with pytest.raises(errors.StillInUse):
            engine.remove_volume(f"{name}-v")

        for _ in range(2):
            engine.remove(name)
            engine.remove_volume(f"{name}-v")
            engine.remove_network(name)
        assert engine.container(name) is None
        assert engine.volume(f"{name}-v") is None
        assert engine.network(name) is None

    def test_names_of_an_image(self, engine: ContainerEngine, node_image: str) -> None:
        reference = f"localhost/t-image:{secrets.token_hex(4)}"
        engine.tag(node_image, reference)
        assert reference in engine.tags("localhost/t-image")
        found = engine.image(reference)
        assert found
        assert found.id == node_image
        engine.remove_image(reference)
        engine.remove_image(reference)
        assert engine.image(reference) is None
        with pytest.raises(errors.ImageMissing):
            engine.tag(f"sha256:{'0' * 64}", reference)

    @staticmethod
    def _state(engine: ContainerEngine, name: str) -> str:
        found = engine.container(name)
        return found.state if found else "gone"


class TestPodman(Verbs):
    @pytest.fixture
    def engine(self) -> ContainerEngine:
        return find_podman()


class WithoutMac(ContainerEngine):
    """podman's Docker API is too old for docker's way of giving a MAC address."""

    def create_argv(self, new: NewContainer, flags: RunFlags) -> list[str]:
        argv = super().create_argv(new, flags)
        at = argv.index("--mac-address")
        return argv[:at] + argv[at + 2 :]


class TestDockerCommandLine(Verbs):
    @pytest.fixture
    def engine(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ContainerEngine]:
        find_podman()
        if not shutil.which("docker"):
            pytest.skip("needs the docker command line (apt-get install docker.io)")
        socket = tmp_path / "docker.sock"
        service = subprocess.Popen(
            ["podman", "system", "service", "--time=0", f"unix://{socket}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            end = time.monotonic() + 20
            while not socket.exists() and time.monotonic() < end:
                time.sleep(0.05)
            monkeypatch.setenv("DOCKER_HOST", f"unix://{socket}")
            driver._open.cache_clear()
            found = driver.find("docker")
            yield WithoutMac(found.info, found.program)
        finally:
            service.kill()
            service.wait()
            driver._open.cache_clear()


class TestPodmanWithMac(Verbs):
    """A MAC address must reach the node: without it SSH is dead for 45 s after a restart."""

    test_names_of_an_image = None  # type: ignore[assignment]
    test_life_of_a_container = None  # type: ignore[assignment]

    def test_mac_address_is_the_nodes(self, node_image: str) -> None:
        engine = find_podman()
        name, cidr = f"t-{secrets.token_hex(4)}", unused_cidr(engine)
        engine.create_network(name, cidr, cidr.replace("0/24", "1"), {"aifactory.region": name})
        try:
            new = NewContainer(
                name, node_image, name, cidr.replace("0/24", "9"), "02:42:00:00:00:09", {"aifactory.region": name}
            )
            engine.create(new, engine.flags(node_image, print))
            engine.start(name)
            shown = engine.execute(name, "cat", "/sys/class/net/eth0/address").stdout
            assert shown == b"02:42:00:00:00:09\n"
        finally:
            engine.remove(name)
            engine.remove_network(name)

    def test_bridge_keeps_its_address_when_nodes_come_and_go(self, node_image: str) -> None:
        """Otherwise the host reaches no node for half a minute after one of them left or came."""
        engine = find_podman()
        name, cidr = f"t-{secrets.token_hex(4)}", unused_cidr(engine)
        engine.create_network(name, cidr, cidr.replace("0/24", "1"), {"aifactory.region": name})
        try:
            flags = engine.flags(node_image, print)
            for number in (9, 10):
                new = NewContainer(
                    f"{name}-{number}", node_image, name, cidr.replace("0/24", str(number)),
                    f"02:42:00:00:00:{number:02x}", {"aifactory.region": name},
                )  # fmt: skip
                engine.create(new, flags)
            engine.start(f"{name}-9")
            engine.hold_bridge_address(name)
            network = engine.network(name)
            assert network
            bridge = Path("/sys/class/net") / network.interface
            seen = {(bridge / "address").read_text()}
            for _ in range(5):
                engine.start(f"{name}-10")
                seen.add((bridge / "address").read_text())
                engine.stop(f"{name}-10", grace_s=0)
                seen.add((bridge / "address").read_text())
            assert len(seen) == 1
        finally:
            for number in (9, 10):
                engine.remove(f"{name}-{number}")
            engine.remove_network(name)


def _tar(path: str, content: bytes) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        entry = tarfile.TarInfo(path)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return raw.getvalue()
