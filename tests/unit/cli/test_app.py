"""The command as a person runs it: exit codes, JSON, what is written. Real: the installed console script."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CLI = str(Path(sys.executable).parent / "aifactory")
GOOD = """version: 1
name: {name}
jurisdiction: {{country: DE}}
provider: {{kind: local}}
pools:
  - {{name: serve, shape: local-cpu, nodes: 2}}
"""


@pytest.fixture
def regions(tmp_path: Path) -> Path:
    folder = tmp_path / "regions"
    folder.mkdir()
    (folder / "good.yaml").write_text(GOOD.format(name="good"))
    return folder


def run(regions: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    env = {
        **os.environ,
        "AIFACTORY_REGIONS": str(regions),
        "AIFACTORY_HOME": str(regions.parent / "home"),
        "AIFACTORY_CACHE": str(regions.parent / "cache"),
    }
    return subprocess.run([CLI, *argv], env=env, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def test_help_tells_commands_and_exit_codes(regions: Path) -> None:
    done = run(regions, "--help")
    assert done.returncode == 0
    words = " ".join(done.stdout.split())
    for command in ("validate", "plan", "preflight", "preview", "up", "status", "ask", "verify", "destroy", "doctor"):
        assert command in words
    assert "3 preflight refused" in words
    assert "5 acceptance not proved" in words


def test_help_imports_nothing_that_costs() -> None:
    costly = ("pulumi", "pydantic", "ansible_runner", "httpx", "grpc", "ruamel.yaml", "boto3", "cryptography")
    code = f"import sys; import aifactory.cli.app; print([m for m in sys.modules if m in {costly}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_validate_of_a_good_region_is_0(regions: Path) -> None:
    done = run(regions, "validate", "good")
    assert (done.returncode, done.stdout) == (0, "1 region valid: good\n")


@pytest.mark.parametrize("argv", [["validate"], ["plan", "bad"], ["preview", "bad"], ["up", "bad", "--yes"]])
def test_bad_input_is_2_with_its_place_and_nothing_is_written(regions: Path, argv: list[str]) -> None:
    (regions / "bad.yaml").write_text(GOOD.format(name="bad").replace("local-cpu", "local-cpv"))
    before = sorted(regions.parent.rglob("*"))
    done = run(regions, *argv)
    assert done.returncode == 2
    assert "bad.yaml:6:" in done.stderr
    assert "local-cpu" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(regions.parent.rglob("*")) == before


def test_problems_as_json_and_sarif_go_to_stdout(regions: Path) -> None:
    (regions / "bad.yaml").write_text(GOOD.format(name="bad").replace("nodes", "node"))
    as_json = run(regions, "validate", "bad", "--json")
    assert as_json.returncode == 2
    assert json.loads(as_json.stdout)["problems"][0]["place"]["line"] == 6
    sarif = run(regions, "validate", "bad", "--sarif")
    assert json.loads(sarif.stdout)["runs"][0]["results"]


def test_unknown_region_names_the_nearest(regions: Path) -> None:
    done = run(regions, "plan", "goood")
    assert done.returncode == 2
    assert "good" in done.stderr


def test_destroy_of_a_region_that_never_came_up_is_nothing_to_do(regions: Path) -> None:
    done = run(regions, "destroy", "good")
    assert done.returncode == 0
    assert "nothing to remove" in done.stdout


def test_plan_json_has_version_and_nodes(regions: Path) -> None:
    plan = json.loads(run(regions, "plan", "good", "--json").stdout)
    assert plan["version"] == "aifactory.plan/1"
    assert [n["name"] for n in plan["pools"][0]["nodes"]] == ["good-serve-000", "good-serve-001"]


def test_init_writes_a_valid_file_and_never_over_one(regions: Path) -> None:
    for kind in ("local", "static", "aws"):
        assert run(regions, "init", f"new-{kind}", "--provider", kind).returncode == 0
        assert run(regions, "validate", f"new-{kind}").returncode == 0
    before = (regions / "new-aws.yaml").read_text()
    again = run(regions, "init", "new-aws")
    assert again.returncode == 2
    assert "exists" in again.stderr
    assert (regions / "new-aws.yaml").read_text() == before


def test_catalog_prints_rows_and_refuses_an_unknown_table(regions: Path) -> None:
    assert "local-cpu" in run(regions, "catalog", "shapes", "--provider", "local").stdout
    done = run(regions, "catalog", "shape")
    assert done.returncode == 2
    assert "Nearest: shapes." in done.stderr
    assert "Which table?" in run(regions, "catalog").stderr


def test_a_standing_region_whose_file_is_gone_is_told_where_a_copy_is(regions: Path) -> None:
    kept = regions.parent / "home" / "applied" / "lost" / "lost.yaml"
    kept.parent.mkdir(parents=True)
    kept.write_text(GOOD.format(name="lost"))
    done = run(regions, "destroy", "lost", "--yes")
    assert done.returncode == 2
    assert f"Fix: the file of its last `up` is kept: cp {kept} {regions}/lost.yaml" in done.stderr


@pytest.mark.engine
@pytest.mark.parametrize("code", ["ENOSPC", "EROFS"])
def test_a_home_that_cannot_be_written_is_named_and_no_traceback(regions: Path, code: str) -> None:
    home = regions.parent / "home"
    home.mkdir()
    options = {"ENOSPC": "size=4k,nr_inodes=2", "EROFS": "ro"}[code]
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(home)], check=False).returncode:
        pytest.skip("mount needs root")
    try:
        done = run(regions, "refresh", "good", "--yes")
    finally:
        subprocess.run(["umount", str(home)], check=True)
    assert done.returncode == 3
    assert "[CLI-015]" in done.stderr
    assert str(home) in done.stderr
    assert "Traceback" not in done.stderr


def test_status_of_a_region_that_never_came_up_says_so(regions: Path) -> None:
    done = run(regions, "status", "good")
    assert done.returncode == 4
    assert "aifactory up good" in done.stderr
