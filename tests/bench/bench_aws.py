"""`make bench-aws`: a region of the AWS family, made, looked at, grown and removed by Terraform, us and bare boto3.

Not a test. Same machine, same emulator (tests/emulator, a fresh one a run), one tool after the other in turn; rows go
to a file (--rows), the table to docs/performance.md, section "Clouds of the AWS family". Default: 8 and 64 nodes;
BENCH=--full adds 256 and 1000, and both under EC2's published token buckets with 150 ms a call (hours, most of them
Terraform's). Where there is no Terraform 1.x or no mirror with the aws provider 5.100.0, its columns say so.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPO), str(REPO / "stacks")]

from tests.bench import aws_table  # noqa: E402
from tests.bench.aws_measure import Bench, Phase  # noqa: E402
from tests.emulator import IMAGE, Emulator  # noqa: E402
from tests.faults import region  # noqa: E402
from tests.faults.stage import Stage  # noqa: E402

LATENCY_MS = 150
US_EAST = {"partition": "aws", "cloud_region": "us-east-1", "zone": "us-east-1c"}


def ours(bench: Bench) -> None:
    """Engine, plugin and program included; the resources of tests/faults/region.py."""
    stage = Stage(bench.folder / "ours", bench.emulator)

    def phase(name: str, operation: str, count: int) -> None:
        stage.want(region.resources(bench.emulator, count, **US_EAST))
        argv = [sys.executable, "-m", "tests.faults.drive", str(stage.project), stage.name, operation]
        bench.phase("aifactory", name, argv, stage.environment)

    phase("apply", "up", bench.nodes)
    phase("unchanged", "up", bench.nodes)
    phase("one more", "up", bench.nodes + 1)
    phase("destroy", "destroy", bench.nodes + 1)


def floor(bench: Bench) -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPO), str(REPO / "stacks")])}
    for name, verb in (("apply", "apply"), ("unchanged", "noop"), ("destroy", "destroy")):
        argv = [sys.executable, "-m", "tests.bench.aws_floor", bench.emulator.url, str(bench.nodes), verb, IMAGE]
        bench.phase("boto3", name, argv, env)


def terraform(bench: Bench) -> None:
    """Parallelism 10, its default; 100 from 1000 nodes on, as with 10 a run takes more than an hour."""
    program, mirror = terraform_here()
    shutil.copy(REPO / "tests" / "bench" / "terraform" / "main.tf", bench.folder)
    env = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "TF_"))}
    env["CHECKPOINT_DISABLE"] = "1"
    parallel = f"-parallelism={100 if bench.nodes >= 1000 else 10}"

    def phase(name: str, verb: list[str], count: int, want: tuple[int, ...] = (0,)) -> None:
        given = [f"-var=endpoint={bench.emulator.url}", f"-var=nodes={count}", f"-var=image={IMAGE}"]
        argv = [program, *verb, "-input=false", "-no-color", *([parallel, *given] if verb[0] != "init" else [])]
        bench.phase("terraform", name, argv, env, want=want)

    phase("init", ["init", f"-plugin-dir={mirror}"], bench.nodes)
    phase("apply", ["apply", "-auto-approve"], bench.nodes)
    phase("unchanged", ["plan", "-detailed-exitcode"], bench.nodes)
    phase("one more", ["apply", "-auto-approve"], bench.nodes + 1)
    phase("destroy", ["destroy", "-auto-approve"], bench.nodes + 1)


def terraform_here() -> tuple[str, str]:
    """(program, folder with its providers); ("", why not) where one is missing."""
    program = shutil.which("terraform")
    if program is None:
        return "", "no terraform on PATH"
    named = os.environ.get("AIFACTORY_TERRAFORM_PROVIDERS")
    usual = [
        Path("/usr/local/share/terraform/plugins"),
        Path.home() / ".terraform.d" / "plugins",
        *Path("/opt").glob("*"),
    ]
    for folder in [Path(named)] if named else usual:
        if (folder / "registry.terraform.io" / "hashicorp" / "aws" / "5.100.0").is_dir():
            return program, str(folder)
    return "", "no folder with the aws provider 5.100.0: name one in AIFACTORY_TERRAFORM_PROVIDERS"


TOOLS = {"boto3": floor, "aifactory": ours, "terraform": terraform}


def measure(tool: str, nodes: int, say: Callable[[Phase], None], *, limited: bool) -> None:
    folder = Path(tempfile.mkdtemp(prefix="bench-aws-"))
    try:
        with Emulator() as emulator:
            if limited:
                emulator.limits()
                emulator.latency(LATENCY_MS)
            TOOLS[tool](Bench(emulator, nodes, folder, say, "limited" if limited else ""))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--full", action="store_true", help="256 and 1000 nodes too, and token buckets")
    arguments.add_argument("--nodes", help="other numbers of nodes: 8,64")
    arguments.add_argument("--limited", help="numbers of nodes under token buckets and latency")
    arguments.add_argument("--tools", default="boto3,aifactory,terraform")
    arguments.add_argument("--repeat", type=int, default=1)
    arguments.add_argument("--rows", type=Path, default=Path(tempfile.gettempdir()) / "bench-aws.jsonl")
    arguments.add_argument("--again", action="store_true", help="start the rows anew; else new ones replace old ones")
    arguments.add_argument("--table", action="store_true", help="measure nothing: write the page from the rows")
    given = arguments.parse_args()
    tools = [tool for tool in given.tools.split(",") if tool != "terraform" or terraform_here()[0]]
    if "terraform" in given.tools and "terraform" not in tools:
        print(f"Terraform is left out: {terraform_here()[1]}")
    if given.again:
        given.rows.unlink(missing_ok=True)

    def say(phase: Phase) -> None:
        with given.rows.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(phase)) + "\n")
        parts = (
            f"{phase.tool:10} N={phase.nodes:<5}{phase.variant:8}{phase.phase:10}{'' if phase.ok else ' FAILED'}",
            f"{phase.seconds:8.1f} s  CPU {phase.cpu_s:6.1f} s  peak {phase.peak_mib:5.0f} MiB",
            f"requests {phase.requests:6d}  refused {phase.throttled}  server {phase.server_cpu_s:.1f} s",
            f"others {phase.others_s:.1f} s {phase.text}",
        )
        print("  ".join(parts), flush=True)

    if not given.table:
        numbers = given.nodes or ("8,64,256,1000" if given.full else "8,64")
        limited = given.limited or ("256,1000" if given.full else "")
        for nodes, buckets in [
            *((int(each), False) for each in numbers.split(",") if each),
            *((int(each), True) for each in limited.split(",") if each),
        ]:
            for _ in range(given.repeat):
                for tool in tools:
                    measure(tool, nodes, say, limited=buckets)
    print(aws_table.write(given.rows, REPO / "docs" / "performance.md"))


if __name__ == "__main__":
    main()
