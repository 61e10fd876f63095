"""`make bench-hosts`: what configuring GPU nodes costs the machine that does it, beside plain Ansible.

Not a test: prints a Markdown table of what was measured beside its bar and exits 0 whatever the figures are.
Real: ansible, ssh, systemd, apt, podman, the engine image. Simulated: GPUs, cards and the vendors' packages
(tests/roles/simnode, vendor_repo). Nodes are containers on this machine, so wall time is mostly theirs; processor time
and memory are those of the controller's process tree alone.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import pickle
import platform
import resource
import secrets
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO))

from aifactory import paths  # noqa: E402
from aifactory.components.role_vars import role_vars  # noqa: E402
from aifactory.hosts import inventory  # noqa: E402
from aifactory.hosts import run as hosts_run  # noqa: E402
from aifactory.hosts import ssh as ssh_config  # noqa: E402
from aifactory.hosts.fleet import FleetHost  # noqa: E402
from aifactory.hosts.play import Play, SshAccess  # noqa: E402
from aifactory.hosts.results import Results  # noqa: E402
from aifactory.plan import build  # noqa: E402
from aifactory.provider.local import driver  # noqa: E402
from aifactory.provider.service.service import Replica, Service, ServiceInputs  # noqa: E402
from aifactory.serving import golden, image  # noqa: E402

from tests.bench.bench_local import descendants, memory_mib  # noqa: E402
from tests.roles import simnode, vendor_repo  # noqa: E402
from tests.roles.conftest import LABEL, Node, Site, _free_port, _wait_for_ssh, key_pair  # noqa: E402
from tests.roles.gpu_nodes import _Engine, use_debian  # noqa: E402
from tests.roles.gpu_nodes import platform as described  # noqa: E402
from tests.roles.image import node_image  # noqa: E402
from tests.unit.plan import regions  # noqa: E402

DESCRIPTION = "hgx-h100"
DRIVER = "580.178.04"
LAYERS = ("host", "fabric", "gpu", "runtime")
PR_SET_CHILD_SUBREAPER = 36


# -- what a command costs


@dataclass(frozen=True)
class Cost:
    """Processor time (user and system, every process below), seconds passed, peak memory (PSS) of the tree."""

    cpu_s: float
    wall_s: float
    peak_mib: float
    code: int
    output: str


def measure(argv: Sequence[str]) -> Cost:
    """Runs the command and all it leaves behind, which is ended and counted too. Call in a process of its own."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    begun, peak, over = time.monotonic(), [0.0], threading.Event()

    def watch() -> None:
        while not over.wait(0.25):
            peak[0] = max(peak[0], memory_mib(descendants(os.getpid()) - {os.getpid()}))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    wall = time.monotonic() - begun
    over.set()
    watcher.join()
    with contextlib.suppress(ChildProcessError):
        while True:  # masters of SSH outlive ansible-playbook
            for pid in descendants(os.getpid()) - {os.getpid()}:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            os.waitpid(-1, 0)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(used.ru_utime + used.ru_stime, wall, peak[0], done.returncode, done.stdout)


def cost_of(argv: Sequence[str], env: dict[str, str] | None = None) -> Cost:
    """`measure` in a child, with its environment."""
    call = [sys.executable, __file__, "--measure", json.dumps(list(argv))]
    done = subprocess.run(call, capture_output=True, text=True, check=True, env={**os.environ, **(env or {})})
    return Cost(**json.loads(done.stdout))


# -- simulated nodes


@dataclass
class _Ports(_Engine):
    """Publishes the node's sshd on more ports, and leaves out units that hold one of the user's inotify instances."""

    ports: tuple[int, ...] = ()

    def create_argv(self, new: driver.NewContainer, flags: Any) -> list[str]:
        *argv, image_name = super().create_argv(new, flags)
        more = [word for port in self.ports for word in ("-p", f"{driver.LOOPBACK}:{port}:22")]
        return [*argv, *more, image_name]


@dataclass
class Pool:
    """Simulated nodes; each is in the fleet once for every port of its sshd."""

    site: Site
    nodes: list[Node]
    hosts: list[FleetHost]
    repositories: vendor_repo.Repositories

    def first(self, count: int) -> tuple[FleetHost, ...]:
        """One host of each of so many nodes."""
        return tuple(node.host for node in self.nodes[:count])


@contextlib.contextmanager
def site() -> Iterator[Site]:
    engine = driver.find()
    private, public = key_pair()
    name = f"t-bench-{secrets.token_hex(3)}"
    prefix = f"10.203.{secrets.randbelow(250)}"
    with node_image(engine) as reference:
        engine.create_network(name, f"{prefix}.0/24", f"{prefix}.1", {LABEL: name})
        try:
            yield Site(engine, reference, name, prefix, private, public)
        finally:
            for container in engine.containers({LABEL: name}):
                engine.remove(container.name)
            for volume in engine.volumes({LABEL: name}):
                engine.remove_volume(volume.name)
            engine.remove_network(name)


