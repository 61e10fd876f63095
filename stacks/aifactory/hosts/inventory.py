"""Fleet → inventory: a pure function. Every string is marked unsafe, so none is ever run as a template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aifactory import naming
from aifactory.errors import Exit, Problem, ProblemError

from . import digest, role_input
from .fleet import FleetHost
from .play import Play


def build(play: Play, digests: Mapping[str, str]) -> dict[str, Any]:
    """The JSON inventory of the play's targets: layers as groups, a dict for each role, `fleet_host` for each host.

    `digests` go into the marker file that the run leaves. Raises ProblemError on a host name that Ansible
    could take for something else, ValueError on a role dict that its argument specification does not allow.
    """
    targets = play.targets()
    _refuse_odd_names(targets, play.layers)
    variables: dict[str, Any] = {role: role_input.merged(play, role) for role in role_input.roles(play)}
    if play.marker:
        variables["aifactory_marker"] = {"name": play.marker, "digests": dict(digests)}
    return {
        "all": {
            "vars": unsafe(variables),
            "hosts": {host.name: unsafe(_host_vars(host, digests)) for host in targets},
            "children": {layer: {"hosts": {host.name: {} for host in targets}} for layer in play.layers},
        }
    }


def unsafe(value: Any) -> Any:
    """The value with every string wrapped as Ansible's JSON form of unsafe data (keys are never templates)."""
    if isinstance(value, str):
        return {"__ansible_unsafe": value}
    if isinstance(value, Mapping):
        return {str(key): unsafe(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [unsafe(item) for item in value]
    return value


def _host_vars(host: FleetHost, digests: Mapping[str, str]) -> dict[str, Any]:
    return {
        "ansible_host": host.address,
        "ansible_port": host.port,
        "ansible_user": host.user,
        "ansible_become": host.user != "root",
        "fleet_host": host.to_dict(),
        "aifactory_node_digest": digest.node_digest(host, digests),
    }


def _refuse_odd_names(hosts: Sequence[FleetHost], layers: Sequence[str]) -> None:
    seen: set[str] = set()
    problems = []
    for host in hosts:
        if not naming.HOST_RE.fullmatch(host.name):
            problems.append(Problem("HOSTS-001", f"Host {host.id}: the name is not lower-case letters, digits and -."))
        elif host.name in seen:
            problems.append(Problem("HOSTS-002", f"Two hosts of the fleet are called {host.name}."))
        elif host.name in layers:
            problems.append(Problem("HOSTS-003", f"{host.name} is a layer, no host can be called so.", fix="rename it"))
        seen.add(host.name)
    if problems:
        raise ProblemError(problems, Exit.BAD_INPUT)
