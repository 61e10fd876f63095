"""`python -m aifactory.hosts.child`: runs one playbook through ansible-runner, in a process of its own.

Own process because ansible-runner copies its environment into files, replaces signal handlers and may
exit; here the environment is the allow-list it was started with. The job comes as JSON on stdin, the
answer is one JSON line on stdout: `{"status", "rc", "tail"}`. SIGTERM stops the run. Whatever the run
started (workers, SSH masters) is gone when this process ends.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def main() -> int:
    job: dict[str, Any] = json.load(sys.stdin)
    folder = Path(job["folder"])
    stop = threading.Event()

    def on_stop(_signum: int, _frame: object) -> None:
        stop.set()
        for pid in _descendants(os.getpid(), direct=True):
            _signal(pid, signal.SIGTERM)  # ansible-playbook passes it on to its workers; runner kills what stays

    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, on_stop)
    _become_guardian()
    if os.getppid() != job["parent"]:
        stop.set()
    try:
        answer = {"status": "canceled", "rc": 254, "tail": ""} if stop.is_set() else _run(job, folder, stop)
        print(json.dumps(answer), flush=True)
    finally:
        kill_descendants(os.getpid())
        if os.getppid() != job["parent"]:  # nobody else is left to remove the key and the secrets
            shutil.rmtree(job["private_dir"], ignore_errors=True)
    return 0


def _run(job: dict[str, Any], folder: Path, stop: threading.Event) -> dict[str, Any]:
    from ansible_runner.interface import run

    os.environ["AIFACTORY_PARENT"] = str(os.getpid())
    runner = run(  # type: ignore[no-untyped-call]
        private_data_dir=str(folder),
        project_dir=str(folder),
        playbook=job["playbook"],
        inventory=job["inventory"],
        cmdline=job["cmdline"] or None,
        ident="run",
        quiet=True,
        omit_event_data=True,
        event_handler=lambda _event: False,  # the result callback is the record; nothing piles up on disk
        cancel_callback=stop.is_set,
        settings={"pexpect_timeout": 1, "suppress_ansible_output": True},
    )
    stdout = folder / "artifacts" / "run" / "stdout"
    tail = stdout.read_text(errors="replace")[-4000:] if stdout.is_file() and runner.rc else ""
    return {"status": runner.status, "rc": runner.rc, "tail": tail}


def _become_guardian() -> None:
    """Ends with the parent, and inherits every orphan below, so that none escapes (Linux)."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)


def kill_descendants(pid: int) -> None:
    """Ends everything below `pid`: SIGTERM (an SSH master removes its socket), SIGKILL after half a second."""
    deadline = time.monotonic() + 0.5
    signum = signal.SIGTERM
    while alive := _descendants(pid):
        for one in alive:
            _signal(one, signum)
        time.sleep(0.02)
        if time.monotonic() > deadline:
            signum = signal.SIGKILL


def _descendants(pid: int, *, direct: bool = False) -> list[int]:
    """Living processes below `pid` (or its children only); zombies are left out."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, tail = stat.read_text(errors="replace").rpartition(")")
        except OSError:  # ended meanwhile
            continue
        state, parent = tail.split()[:2]
        if state not in "ZX":
            children.setdefault(int(parent), []).append(int(head.split()[0]))
    found = list(children.get(pid, ()))
    if not direct:
        for one in found:
            found += children.get(one, ())
    return found


def _signal(pid: int, signum: int) -> None:
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return


if __name__ == "__main__":
    sys.exit(main())