@contextlib.contextmanager
def pool(nodes: int, ports: int) -> Iterator[Pool]:
    """So many nodes, and the vendors' repositories on one more."""
    with site() as ground:
        server = ground.node("repo")
        _wait_for_ssh(server, ground.ssh)
        served = vendor_repo.serve(server)
        contents = simnode.prepared(described(DESCRIPTION))
        found = Pool(ground, [], [], served)
        for number in range(nodes):
            more = tuple(_free_port() for _ in range(ports - 1))
            engine = _Ports(ground.engine.info, ground.engine.program, contents=contents, ports=more)
            other = replace(ground, engine=engine)
            made = other.node(f"n{number:02d}", gpus=8, shape=described(DESCRIPTION)["shape"], rank=number)
            ground.made = other.made
            node = replace(made, engine=ground.engine)
            _wait_for_ssh(node, ground.ssh)
            use_debian(node, served)
            node.sh("systemctl disable -q --now systemd-ask-password-wall.path systemd-ask-password-console.path")
            found.nodes.append(node)
            found.hosts += [
                replace(node.host, name=f"{node.name}-{i}" if i else node.name, port=port, rank=number + i * nodes)
                for i, port in enumerate((node.host.port, *more))
            ]
        try:
            yield found
        finally:
            served.close()


# -- two ways to configure them


def variables(pool: Pool, turn: int) -> dict[str, dict[str, Any]]:
    """Dicts of the layers out of a region's plan; every layer differs from turn to turn."""
    nvidia = pool.repositories.nvidia
    region = regions.static(
        described(DESCRIPTION)["shape"],
        power={"cap_w_per_gpu": 600 + turn},
        software={
            "driver_version": DRIVER,
            "repositories": {"nvidia": {"url": nvidia.url, "fingerprint": nvidia.fingerprint}},
        },
    )
    plan = build.plan(region)
    given = role_vars(plan, plan.pools[0])
    given["host"]["journal_max_mib"] = 64 + turn
    given["fabric"]["nccl"]["environment"] = [{"name": "NCCL_DEBUG_SUBSYS", "value": f"T{turn}", "reason": "turn"}]
    given["runtime"]["registries"] = [f"registry-{turn}.example.eu"]
    return given


def configuration(pool: Pool, hosts: tuple[FleetHost, ...], turn: int) -> Play:
    return Play("site.yml", "configuration", hosts, LAYERS, variables(pool, turn))


def service(hosts: tuple[FleetHost, ...], turn: int) -> Play:
    """A replica of the small model on each host."""
    built = image.build("llama-cpp")
    golden.ensure(golden.folder())
    inputs = ServiceInputs(
        region="bench", hosts=hosts, service="chat", model="golden-tiny", engine="llama-cpp",
        image_archive=Path(built.archive).name, image_id=built.image_id, model_file=golden.FILE,
        model_sha256=golden.SHA256, context_tokens=2048 + 64 * turn, parallel_requests=2,
        upstream_key=secrets.token_hex(16),
        replicas=tuple(Replica(i, host.name, 8000) for i, host in enumerate(hosts)),
    )  # fmt: skip
    return Service().play(inputs)


class Counted(Results):
    """Counts what each host was asked, by outcome."""

    asked: dict[str, Counter[str]] = {}  # noqa: RUF012 (one run a process)

    def feed(self, lines: Any) -> None:
        lines = list(lines)
        for line in map(json.loads, lines):
            if line["kind"] == "host":
                self.asked.setdefault(line["host"], Counter())[line["status"]] += 1
        super().feed(lines)


def run_engine(job: Path) -> int:
    """What the provider does: `run_play`, one play after the other. Prints a JSON line."""
    plays, access = pickle.loads(job.read_bytes())  # noqa: S301 (our own file)
    hosts_run.Results = Counted  # type: ignore[misc]
    failed = []
    for play in plays:
        result = hosts_run.run_play(play, access, key=b"bench")
        failed += [outcome.reason(name) for name, outcome in result.failed().items()]
    print(json.dumps({"failed": failed, "asked": Counted.asked}))
    return bool(failed)


def by_engine(plays: Sequence[Play], access: SshAccess, folder: Path) -> Cost:
    job = folder / "job"
    job.write_bytes(pickle.dumps((list(plays), access)))
    return cost_of([sys.executable, __file__, "--engine", str(job)])


