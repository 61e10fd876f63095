"""What one Ansible run is given and what it answers: `Play`, `SshAccess`, `HostOutcome`, `RunResult`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .fleet import FleetHost

Status = Literal["converged", "changed", "failed", "unreachable", "aborted", "never_started"]

LAYERS = ("host", "fabric", "gpu", "runtime", "inference", "front_door")
"""The layer words, in the order in which they are configured."""

DONE: frozenset[Status] = frozenset({"converged", "changed"})
"""Statuses of hosts that reached the end marker."""


@dataclass(frozen=True)
class SshAccess:
    """How the controller logs in. Without a key and without a path the user's SSH agent is asked.

    `private_key` is the text of an OpenSSH key without passphrase; `private_key_path` a file (`~` allowed).
    `bastion` is `[user@]host[:port]` and needs `bastion_host_key` (`type base64`). A key that was made with the region
    is one that a jump host may not know yet: there the agent's keys are offered beside it.
    """

    private_key: str | None = field(default=None, repr=False)
    private_key_path: str | None = None
    bastion: str | None = None
    bastion_host_key: str | None = None

    @property
    def asks_agent(self) -> bool:
        """Whether the user's SSH agent takes part."""
        return self.private_key_path is None and (self.private_key is None or self.bastion is not None)


@dataclass(frozen=True)
class Play:
    """One playbook on a set of hosts.

    `playbook` is a file name under playbooks/. `marker` names the file that the run leaves on each host when
    it is through, empty for a run that leaves none. `layers` are the inventory groups (every host is in each)
    and, for layers that are roles, the dicts of `role_vars`. `secret_vars` are merged into the dict of their
    role and enter digests only as HMACs. `files` are files of the controller whose content decides the
    outcome. `local_vars` are paths on this controller: merged likewise, but not part of digests, so that two
    controllers agree on what is up to date.
    """

    playbook: str
    marker: str
    hosts: tuple[FleetHost, ...]
    layers: tuple[str, ...]
    role_vars: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    secret_vars: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    local_vars: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    check: bool = False
    limit: tuple[str, ...] = ()
    """Names of the hosts to run on; empty = all."""
    timeout_s: float | None = None
    files: tuple[Path, ...] = ()

    def targets(self) -> tuple[FleetHost, ...]:
        """The hosts the run touches, in fleet order."""
        return tuple(h for h in self.hosts if not self.limit or h.name in self.limit)


@dataclass(frozen=True)
class HostOutcome:
    """How one host fared (contract 5). `message` is one plain line, never a secret."""

    status: Status
    changed: int = 0
    ok: int = 0
    failed_task: str | None = None
    message: str | None = None

    @property
    def done(self) -> bool:
        return self.status in DONE

    def reason(self, name: str) -> str:
        """`unreachable: a-000: …`, `failed (task runtime : Install): a-000: …`, `aborted: …`."""
        task = f" (task {self.failed_task})" if self.status == "failed" and self.failed_task else ""
        return f"{self.status.replace('_', ' ')}{task}: {name}: {self.message or 'no details'}"


@dataclass(frozen=True)
class RunResult:
    run_id: str
    hosts: dict[str, HostOutcome]
    seconds: float
    notes: tuple[str, ...] = ()
    """Remarks of roles, each once: `gpu: shape local-cpu has no GPUs, nothing to configure`."""

    @property
    def ok(self) -> bool:
        return all(outcome.done for outcome in self.hosts.values())

    def failed(self) -> dict[str, HostOutcome]:
        return {name: outcome for name, outcome in self.hosts.items() if not outcome.done}
