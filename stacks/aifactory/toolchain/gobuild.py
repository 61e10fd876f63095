"""The engine from Go modules, built into the cache: all of it or nothing, one build at a time.

Everything is compiled into a folder `.tmp-*` beside the final one and renamed at the end, so what exists is
complete. A killed build leaves a `.tmp-*` that the next one removes; Go's own cache keeps what it had compiled.
"""

from __future__ import annotations

import fcntl
import json
import os
import selectors
import shutil
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from aifactory import paths
from aifactory.errors import Exit, ProblemError, fail
from aifactory.toolchain import child, lock
from aifactory.toolchain.gotool import Go, find_go
from aifactory.toolchain.locate import engine_dir, in_cache, kubernetes_dir

Progress = Callable[[str], None]


def build(progress: Progress, *, kubernetes: bool = False, every_s: float = 10.0) -> Path:
    """Folder of the locked engine (with `kubernetes=True`: of that provider), built when it is missing.

    `progress` gets one line at each step and one every `every_s` seconds. Blocks while another build runs.
    Raises ProblemError: no fitting Go (exit 3), a build that failed (exit 4).
    """
    final = kubernetes_dir() if kubernetes else engine_dir()
    if _complete(final, kubernetes):
        return final
    try:
        with _one_at_a_time(final.parent, progress):
            if not _complete(final, kubernetes):
                _build_anew(final, progress, kubernetes, every_s)
    except OSError as error:
        raise fail(
            "TOOL-010",
            f"The engine could not be written to {final.parent}: {error.strerror or error}.",
            code=Exit.PREFLIGHT,
            fix="free 2 GiB there, or set AIFACTORY_CACHE to a folder with space",
        ) from error
    return final