def by_plain(plays: Sequence[Play], access: SshAccess, folder: Path) -> Cost:
    """`ansible-playbook` with nothing but the paths of roles and plugins, the login key and the host keys."""
    books = paths.PLAYBOOKS
    hosts = plays[0].hosts
    whole = replace(
        plays[0],
        layers=tuple(layer for play in plays for layer in play.layers),
        role_vars={role: given for play in plays for role, given in play.role_vars.items()},
        secret_vars={role: given for play in plays for role, given in play.secret_vars.items()},
        local_vars={role: given for play in plays for role, given in play.local_vars.items()},
    )
    own = Path(tempfile.mkdtemp(dir=folder))
    (own / "hosts.json").write_text(json.dumps(inventory.build(whole, {})))
    config = ssh_config.write(own, hosts, access)
    (own / "ansible.cfg").write_text(
        f"[defaults]\nroles_path = {books}/roles\nlibrary = {books}/library\naction_plugins = {books}/action_plugins\n"
        f"module_utils = {books}/module_utils\n[ssh_connection]\nssh_common_args = -F {config}\n"
    )
    env = {"ANSIBLE_CONFIG": str(own / "ansible.cfg"), "ANSIBLE_HOME": str(own), "PYTHONDONTWRITEBYTECODE": "1"}
    names = [*(play.playbook for play in plays), "marker.yml"]
    program = str(Path(sys.executable).parent / "ansible-playbook")
    try:
        return cost_of([program, "-i", str(own / "hosts.json"), *(str(books / name) for name in names)], env)
    finally:
        shutil.rmtree(own, ignore_errors=True)


# -- what is printed


def side_by_side(pool: Pool, count: int, rounds: int, folder: Path) -> dict[str, list[Cost]]:
    """Costs of changed configurations by way, in turn; the first run of all installs and is not counted."""
    hosts, access = pool.first(count), pool.site.ssh
    said("first run", by_engine([configuration(pool, hosts, 0), service(hosts, 0)], access, folder))
    costs: dict[str, list[Cost]] = {"engine": [], "plain": []}
    turn = 0
    for number in range(rounds):
        ways = [("engine", by_engine), ("plain", by_plain)]
        for name, way in ways if number % 2 == 0 else ways[::-1]:
            turn += 1
            cost = way([configuration(pool, hosts, turn), service(hosts, turn)], access, folder)
            said(name, cost)
            costs[name].append(cost)
    return costs


def said(name: str, cost: Cost) -> None:
    """A line on stderr while it goes on; a run that failed shows its words."""
    line = f"{name}: cpu {cost.cpu_s:.1f} s, wall {cost.wall_s:.1f} s, peak {cost.peak_mib:.0f} MiB, code {cost.code}"
    print(line, *([cost.output[-3000:]] if cost.code else []), sep="\n", file=sys.stderr, flush=True)


def asked_a_node(cost: Cost) -> int:
    """Tasks that a host was really asked, of the one with the most; skipped ones are decided here."""
    asked = json.loads(cost.output.strip().splitlines()[-1])["asked"]
    return max(counts.get("ok", 0) + counts.get("changed", 0) for counts in asked.values())


def table(nodes: int, costs: dict[str, list[Cost]]) -> str:
    engine, plain = (statistics.median(cost.cpu_s for cost in costs[way]) for way in ("engine", "plain"))
    peak = {way: max(cost.peak_mib for cost in costs[way]) for way in costs}
    walls = {way: statistics.median(cost.wall_s for cost in costs[way]) for way in costs}
    tasks = max(asked_a_node(cost) for cost in costs["engine"])
    return "\n".join(
        (
            f"{nodes} simulated GPU nodes, a changed configuration of all five layers, {len(costs['engine'])} rounds, "
            f"{platform.machine()}, Python {platform.python_version()}:",
            "",
            "| measure | aifactory | plain Ansible | bar |",
            "|---|---|---|---|",
            f"| processor time | {engine:.1f} s ({engine / plain:.2f} ×) | {plain:.1f} s | ≤ 0.5 × |",
            f"| wall time | {walls['engine']:.0f} s | {walls['plain']:.0f} s | – |",
            f"| peak memory | {peak['engine']:.0f} MiB | {peak['plain']:.0f} MiB | ≤ 1,536 MiB at 64 nodes |",
            f"| tasks asked of a node | {tasks} | – | ≤ 40 |",
        )
    )


def main() -> int:
    if sys.argv[1:2] == ["--measure"]:
        cost = measure(json.loads(sys.argv[2]))
        print(json.dumps(cost.__dict__))
        return 0
    if sys.argv[1:2] == ["--engine"]:
        return run_engine(Path(sys.argv[2]))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ports", type=int, default=1)
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="bench-hosts-"))
    try:
        with pool(options.nodes, options.ports) as made:
            print(table(options.nodes, side_by_side(made, options.nodes, options.rounds, work)))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
