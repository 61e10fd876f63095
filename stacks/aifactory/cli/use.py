"""Commands that use a standing region: status, ask, verify, ssh, logs."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aifactory.cli import output, regions
from aifactory.errors import Exit, Problem, ProblemError, fail
from aifactory.hosts.fleet import FleetHost

if TYPE_CHECKING:
    from aifactory.engine import Stack
    from aifactory.plan.model import RegionPlan


@dataclass(frozen=True)
class Standing:
    """A region's stack outputs, typed. Secrets are held only for the length of the command."""

    name: str
    hosts: tuple[FleetHost, ...]
    endpoint: str | None
    ca_certificate: str
    services: tuple[dict[str, Any], ...]
    verdicts: tuple[dict[str, Any], ...]
    client_key: str
    ssh_private_key: str | None
    ssh_private_key_path: str | None
    bastion: str | None
    bastion_host_key: str | None
    units: dict[str, list[str]]
    """Node → units that must be healthy on it."""

    def ssh_access(self) -> Any:
        from aifactory.hosts.run import SshAccess

        return SshAccess(
            private_key=self.ssh_private_key,
            private_key_path=self.ssh_private_key_path,
            bastion=self.bastion,
            bastion_host_key=self.bastion_host_key,
        )


def standing(name: str, *, secrets: bool = True) -> Standing:
    """Outputs of the region's stack; of one whose first `up` failed, what its resources say.

    Raises ProblemError where there is no node.
    """
    from aifactory.engine import Stack
    from aifactory.serving import units

    loaded, plan = regions.load_plan(name)
    stack = Stack(loaded.spec)
    raw: dict[str, Any] = dict(stack.outputs(show_secrets=secrets)) if stack.exists() else {}
    if stack.exists() and not raw.get("fleet"):
        raw = _half_made(stack, plan, secrets=secrets)
    if not raw.get("fleet"):
        raise fail("CLI-010", f"Region {name} does not stand.", code=Exit.FAILED, fix=f"aifactory up {name}")
    return Standing(
        name=name,
        hosts=tuple(FleetHost.from_dict(h) for h in raw["fleet"]["hosts"]),
        endpoint=raw.get("endpoint"),
        ca_certificate=raw.get("ca_certificate") or "",
        services=tuple(raw.get("services") or ()),
        verdicts=tuple(raw.get("verdicts") or ()),
        client_key=raw.get("client_key") or "",
        ssh_private_key=raw.get("ssh_private_key") or None,
        ssh_private_key_path=plan.ssh_private_key,
        bastion=plan.ssh_bastion,
        bastion_host_key=plan.ssh_bastion_host_key,
        units=units.of(plan),
    )


def _half_made(stack: Stack, plan: RegionPlan, *, secrets: bool) -> dict[str, Any]:
    """The stack's outputs as far as its resources have them: the engine sets its own only when an `up` succeeds."""
    from aifactory.components.region import services
    from aifactory.provider import tokens

    found: dict[str, list[dict[str, Any]]] = {}
    for kind, outputs in stack.resource_outputs(show_secrets=secrets):
        found.setdefault(kind, []).append(outputs)
    kinds = (tokens.LOCAL_NODE_POOL, tokens.STATIC_NODE_POOL, tokens.AWS_NODE_POOL)
    hosts = [host for kind in kinds for pool in found.get(kind, []) for host in pool.get("hosts") or ()]
    keys, door, accepted = (
        found.get(kind, [{}])[0] for kind in (tokens.HOST_KEYS, tokens.SERVICE_FRONT_DOOR, tokens.SERVICE_ACCEPTANCE)
    )
    known = {name: keys.get(name) for name in ("ca_certificate", "client_key", "ssh_private_key")}
    known["ca_certificate"] = found.get(tokens.HOST_KEYS, [{}])[-1].get("ca_certificate")  # a door's own come last
    known |= {"endpoint": door.get("endpoint"), "verdicts": accepted.get("verdicts"), "services": services(plan)}
    return {**known, "fleet": {"hosts": hosts} if hosts else None}


def status(name: str, *, as_json: bool) -> None:
    region = standing(name, secrets=False)
    if as_json:
        output.emit_json(
            {
                "region": name,
                "endpoint": region.endpoint,
                "hosts": [h.to_dict() for h in region.hosts],
                "services": list(region.services),
                "verdicts": list(region.verdicts),
            }
        )
        return
    print(f"Region {name}")
    if region.endpoint:
        print(f"  endpoint  {region.endpoint}")
    print(
        "\n"
        + output.table(
            ("node", "pool", "shape", "gpus", "address", "ssh"),
            [(h.name, h.pool, h.shape, h.gpus, h.node_address, f"{h.address}:{h.port}") for h in region.hosts],
            indent="  ",
        )
    )
    if region.services:
        print(
            "\n"
            + output.table(
                ("service", "model", "engine", "replicas"),
                [(s["name"], s["model"], s["engine"], int(s["replicas"])) for s in region.services],
                indent="  ",
            )
        )
    if region.verdicts:
        print("\n" + verdict_table(region.verdicts))
        print(f"\nVerdicts are of the last `up` that changed something. To prove it now: aifactory verify {name}")


