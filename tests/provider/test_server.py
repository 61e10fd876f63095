"""The plugin as a process: its port line, its signals, its parent. Real processes; no engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from aifactory import paths
from aifactory.provider import server, wire
from pulumi.runtime.proto import provider_pb2 as pb
from pulumi.runtime.proto import provider_pb2_grpc

from tests.provider import cloud
from tests.provider.pulumi_project import wait_for

SERVE = (
    "import sys; from aifactory.provider.server import serve; from tests.provider.cloud import registry;"
    "serve(registry(), sys.argv[1:])"
)
ABOUT = {"urn": f"urn:pulumi:s::p::{cloud.NETWORK}::net", "name": "net", "type": cloud.NETWORK}


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "AIFACTORY_HOME": str(tmp_path / "home")}


@pytest.fixture
def process(env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """The server, in a group of its own, as the engine starts it."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, "--logtostderr", "-v=9", "127.0.0.1:1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
        cwd=paths.REPO,
        start_new_session=True,
    )
    yield process
    process.kill()
    process.communicate()


def stub(process: subprocess.Popen[str]) -> provider_pb2_grpc.ResourceProviderStub:
    assert process.stdout is not None
    port = int(process.stdout.readline())
    made = provider_pb2_grpc.ResourceProviderStub(grpc.insecure_channel(f"127.0.0.1:{port}"))
    made.Configure(pb.ConfigureRequest(args=wire.dump({"deployment": "t-deploy"})))
    return made


def slow_create(made: provider_pb2_grpc.ResourceProviderStub, folder: Path) -> list[grpc.RpcError]:
    """Begins a create that only a cancel ends; returns where its error will be once it has made something."""
    (folder / "net.slow").touch()
    values = {"cloud": str(folder), "cidr": "10.0.0.0/24"}
    inputs = made.Check(pb.CheckRequest(news=wire.dump(values), **ABOUT)).inputs
    errors: list[grpc.RpcError] = []

    def create() -> None:
        try:
            made.Create(pb.CreateRequest(properties=inputs, **ABOUT))
        except grpc.RpcError as error:
            errors.append(error)

    threading.Thread(target=create, daemon=True).start()
    wait_for(lambda: bool(cloud.Cloud(str(folder)).all()))
    return errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_idle_server_ends_at_once_and_has_printed_its_port_only(
    process: subprocess.Popen[str], number: signal.Signals
) -> None:
    stub(process)
    begun = time.monotonic()
    process.send_signal(number)
    output, errors = process.communicate(timeout=5)
    assert time.monotonic() - begun < 1
    assert (process.returncode, output, errors) == (0, "", "")


def test_signal_before_a_call_ends_lets_it_answer_with_what_exists(
    process: subprocess.Popen[str], tmp_path: Path
) -> None:
    errors = slow_create(stub(process), tmp_path)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.wait(5)
    assert time.monotonic() - begun < server.GRACE_S
    wait_for(lambda: bool(errors))
    assert errors[0].details() == "cancelled"


