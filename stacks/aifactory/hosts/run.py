"""The one place that runs Ansible: a playbook on a set of hosts, an outcome for each of them.

Each run has a private folder (key, known_hosts, inventory with the secrets), a child process with an
allow-listed environment, and a result file written by our callback. Large pools are split over several
children. Ansible's exit code decides nothing: a host is done when it reached the end marker.
"""

from __future__ import annotations

import functools
import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aifactory import paths

from . import inventory, module_cache
from . import ssh as ssh_config
from .digest import digests
from .fleet import FleetHost
from .play import HostOutcome, Play, RunResult, SshAccess
from .private_dir import private_dir
from .remote import read_markers
from .results import Results

__all__ = ["HostOutcome", "Play", "RunResult", "SshAccess", "digests", "read_markers", "run_play"]

SHARD_HOSTS = 32
"""Hosts a process: each has a worker of its own, of some 25 MiB with its ssh. With fewer workers than hosts the main
process asks ten thousand times a second for a free one (8 hosts, processor time: 17.5 s with 5 workers, 12.6 s with 8).
"""

SKIPPED = "--skip-tags always"
"""Leaves out Ansible's check of each role's dict: `role_input` has made it, once and not on every host."""

POLL_S = 0.1
STOP_S = 8.0
"""After a stop the child has this long before it is killed; it needs about one second."""


class RunError(Exception):
    """Ansible could not even start (a broken playbook or installation): not a host's fault."""


