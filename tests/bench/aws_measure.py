"""One phase of one tool: seconds, CPU, peak memory of its process tree, and what the emulator was asked."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from aifactory.provider.server import descendants

from tests.emulator import Emulator

SAMPLE_S = 0.1
TOO_LONG_S = 7200.0


@dataclass
class Phase:
    """`peak_mib` is the proportional set size of the whole tree, sampled ten times a second; pages that processes
    share count once. `others_s` is CPU that anything else on the machine used meanwhile: a noisy row has much."""

    tool: str
    nodes: int
    phase: str
    ok: bool
    seconds: float
    cpu_s: float
    peak_mib: float
    requests: int
    throttled: int
    server_cpu_s: float
    others_s: float
    variant: str = ""
    text: str = ""


class Watch(threading.Thread):
    """Peak memory of a tree. The engine leads a session of its own, but stays a descendant."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self.root, self.peak_mib, self.over = root, 0.0, threading.Event()

    def run(self) -> None:
        while not self.over.wait(SAMPLE_S):
            self.peak_mib = max(self.peak_mib, sum(_pss_mib(pid) for pid in (self.root, *descendants(self.root))))


def _pss_mib(pid: int) -> float:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except OSError:
        return 0.0
    return 0.0


def _busy_s() -> float:
    """CPU seconds of the whole machine so far, idle and waiting for disks aside."""
    fields = [int(each) for each in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Bench:
    """Where one tool runs: its emulator, number of nodes, folder, and where its rows go."""

    emulator: Emulator
    nodes: int
    folder: Path
    say: Callable[[Phase], None]
    variant: str = ""

    def phase(
        self, tool: str, name: str, argv: list[str], env: Mapping[str, str], *, want: tuple[int, ...] = (0,)
    ) -> None:
        """Runs it to its end and hands on its row; `text` is its last output where the exit code is none of `want`."""
        self.say(run(self, tool, name, argv, env, want))


def run(bench: Bench, tool: str, phase: str, argv: list[str], env: Mapping[str, str], want: tuple[int, ...]) -> Phase:  # noqa: PLR0917
    emulator = bench.emulator
    emulator.forget_counts()
    server, busy, begun = emulator.cpu_s(), _busy_s(), time.monotonic()
    log = bench.folder / f"{tool}-{phase}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(argv, cwd=bench.folder, env=dict(env), stdout=out, stderr=subprocess.STDOUT)
        watch = Watch(process.pid)
        watch.start()
        killer = threading.Timer(TOO_LONG_S, process.kill)
        killer.start()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        killer.cancel()
    seconds = time.monotonic() - begun
    watch.over.set()
    watch.join()
    cpu, served = used.ru_utime + used.ru_stime, emulator.cpu_s() - server
    others = max(0.0, _busy_s() - busy - cpu - served)
    ok = process.returncode in want
    text = "" if ok else log.read_text(errors="replace")[-1500:]
    asked, refused = sum(emulator.requests().values()), sum(emulator.throttled().values())
    return Phase(
        tool, bench.nodes, phase, ok, round(seconds, 2), round(cpu, 2), round(watch.peak_mib, 1), asked, refused,
        round(served, 2), round(others, 2), bench.variant, text,
    )  # fmt: skip