def verdict_table(verdicts: Any) -> str:
    return output.table(
        ("verdict", "check", "scope", "measured"),
        [(v["verdict"], v["check"], v["scope"], v.get("measured") or v.get("detail") or "") for v in verdicts],
        indent="  ",
    )


def choose_service(region: Standing, service: str | None) -> str:
    names = [s["name"] for s in region.services]
    if not names:
        raise fail(
            "CLI-011", f"Region {region.name} serves no model.", code=Exit.FAILED, fix="add a service to its file"
        )
    if service is None:
        return str(names[0])
    if service not in names:
        wrong = f"`{service}` is not a service of {region.name}."
        raise ProblemError([Problem("CLI-012", wrong, allowed=", ".join(names))])
    return service


def ask(name: str, text: str, *, service: str | None, as_json: bool) -> None:
    from aifactory.serving import client

    region = standing(name)
    model = choose_service(region, service)
    if not region.endpoint:
        raise fail("CLI-017", f"{name} has no front door yet.", code=Exit.FAILED, fix=f"aifactory up {name}")
    endpoint = region.endpoint
    try:
        if as_json:
            done = client.complete(endpoint, region.ca_certificate, region.client_key, model, text)
            output.emit_json(
                {
                    "model": model,
                    "text": done.text,
                    "finish_reason": done.finish_reason,
                    "usage": dataclasses.asdict(done.usage) if done.usage else None,
                }
            )
            return
        for piece in client.stream(endpoint, region.ca_certificate, region.client_key, model, text):
            print(piece, end="", flush=True)
        print()
    except client.ServingError as error:
        raise fail(
            "CLI-013", f"The front door did not answer: {error}", code=Exit.FAILED, fix=f"aifactory verify {name}"
        ) from error


def verify(name: str, *, as_json: bool) -> None:
    from aifactory.acceptance import verify as acceptance

    region = standing(name)
    verdicts = acceptance.verify_region(
        hosts=region.hosts,
        ssh=region.ssh_access(),
        endpoint=region.endpoint,
        ca_certificate=region.ca_certificate,
        client_key=region.client_key,
        services=region.services,
        units=region.units,
    )
    rows = [v.to_dict() for v in verdicts]
    bad = [v for v in rows if v["verdict"] != "pass"]
    if as_json:
        output.emit_json({"region": name, "verdicts": rows})
    else:
        print(verdict_table(rows))
        print(f"\n{len(rows) - len(bad)} of {len(rows)} proved.")
    if bad:
        sys.exit(int(Exit.NOT_PROVED))


def _host(region: Standing, node: str) -> FleetHost:
    from aifactory.catalog.suggest import nearest

    for host in region.hosts:
        if host.name == node:
            return host
    names = [h.name for h in region.hosts]
    wrong = f"`{node}` is not a node of {region.name}." if node else "Which node?"
    raise ProblemError([Problem("CLI-014", wrong, nearest=nearest(node, names), allowed=", ".join(names))])


def ssh(name: str, node: str, command: list[str]) -> None:
    from aifactory.hosts import remote

    region = standing(name)
    with remote.session(_host(region, node), region.ssh_access()) as argv:
        done = subprocess.run([*argv, *command], check=False)
    if done.returncode == remote.UNREACHABLE:
        output.note(f"\nNo connection to {node}. What is wrong with it: aifactory verify {name}")
    sys.exit(done.returncode)


def logs(name: str, service: str | None, lines: int) -> None:
    from aifactory.hosts import remote

    region = standing(name)
    if service is not None:
        choose_service(region, service)
    prefix = f"aifactory-{service}-" if service else ""
    wanted = [
        (_host(region, node), unit) for node, found in region.units.items() for unit in found if unit.startswith(prefix)
    ]
    silent = False
    for host, unit in wanted:
        print(f"== {host.name} {unit}", flush=True)
        done = remote.execute(
            host,
            region.ssh_access(),
            ["sudo", "journalctl", "--no-pager", "-o", "short-iso", "-n", str(lines), "-u", unit],
            timeout_s=30,
        )
        print(done.stdout if done.returncode == 0 else done.stderr.strip(), flush=True)
        silent = silent or done.returncode != 0
    if silent:
        sys.exit(int(Exit.FAILED))
