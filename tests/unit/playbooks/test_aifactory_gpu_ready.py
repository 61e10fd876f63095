"""What makes a GPU ready, judged on recorded answers.

Recorded: GB200 and A100 `nvidia-smi -q -x` (NVIDIA/k8s-test-infra, testdata/hardware; GB200 driver 580.173.02), the
degraded fabric of the same repository, `nvidia-imex-ctl -N -j` (NVIDIA/ai-cloud-validation, 2026-09-04), all
shortened to what is read. Real: the CUDA program runs against a library compiled here. No driver.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aifactory import paths

SPEC = importlib.util.spec_from_file_location("aifactory_gpu_ready", paths.PLAYBOOKS / "library/aifactory_gpu_ready.py")
assert SPEC is not None
assert SPEC.loader is not None
ready: Any = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(ready)

GPU = """
	<gpu id="{bus}">
		<product_name>NVIDIA GB200</product_name>
		<product_architecture>Blackwell</product_architecture>
		<display_mode>Requested functionality has been deprecated</display_mode>
		<persistence_mode>Enabled</persistence_mode>
		<mig_mode>
			<current_mig>Disabled</current_mig>
			<pending_mig>Disabled</pending_mig>
		</mig_mode>
		<uuid>GPU-00000000-0000-0000-0000-000000000000</uuid>
		<fabric>
			<state>{state}</state>
			<status>{status}</status>
			<cliqueId>{clique}</cliqueId>
			<clusterUuid>{cluster}</clusterUuid>
			<health>
				<summary>{summary}</summary>
				<bandwidth>Full</bandwidth>
				<route_recovery_in_progress>False</route_recovery_in_progress>
				<route_unhealthy>{unhealthy}</route_unhealthy>
				<access_timeout_recovery>False</access_timeout_recovery>
				<incorrect_configuration>N/A</incorrect_configuration>
				<partition_assigned>N/A</partition_assigned>
			</health>
		</fabric>
	</gpu>"""
GOOD = {"bus": "00000000:29:00.0", "state": "Completed", "status": "Success", "clique": "2", "summary": "Healthy",
        "cluster": "00000001-0000-0000-0000-000000000001", "unhealthy": "False"}  # fmt: skip
CLUSTER = GOOD["cluster"]
HEAD = '<?xml version="1.0" ?>\n<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v13.dtd">\n<nvidia_smi_log>\n'


def smi(*gpus: dict[str, str]) -> Any:
    body = "".join(GPU.format(**{**GOOD, **gpu}) for gpu in gpus)
    return ready.parse_smi(f"{HEAD}\t<driver_version>580.173.02</driver_version>{body}\n</nvidia_smi_log>\n")


def checks(faults: list[dict[str, str]]) -> list[tuple[str, str]]:
    return [(fault["check"], fault["place"]) for fault in faults]


def test_parse_smi_reads_a_gb200() -> None:
    told = smi({})
    assert told["driver"] == "580.173.02"
    (gpu,) = told["gpus"]
    assert (gpu["bdf"], gpu["name"], gpu["persistence"], gpu["mig"]) == ("0000:29:00.0", "NVIDIA GB200", True, False)
    assert (gpu["fabric_state"], gpu["fabric_status"], gpu["clique"]) == ("Completed", "Success", "2")
    assert gpu["fabric_health"]["bandwidth"] == "Full"
    assert "incorrect_configuration" not in gpu["fabric_health"]


def test_parse_smi_value_that_an_a100_does_not_have_is_empty() -> None:
    (gpu,) = smi({"state": "N/A", "status": "N/A", "clique": "N/A", "cluster": "N/A", "summary": "N/A"})["gpus"]
    assert (gpu["fabric_state"], gpu["clique"], gpu["cluster"]) == ("", "", "")


@pytest.mark.parametrize("text", ["", "No devices were found\n", "<other/>"])
def test_parse_smi_other_text_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"nvidia-smi|no XML"):
        ready.parse_smi(text)


@pytest.mark.parametrize("fabric", ["node", "rack"])
def test_fabric_trained_has_no_fault(fabric: str) -> None:
    assert ready.fabric_faults(smi({}, {})["gpus"], fabric) == []


@pytest.mark.parametrize(
    ("gpu", "fabric", "check", "found"),
    [
        ({"state": "In Progress", "status": "N/A"}, "node", "FABRIC-STATE", "In Progress, no status"),
        ({"status": "Insufficient Resources"}, "node", "FABRIC-STATE", "Completed, Insufficient Resources"),
        ({"clique": "0"}, "rack", "FABRIC-CLIQUE", "clique 0"),
        ({"cluster": "00000000-0000-0000-0000-000000000000"}, "rack", "FABRIC-CLUSTER", "cluster 00000000-0"),
        (
            {"summary": "Unhealthy", "unhealthy": "True"},
            "node",
            "FABRIC-HEALTH",
            "summary Unhealthy, route_unhealthy T",
        ),
    ],
)
def test_fabric_fault_names_the_gpu(gpu: dict[str, str], fabric: str, check: str, found: str) -> None:
    faults = ready.fabric_faults(smi({}, {"bus": "00000008:01:00.0", **gpu})["gpus"], fabric)
    assert (check, "GPU 1 (0008:01:00.0)") in checks(faults)
    assert faults[0]["found"].startswith(found)


def test_fabric_of_one_node_needs_no_clique() -> None:
    assert ready.fabric_faults(smi({"clique": "0", "cluster": "N/A"})["gpus"], "node") == []


def test_fabric_remedy_of_a_rack_does_not_send_to_fabric_manager_on_the_tray() -> None:
    (fault,) = ready.fabric_faults(smi({"state": "In Progress"})["gpus"], "rack")
    assert "switch trays" in fault["fix"]


LINKS = "\n".join(
    [
        "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)", "\t Link 0: 26.562 GB/s", "\t Link 1: 26.562 GB/s",
        "GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-2)", "\t Link 0: 26.562 GB/s", "\t Link 1: <inactive>",
    ]
)  # fmt: skip


def test_links_too_few_and_too_slow_are_named() -> None:
    links = ready.parse_links(LINKS)
    assert links == {0: [26.562, 26.562], 1: [26.562, 0.0]}
    gpus = smi({}, {})["gpus"]
    (fault,) = ready.link_faults(links, gpus, 2, 25)
    assert fault["check"] == "NVLINK-COUNT"
    assert "1 NVLinks active (inactive: 1)" in fault["found"]
    assert [fault["check"] for fault in ready.link_faults(links, gpus, 1, 50)] == ["NVLINK-SPEED"] * 2
    assert [fault["found"] for fault in ready.link_faults({}, gpus, 18, 25)] == ["0 NVLinks active"] * 2


def imex(second: str = "READY", link: str = "CONNECTED", state: str = "UP") -> str:
    """Two nodes as nvidia-imex-ctl tells them."""

    def node(host: str, status: str) -> dict[str, Any]:
        peers = {
            str(i): {"host": f"10.0.0.{i + 1}", "status": link if i else "CONNECTED", "changed": True} for i in (0, 1)
        }
        return {"status": status, "host": host, "hostName": "N/A", "connections": peers}

    nodes = {"0": node("10.0.0.1", "READY"), "1": node("10.0.0.2", second)}
    return json.dumps({"nodes": nodes, "timestamp": "9/4/2026 00:00:00.000", "status": state})


def test_imex_up_has_no_fault() -> None:
    told = ready.parse_imex(imex())
    assert told["state"] == "UP"
    assert ready.imex_faults(told, ["10.0.0.1", "10.0.0.2"]) == []


@pytest.mark.parametrize(
    ("text", "wanted", "faults"),
    [
        (imex("UNAVAILABLE", state="DEGRADED"), ["10.0.0.1", "10.0.0.2"], [("IMEX-STATE", "IMEX of 10.0.0.2")]),
        (imex("UNAVAILABLE", state="DEGRADED"), ["10.0.0.1"], []),
        (imex(link="INVALID"), ["10.0.0.1", "10.0.0.2"], [("IMEX-CONNECTION", f"IMEX of 10.0.0.{i}") for i in (1, 2)]),
        (imex(), ["10.0.0.1", "10.0.0.7"], [("IMEX-NODES", ready.IMEX_NODES), ("IMEX-CONNECTION", "IMEX of 10.0.0.1")]),
    ],
)
def test_imex_fault_names_the_node(text: str, wanted: list[str], faults: list[tuple[str, str]]) -> None:
    assert checks(ready.imex_faults(ready.parse_imex(text), wanted)) == faults


@pytest.mark.parametrize("text", ["", "[]", '{"nodes": []}', "Error: could not connect"])
def test_imex_other_answer_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="no answer of nvidia-imex-ctl"):
        ready.parse_imex(text)


@pytest.mark.parametrize(
    ("code", "text", "check"),
    [
        (None, "", "SMI-HANG"),
        (127, "No such file or directory", "SMI-MISSING"),
        (
            18,
            "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.95",
            "DRIVER-MISMATCH",
        ),
        (9, "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure", "DRIVER-ABSENT"),
        (255, "Unable to determine the device handle for GPU0: Unknown Error", "SMI-FAILED"),
    ],
)
def test_smi_failure_is_told_by_what_it_means(code: int | None, text: str, check: str) -> None:
    assert ready.smi_fault("nvidia-smi -q -x", code, text, 60)["check"] == check


# --- the CUDA process, against a library made here ---

LIBRARY = r"""
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include <unistd.h>
static int number(const char *name) { const char *text = getenv(name); return text ? atoi(text) : 0; }
int cuInit(unsigned flags) { return number("FAKE_INIT"); }
int cuDeviceGetCount(int *count) { *count = 4; return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return 0; }
int cuDeviceGetPCIBusId(char *text, int size, int device) {
  snprintf(text, size, "0000:%02x:00.0", device + 1);
  return 0;
}
int cuDevicePrimaryCtxRetain(void **context, int device) {
  *context = context;
  if (getenv("FAKE_HANG") && device == number("FAKE_HANG")) sleep(60);
  if (getenv("FAKE_CRASH") && device == number("FAKE_CRASH")) abort();
  return getenv("FAKE_BAD") && device == number("FAKE_BAD") ? 46 : 0;
}
int cuDevicePrimaryCtxRelease(int device) { return 0; }
int cuGetErrorName(int code, const char **text) { *text = "CUDA_ERROR_X"; return 0; }
int cuGetErrorString(int code, const char **text) { *text = "system not yet initialized"; return 0; }
"""
GPUS = [{"bdf": f"0000:{index + 1:02x}:00.0", "mig": False} for index in range(4)]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler: apt-get install gcc")
    folder = tmp_path_factory.mktemp("cuda")
    (folder / "cuda.c").write_text(LIBRARY)
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", folder / "libcuda.so.1", folder / "cuda.c"], check=True, timeout=60
    )
    return folder


def cuda(monkeypatch: pytest.MonkeyPatch, library: Path, timeout_s: float = 30, **environment: int) -> Any:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library))
    for name, value in environment.items():
        monkeypatch.setenv(name, str(value))
    code, out = ready.run([sys.executable, "-c", ready.CUDA_PROGRAM], timeout_s)
    return ready.parse_contexts(out, code)


def test_cuda_context_opens_on_every_gpu(monkeypatch: pytest.MonkeyPatch, library: Path) -> None:
    contexts = cuda(monkeypatch, library)
    assert sorted(contexts[0]) == [0, 1, 2, 3]
    assert ready.cuda_faults(contexts, GPUS, 30) == []
    assert checks(ready.cuda_faults(contexts, GPUS[:3], 30)) == [("CUDA-COUNT", "CUDA")]


@pytest.mark.parametrize(("code", "words"), [(802, "NVLink fabric"), (3, "uvm_disable_hmm"), (999, "uvm_disable_hmm")])
def test_cuda_init_error_comes_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, library: Path, code: int, words: str
) -> None:
    (fault,) = ready.cuda_faults(cuda(monkeypatch, library, FAKE_INIT=code), GPUS, 30)
    assert (fault["check"], fault["place"]) == ("CUDA-CONTEXT", "all GPUs")
    assert f"cuInit gives {code}" in fault["found"]
    assert "system not yet initialized" in fault["found"]
    assert words in fault["fix"]


def test_cuda_one_gpu_that_fails_is_named_and_the_others_are_tried(
    monkeypatch: pytest.MonkeyPatch, library: Path
) -> None:
    contexts = cuda(monkeypatch, library, FAKE_BAD=2)
    (fault,) = ready.cuda_faults(contexts, GPUS, 30)
    assert fault["place"] == "GPU 2 (0000:03:00.0)"
    assert "cuDevicePrimaryCtxRetain gives 46" in fault["found"]
    assert contexts[0][3]["code"] == 0


def test_cuda_gpu_that_hangs_is_named(monkeypatch: pytest.MonkeyPatch, library: Path) -> None:
    (fault,) = ready.cuda_faults(cuda(monkeypatch, library, timeout_s=2, FAKE_HANG=1), GPUS, 2)
    assert (fault["check"], fault["place"]) == ("CUDA-HANG", "GPU 1 (0000:02:00.0)")


def test_cuda_gpu_that_ends_the_process_is_named(monkeypatch: pytest.MonkeyPatch, library: Path) -> None:
    (fault,) = ready.cuda_faults(cuda(monkeypatch, library, FAKE_CRASH=3), GPUS, 30)
    assert (fault["check"], fault["place"]) == ("CUDA-CONTEXT", "GPU 3 (0000:04:00.0)")


def test_cuda_without_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if (
        subprocess.run([sys.executable, "-c", "import ctypes; ctypes.CDLL('libcuda.so.1')"], check=False).returncode
        == 0
    ):
        pytest.skip("this machine has libcuda.so.1")
    (fault,) = ready.cuda_faults(cuda(monkeypatch, tmp_path), GPUS, 30)
    assert fault["check"] == "CUDA-LIBRARY"


# --- all together ---


class Commands:
    """Answers of the commands by their first two words, one after the other; the last one stays."""

    def __init__(self, **answers: list[tuple[int | None, str]]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def __call__(self, command: list[str], timeout_s: float) -> tuple[int | None, str]:
        key = {"-q": "smi", "nvlink": "links", "-N": "imex", "-c": "cuda"}[command[1]]
        self.asked.append(key)
        answers = self.answers[key]
        return answers.pop(0) if len(answers) > 1 else answers[0]


CUDA_4 = "\n".join(
    [json.dumps({"step": "cuDeviceGetCount", "code": 0, "count": 2})]
    + [json.dumps({"step": "opened", "index": i, "bdf": "", "call": "", "code": 0, "words": ""}) for i in (0, 1)]
    + [json.dumps({"step": "end"})]
)
XML = HEAD + "<driver_version>580.173.02</driver_version>{}</nvidia_smi_log>"
PARAMETERS = {
    "gpus": 2, "driver": "580.173.02", "fabric": "node", "nvlinks": 2, "nvlink_gb_s": 25.0, "persistence": True,
    "imex_nodes": [], "imex_channel0": False, "fabric_timeout_s": 600, "command_timeout_s": 60, "cuda_timeout_s": 60,
}  # fmt: skip


def look(monkeypatch: pytest.MonkeyPatch, commands: Commands, **changes: Any) -> Any:
    clock = [0.0]
    monkeypatch.setattr(ready, "run", commands)
    monkeypatch.setattr(ready.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(ready.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    node = ready.Node({**PARAMETERS, **changes})
    node.look()
    return node


def xml(*gpus: dict[str, str]) -> str:
    return XML.format("".join(GPU.format(**{**GOOD, **gpu}) for gpu in gpus))


GOOD_LINKS = LINKS.replace("<inactive>", "26.562 GB/s")


def test_look_waits_until_the_fabric_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = (0, xml({"state": "In Progress"}, {"state": "In Progress"}))
    commands = Commands(smi=[stuck, stuck, (0, xml({}, {}))], links=[(0, GOOD_LINKS)], cuda=[(0, CUDA_4)])
    node = look(monkeypatch, commands)
    assert (node.faults, node.ready["contexts"]) == ([], 2)
    assert node.ready["waited_s"] == 2 * ready.POLL_S


def test_look_stuck_fabric_ends_in_time_with_all_faults_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = (0, xml({"state": "In Progress"}, {"state": "In Progress"}).replace("Enabled", "Disabled"))
    failed = (1, json.dumps({"step": "cuInit", "code": 802, "words": "CUDA_ERROR_SYSTEM_NOT_READY"}))
    node = look(monkeypatch, Commands(smi=[stuck], links=[(0, LINKS)], cuda=[failed]), gpus=8, driver="580.178.04")
    told = {fault["check"] for fault in node.faults}
    assert told == {"FABRIC-STATE", "GPU-COUNT", "DRIVER-VERSION", "PERSISTENCE", "NVLINK-COUNT", "CUDA-CONTEXT"}
    assert node.ready["waited_s"] <= 600
    line = ready.told_at_once(node.faults)
    assert "\n" not in line
    assert line.count("FABRIC-STATE: GPU 0 (0000:29:00.0), GPU 1 (0000:29:00.0): In Progress") == 1


def test_look_smi_that_hangs_is_asked_once_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = Commands(smi=[(None, "")])
    node = look(monkeypatch, commands)
    assert [fault["check"] for fault in node.faults] == ["SMI-HANG"]
    assert commands.asked == ["smi"]


def test_look_imex_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = Commands(
        smi=[(0, xml({}, {}))], links=[(0, GOOD_LINKS)], cuda=[(0, CUDA_4)],
        imex=[(1, "no daemon"), (0, imex("WAITING_FOR_PEERS")), (0, imex())],
    )  # fmt: skip
    node = look(monkeypatch, commands, fabric="rack", imex_nodes=["10.0.0.1", "10.0.0.2"])
    assert node.faults == []
    assert node.ready["imex"]["nodes"] == {"10.0.0.1": "READY", "10.0.0.2": "READY"}


def test_look_channel_that_is_absent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = Commands(smi=[(0, xml({}, {}))], links=[(0, GOOD_LINKS)], cuda=[(0, CUDA_4)])
    (fault,) = look(monkeypatch, commands, imex_channel0=True).faults
    assert fault["check"] == "IMEX-CHANNEL"
