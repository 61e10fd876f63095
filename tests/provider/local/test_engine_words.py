"""What engines say, as types. The podman lines were printed by podman 4.3.1; docker's are those of its source."""

from __future__ import annotations

import json

import pytest
from aifactory.provider.local import engine_errors as errors
from aifactory.provider.local import engine_output

SAID = [
    (
        errors.NameInUse,
        'Error: creating container storage: the container name "a" is already in use by 159. You have to remove that '
        "container to be able to reuse that name: that name is already in use",
    ),
    (errors.NameInUse, "Error: network name n already used: network already exists"),
    (errors.NameInUse, "Error: volume with name v already exists: volume already exists"),
    (
        errors.NameInUse,
        'docker: Error response from daemon: Conflict. The container name "/a" is already in use by container "1".',
    ),
    (errors.NameInUse, "Error response from daemon: network with name n already exists"),
    (
        errors.PortInUse,
        'Error: unable to start container "21b": cannot listen on the TCP port: listen tcp4 127.0.0.1:22011: bind: '
        "address already in use",
    ),
    (
        errors.PortInUse,
        "Error response from daemon: driver failed programming external connectivity on endpoint a (1): "
        "Bind for 127.0.0.1:8443 failed: port is already allocated",
    ),
    (
        errors.AddressInUse,
        'Error: unable to start container "079": IPAM error: requested ip address 10.99.1.16 is already allocated to '
        "container ID 159",
    ),
    (errors.AddressInUse, "Error response from daemon: Address already in use"),
    (errors.SubnetInUse, "Error: subnet 10.99.1.0/25 is already used on the host or by another config"),
    (
        errors.SubnetInUse,
        "Error response from daemon: Pool overlaps with other one on this address space",
    ),
    (
        errors.StillInUse,
        'Error: "n" has associated containers with it. Use -f to forcibly delete: network is being used',
    ),
    (errors.StillInUse, "Error: volume v is being used by the following container(s): 4ec: volume is being used"),
    (
        errors.StillInUse,
        "Error: image used by 4ec: image is in use by a container: consider listing external containers",
    ),
    (
        errors.StillInUse,
        "Error response from daemon: error while removing network: network n id 1 has active endpoints",
    ),
    (errors.StillInUse, "Error response from daemon: remove v: volume is in use - [1]"),
    (errors.ImageMissing, "Error: localhost/nosuch:x: image not known"),
    (errors.ImageMissing, "Error response from daemon: No such image: sha256:0"),
    (errors.NotFound, 'Error: no container with name or ID "a" found: no such container'),
    (errors.NotFound, "Error: unable to find network with name or ID n: network not found"),
    (errors.NotFound, 'Error: inspecting object: no such object: "a"'),
    (errors.NotFound, "Error response from daemon: get v: no such volume"),
    (errors.WrongState, "Error: can only create exec sessions on running containers: container state improper"),
    (errors.WrongState, "Error response from daemon: container 1 is not running"),
    (errors.NoSpace, "Error: writing blob: storing blob to file: write /var/tmp/x: no space left on device"),
    (
        errors.CannotRun,
        "Error: runc: runc create failed: unable to start container process: error during container init: error "
        "setting rlimits for ready process: error setting rlimit type 7: "
        "operation not permitted: OCI permission denied",
    ),
    (
        errors.CannotRun,
        "Error: crun: creating cgroup directory /sys/fs/cgroup/perf_event/x: No such file: OCI not found",
    ),
    (errors.CannotRun, "Error response from daemon: failed to create task for container: failed to create shim task"),
    (
        errors.NotRunning,
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
    ),
    (
        errors.NoPermission,
        "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock: Get "
        '"http://x/v1.24/info": dial unix /var/run/docker.sock: connect: permission denied',
    ),
    (errors.EngineError, "Error: something that nobody has seen yet"),
]


@pytest.mark.parametrize(("kind", "line"), SAID, ids=[f"{k.__name__}-{i}" for i, (k, _) in enumerate(SAID)])
def test_classify_engine_words_gives_the_type(kind: type[errors.EngineError], line: str) -> None:
    assert type(errors.classify("podman", "create", f"time=x level=warning msg=y\n{line}\n")) is kind


def test_classify_keeps_the_last_line_without_its_prefix() -> None:
    error = errors.classify(
        "docker", "create", "WARNING: no swap\nError response from daemon: Address already in use\n\n"
    )
    assert error.detail == "Address already in use"
    assert str(error) == "docker create: Address already in use"


DOCKER_CONTAINER = {
    "Id": "abc",
    "Name": "/t-a-serve-000",
    "Image": "sha256:def",
    "State": {"Status": "running", "Error": ""},
    "Config": {"Labels": {"aifactory.host-key": "ssh-ed25519 AAAA"}},
    "HostConfig": {"PortBindings": {"22/tcp": [{"HostIp": "127.0.0.1", "HostPort": "22011"}], "80/tcp": None}},
}


def test_containers_docker_and_podman_words_give_the_same() -> None:
    podman = json.loads(json.dumps(DOCKER_CONTAINER)) | {"Name": "t-a-serve-000", "Image": "def"}
    assert engine_output.containers([DOCKER_CONTAINER]) == engine_output.containers([podman])
    (one,) = engine_output.containers([podman])
    assert (one.name, one.image, one.ports) == ("t-a-serve-000", "sha256:def", ((22011, 22),))


@pytest.mark.parametrize(("word", "state"), [("configured", "created"), ("stopped", "exited"), ("paused", "paused")])
def test_containers_states_have_one_word_each(word: str, state: str) -> None:
    raw = DOCKER_CONTAINER | {"State": {"Status": word}}
    assert engine_output.containers([raw])[0].state == state


def test_networks_docker_and_podman_shapes_give_the_same_subnets() -> None:
    docker = {
        "Name": "n",
        "Id": "0123456789abcdef",
        "IPAM": {"Config": [{"Subnet": "10.1.0.0/24"}]},
        "Labels": {"a": "b"},
    }
    podman = {"name": "n", "subnets": [{"subnet": "10.1.0.0/24"}], "labels": {"a": "b"}, "network_interface": "podman1"}
    first, second = engine_output.networks([docker, podman])
    assert (first.name, first.subnets, first.labels) == (second.name, second.subnets, second.labels)
    assert (first.interface, second.interface) == ("br-0123456789ab", "podman1")


def test_info_docker_reads_what_flags_depend_on() -> None:
    raw = {
        "ServerVersion": "27.1", "KernelVersion": "6.8", "CgroupVersion": "2", "DefaultRuntime": "runc",
        "SecurityOptions": ["name=seccomp", "name=rootless"], "DockerRootDir": "/var/lib/docker",
    }  # fmt: skip
    found = engine_output.info("docker", raw)
    assert (found.version, found.cgroup_version, found.rootless, found.storage) == (
        "27.1",
        "2",
        True,
        "/var/lib/docker",
    )