def run_play(
    play: Play,
    ssh: SshAccess,
    *,
    key: bytes | None = None,
    progress: Callable[[str], None] = lambda _line: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> RunResult:
    """Runs the play on its targets and says how each fared; blocks, may be stopped, is safe to repeat.

    `key` is the HMAC key of the digests in the markers; without one they match no later run. Raises ProblemError
    for input that ssh or Ansible would misread, ValueError for a role dict that does not fit, RunError when
    nothing could run.
    """
    run_id, begun = secrets.token_hex(8), time.monotonic()
    targets = play.targets()
    results = Results(targets)
    if not targets:
        return RunResult(run_id, {}, 0.0)
    why = ""
    with private_dir() as folder:
        config = ssh_config.write(folder, targets, ssh)
        layer_digests = digests(play, key or secrets.token_bytes(32))
        shards = [
            _Shard(folder, index, replace(play, limit=tuple(h.name for h in hosts)), run_id)
            for index, hosts in enumerate(_split(targets))
        ]
        for shard in shards:
            shard.prepare(config, layer_digests, ssh)
        with _turn(play.timeout_s, progress, cancelled) as left_s:
            why = _drive(shards, results, left_s, progress, cancelled)
    if not results.started and not why:
        raise RunError("Ansible did not run: " + (shards[0].tail or "no output"))
    outcomes = results.outcomes(why or "Ansible ended before this host was through")
    return RunResult(run_id, outcomes, time.monotonic() - begun, tuple(results.notes))


@functools.cache
def _runs() -> threading.Semaphore:
    """Runs at once in this process: each keeps a processor busy and takes some 130 MiB."""
    return threading.Semaphore(max(1, (os.cpu_count() or 1) // 2))


@contextmanager
def _turn(
    timeout_s: float | None, progress: Callable[[str], None], cancelled: Callable[[], bool]
) -> Iterator[float | None]:
    """Waits until another run may start; yields what is left of the time. A stopped run does not wait."""
    begun, mine, told = time.monotonic(), False, False
    try:
        while not (mine := _runs().acquire(timeout=POLL_S)):
            waited = time.monotonic() - begun
            if cancelled() or (timeout_s is not None and waited > timeout_s):
                break
            if not told:
                progress("waiting for another run of Ansible")
                told = True
        yield None if timeout_s is None else max(0.0, timeout_s - (time.monotonic() - begun))
    finally:
        if mine:
            _runs().release()


def _split(hosts: Sequence[FleetHost]) -> Iterator[Sequence[FleetHost]]:
    """Even slices of at most SHARD_HOSTS, in fleet order; a rack that fits stays whole, its nodes are compared."""
    shards = -(-len(hosts) // SHARD_HOSTS)
    size = -(-len(hosts) // shards)
    start = 0
    while start < len(hosts):
        end = start + size
        while start < end < len(hosts) and "" != _rack(hosts[end - 1]) == _rack(hosts[end]):
            end -= 1
        if end == start:  # a rack that is larger than a slice
            end += size
        yield hosts[start:end]
        start = end


def _rack(host: FleetHost) -> str:
    return host.labels.get("rack", "")


def _drive(
    shards: Sequence[_Shard],
    results: Results,
    timeout_s: float | None,
    progress: Callable[[str], None],
    cancelled: Callable[[], bool],
) -> str:
    """Runs the shards, as many at a time as there are processors; says why they were stopped, if they were."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    waiting, running, shown = list(shards), list[_Shard](), ""
    at_once = max(1, os.cpu_count() or 1)
    try:
        while waiting or running:
            if cancelled():
                return "stopped"
            while waiting and len(running) < at_once:
                running.append(waiting.pop(0))
                running[-1].start()
            time.sleep(POLL_S)
            ended = [shard for shard in running if shard.ended()]
            for shard in running:
                results.feed(shard.lines())
            for shard in ended:
                running.remove(shard)
            if results.progress != shown:
                shown = results.progress
                progress(shown)
            if deadline is not None and time.monotonic() > deadline:
                return f"not through within {timeout_s:.0f} s"
        return ""
    finally:
        for shard in running:
            shard.stop()
        for shard in running:
            shard.wait()
            results.feed(shard.lines())


@dataclass
class _Shard:
    """One child process and its folder."""

    private: Path
    index: int
    play: Play
    run_id: str
    tail: str = ""
    _environment: dict[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None
    _read: int = 0

    @property
    def folder(self) -> Path:
        return self.private / f"s{self.index}"

    def prepare(self, config: Path, layer_digests: dict[str, str], ssh: SshAccess) -> None:
        """Writes inventory and playbook; nothing secret leaves the private folder."""
        self.folder.mkdir(mode=0o700)
        (self.folder / "hosts.json").write_text(json.dumps(inventory.build(self.play, layer_digests)))
        books = (self.play.playbook, "marker.yml")
        imports = [{"ansible.builtin.import_playbook": str(paths.PLAYBOOKS / book)} for book in books]
        (self.folder / "play.json").write_text(json.dumps(imports))
        (self.folder / "results").touch(mode=0o600)
        self._environment = environment(self.folder, config, self.run_id, len(self.play.targets()))
        if ssh.asks_agent and "SSH_AUTH_SOCK" in os.environ:
            self._environment["SSH_AUTH_SOCK"] = os.environ["SSH_AUTH_SOCK"]
        if archives := module_cache.folder():
            self._environment["AIFACTORY_MODULE_CACHE"] = str(archives)

    def job(self) -> dict[str, Any]:
        """What the child is told."""
        return {
            "folder": str(self.folder),
            "private_dir": str(self.private),
            "parent": os.getpid(),
            "playbook": str(self.folder / "play.json"),
            "inventory": str(self.folder / "hosts.json"),
            "cmdline": f"{SKIPPED}{' --check' if self.play.check else ''}",
        }

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "aifactory.hosts.child"],
            stdin=subprocess.PIPE,
            stdout=(self.folder / "answer").open("wb"),
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            env=self._environment,
            start_new_session=True,
        )
        stdin = self._process.stdin
        if stdin is not None:
            stdin.write(json.dumps(self.job()).encode())
            stdin.close()

    def ended(self) -> bool:
        if self._process is None or self._process.poll() is None:
            return False
        answer = (self.folder / "answer").read_text(errors="replace").strip()
        self.tail = answer[-2000:]
        if answer.startswith("{"):
            self.tail = str(json.loads(answer.splitlines()[0])["tail"])
        return True

    def lines(self) -> list[str]:
        """Whole result lines written since the last call."""
        with (self.folder / "results").open("rb") as file:
            file.seek(self._read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        return whole.decode().splitlines()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def wait(self) -> None:
        if self._process is None:
            return
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def environment(folder: Path, config: Path, run_id: str, hosts: int) -> dict[str, str]:
    """The whole environment of a child: nothing of the caller's but the way to the programs it needs."""
    bin_dir = str(Path(sys.executable).parent)
    arguments = f"-F {config} -o ControlMaster=auto -o ControlPersist=60s"
    return {
        "PATH": os.pathsep.join((bin_dir, "/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin")),
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TMPDIR": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "AIFACTORY_RESULT_FILE": str(folder / "results"),
        "ANSIBLE_CONFIG": str(paths.PLAYBOOKS / "ansible.cfg"),
        "ANSIBLE_HOME": str(folder / "ansible"),
        "ANSIBLE_CALLBACK_PLUGINS": str(paths.PLAYBOOKS / "callback_plugins"),
        "ANSIBLE_CALLBACKS_ENABLED": "aifactory_result,aifactory_lean",
        "ANSIBLE_FORKS": str(hosts),
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "True",
        "ANSIBLE_INVENTORY_UNPARSED_FAILED": "True",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_SSH_ARGS": arguments,
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(folder / "cp"),
        "ANSIBLE_TARGET_LOG_INFO": f"aifactory run {run_id}",
        "ANSIBLE_TIMEOUT": str(ssh_config.CONNECT_TIMEOUT_S),
    }