def test_second_signal_does_not_wait(tmp_path: Path, env: dict[str, str]) -> None:
    """A verb that does not hear the cancel holds the server for GRACE_S, or until the second signal."""
    deaf = (
        "import sys, os, signal, threading, time; from aifactory.provider import server;"
        "from aifactory.provider.registry import Registry; from aifactory.provider.servicer import Servicer;"
        "s = Servicer(Registry('x', {}), '0');"
        "leaver = server.Leaver(s); leaver.install(); leaver.server, _ = server.start(s);"
        "leaver.server.stop = lambda grace: threading.Timer(9, print).finished;"
        "print('ready', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=5)
    assert time.monotonic() - begun < 1


def test_children_end_with_the_server(tmp_path: Path, env: dict[str, str]) -> None:
    script = (
        "import subprocess, sys, time; from aifactory.provider import server;"
        "from aifactory.provider.registry import Registry; from aifactory.provider.servicer import Servicer;"
        "server.Leaver(Servicer(Registry('x', {}), '0')).install();"
        "p = subprocess.Popen(['sh', '-c', 'sleep 60 & echo $!; wait'], stdout=subprocess.PIPE, text=True,"
        " start_new_session=True);"
        "print(p.pid, p.stdout.readline().strip(), flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None
    children = [int(pid) for pid in process.stdout.readline().split()]
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=5)
    wait_for(lambda: not any(_alive(pid) for pid in children))


@pytest.mark.parametrize("watched", ["kernel", "poll"])
def test_parent_killed_ends_the_server_and_the_create_it_ran(tmp_path: Path, env: dict[str, str], watched: str) -> None:
    off = "s.PR_SET_PDEATHSIG = 0;" if watched == "poll" else "s.PARENT_POLL_S = 60;"
    serve = SERVE.replace("import sys;", f"import sys; import aifactory.provider.server as s; {off}")
    parent = (
        "import subprocess, sys, time\n"
        f"p = subprocess.Popen([sys.executable, '-c', {serve!r}], stdout=subprocess.PIPE, text=True)\n"
        "print(p.stdout.readline().strip(), p.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True, env=env, cwd=paths.REPO
    )
    assert process.stdout is not None
    port, pid = (int(part) for part in process.stdout.readline().split())
    made = provider_pb2_grpc.ResourceProviderStub(grpc.insecure_channel(f"127.0.0.1:{port}"))
    made.Configure(pb.ConfigureRequest(args=wire.dump({"deployment": "t-deploy"})))
    slow_create(made, tmp_path)
    process.kill()
    process.wait(5)
    wait_for(lambda: not _alive(pid), timeout_s=4)


def test_death_signal_of_a_living_parent_is_not_obeyed(process: subprocess.Popen[str]) -> None:
    """The kernel sends it too when only the parent's thread ends, which Go does at will."""
    made = stub(process)
    process.send_signal(server.DEATH_SIGNAL)
    made.Configure(pb.ConfigureRequest(args=wire.dump({"deployment": "t-deploy"})))
    assert process.poll() is None


def test_server_starts_without_the_heavy_libraries(env: dict[str, str]) -> None:
    """Start-up is paid by every command: 0.35 s of processor at most, no library that only a resource needs."""
    script = (
        "import json, sys, os; from aifactory.provider import server, servicer, registry;"
        "server.start(servicer.Servicer(registry.default(), '0'));"
        "print(json.dumps([sorted(sys.modules), sum(os.times()[:2])])); os._exit(0)"
    )
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env, check=True).stdout
    modules, seconds = json.loads(output)
    heavy = {"ansible_runner", "httpx", "cryptography", "gguf", "pydantic", "boto3", "jinja2", "openai", "rich"}
    assert not heavy & set(modules)
    assert not [m for m in modules if m.startswith(("aifactory.provider.local.", "aifactory.hosts."))]
    assert seconds < 0.7, "twice the bar, for a machine that is busy"


@pytest.mark.parametrize(
    ("arguments", "address"),
    [
        (["127.0.0.1:5"], "127.0.0.1:5"),
        (["--logtostderr", "-v=9", "--logflow", "127.0.0.1:5"], "127.0.0.1:5"),
        (["--tracing", "http://x", "127.0.0.1:5"], "127.0.0.1:5"),
        (["-tracing=http://x", "127.0.0.1:5"], "127.0.0.1:5"),
        ([], ""),
    ],
)
def test_engine_address_is_found_among_flags(arguments: list[str], address: str) -> None:
    assert server.engine_address(arguments) == address


@pytest.mark.parametrize(
    ("parallel", "threads"), [("", 40), ("8", 16), ("0", 40), ("-1", 40), ("many", 40), ("100000", 520)]
)
def test_threads_follow_parallel(parallel: str, threads: int) -> None:
    assert server.threads(parallel) == threads


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