def _build_anew(final: Path, progress: Progress, kubernetes: bool, every_s: float) -> None:
    locked = lock.load()
    go = find_go(locked.kubernetes.folder if kubernetes else locked.binaries[0].folder)
    for stale in final.parent.glob(".tmp-*"):
        shutil.rmtree(stale, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=".tmp-", dir=final.parent))
    try:
        steps = _Steps(go, locked.tags, progress, every_s)
        (_build_kubernetes if kubernetes else _build_engine)(steps, temporary)
        temporary.chmod(0o755)
        if final.exists():  # somebody took files out of it
            shutil.rmtree(final)
        temporary.rename(final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _complete(final: Path, kubernetes: bool) -> bool:
    return (final / "pulumi-resource-kubernetes").exists() if kubernetes else in_cache() is not None


@contextmanager
def _one_at_a_time(folder: Path, progress: Progress) -> Iterator[None]:
    """Holds the cache's build lock. The kernel lets go of it when its holder dies, however that happens."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            progress(f"engine: another build is running (pid {file.read().strip() or '?'}); waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield


def _build_engine(steps: _Steps, target: Path) -> None:
    locked = lock.load()
    bin_dir = target / "bin"
    bin_dir.mkdir()
    total = len(locked.binaries)
    for number, binary in enumerate(locked.binaries, 1):
        steps.compile(binary, lock.GO_FOLDERS / binary.folder, bin_dir, f"{number} of {total}")
    for script in locked.scripts:
        module = steps.module_dir(lock.GO_FOLDERS / script.folder, script.module)
        shutil.copyfile(module / script.file, bin_dir / script.name)
        (bin_dir / script.name).chmod(0o755)
    versions = {
        "binaries": {binary.name: binary.version for binary in locked.binaries},
        "scripts": [script.name for script in locked.scripts],
        "go": steps.go.version,
    }
    (target / "versions.json").write_text(json.dumps(versions, indent=1), encoding="utf-8")


def _build_kubernetes(steps: _Steps, target: Path) -> None:
    """Copies go/kubernetes, adds the two JSON files that its main.go embeds, compiles."""
    locked = lock.load()
    source = target / "source"
    shutil.copytree(lock.GO_FOLDERS / locked.kubernetes.folder, source)
    module = steps.module_dir(source, locked.kubernetes_module)
    derive_kubernetes_json(module / "cmd" / "pulumi-resource-kubernetes", source, locked.kubernetes.version)
    steps.compile(locked.kubernetes, source, target, "1 of 1")
    shutil.rmtree(source)


def derive_kubernetes_json(upstream: Path, target: Path, version: str) -> None:
    """Upstream's schema with its version set, and its mapping, both compact: what its `go generate` makes."""
    schema = json.loads((upstream / "schema.json").read_text(encoding="utf-8"))
    schema["version"] = version
    mapping = json.loads((upstream / "terraform-mapping.json").read_text(encoding="utf-8"))
    for name, data in (("schema-embed.json", schema), ("terraform-mapping-embed.json", mapping)):
        (target / name).write_text(json.dumps(data, separators=(",", ":"), ensure_ascii=False), encoding="utf-8")


class _Steps:
    """Runs Go, tells how far it is, keeps the last lines for the case that it fails."""

    def __init__(self, go: Go, tags: str, progress: Progress, every_s: float) -> None:
        self.go, self.tags, self.progress, self.every_s = go, tags, progress, every_s
        self.began = time.monotonic()

    def module_dir(self, folder: Path, module: str) -> Path:
        """Where the module's files are; fetches them (checked against go.sum) when they are not there yet."""
        self._run(["mod", "download", module], folder, f"fetching {module}")
        done = self.go.output(["list", "-m", "-f", "{{.Dir}}", module], folder)
        return Path(done.strip())

    def compile(self, binary: lock.Binary, folder: Path, target: Path, count: str) -> None:
        label = f"building {binary.name} {binary.version} ({count})"
        argv = ["build", "-v", "-trimpath", "-tags", self.tags, "-ldflags", f"-s -w -X {binary.stamp}"]
        self._run([*argv, "-o", str(target / binary.name), binary.package], folder, label)

    def _run(self, argv: list[str], folder: Path, label: str) -> None:
        self.progress(f"engine: {label}, {self._elapsed()}")
        process = child.start(
            [str(self.go.command), *argv],
            cwd=folder,
            env=self.go.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        last: deque[str] = deque(maxlen=25)
        try:
            assert process.stdout is not None  # noqa: S101 - PIPE was asked for
            self._follow(process.stdout, label, last)
            code = process.wait()
        except BaseException:
            child.stop_group(process)
            raise
        if code:
            raise _failed(label, self.go, list(last))

    def _follow(self, stream: IO[bytes], label: str, last: deque[str]) -> None:
        """Reads to the end; a line a package or a download, so their number says that it moves."""
        packages = downloads = 0
        told = time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            os.set_blocking(stream.fileno(), False)
            rest = b""
            while True:
                if selector.select(timeout=1.0):
                    data = os.read(stream.fileno(), 65536)
                    if not data:
                        break
                    *lines, rest = (rest + data).split(b"\n")
                    for line in (raw.decode(errors="replace") for raw in lines):
                        if line.startswith("go: downloading "):
                            downloads += 1
                        elif " " not in line:
                            packages += 1
                        last.append(line)
                if time.monotonic() - told >= self.every_s:
                    told = time.monotonic()
                    self.progress(f"engine: {label}, {self._elapsed()}: {_counts(packages, downloads)}")

    def _elapsed(self) -> str:
        seconds = int(time.monotonic() - self.began)
        return f"{seconds // 60} min {seconds % 60:02d} s" if seconds >= 60 else f"{seconds} s"


def _counts(packages: int, downloads: int) -> str:
    parts = [f"{downloads} modules fetched"] if downloads else []
    return ", ".join([*parts, f"{packages} packages compiled"])


def _failed(label: str, go: Go, lines: list[str]) -> ProblemError:
    """The build's own last words, and what usually mends them."""
    text = "\n".join(line for line in lines if " " in line and not line.startswith("go: downloading "))
    if any(word in text for word in ("dial tcp", "i/o timeout", "proxyconnect", "no such host", "connection refused")):
        fix = f"make the Go module proxy reachable (GOPROXY={go.setting('GOPROXY')}), then run make setup again"
    elif "no space left" in text:
        fix = f"free 5 GiB in {go.setting('GOCACHE')} and {paths.cache()}, then run make setup again"
    elif "signal: killed" in text:
        fix = "the compiler was killed, most often for want of memory: free 2 GiB, then run make setup again"
    else:
        fix = "run make setup again; nothing that was compiled is lost"
    return fail("TOOL-011", f"{label[0].upper()}{label[1:]} failed:\n{text}", code=Exit.FAILED, fix=fix)
