"""The nodes of one pool, made, mended, replaced and removed together.

What exists is told by labels, never by memory: every step looks first and may be cut off anywhere. A
container that has never run is worth nothing (its host key may not have been copied in yet) and is made
again; one that has run is kept, whatever killed the run that made it. The journal only keeps what the
engine does not: the SSH port a node is to get back, and which nodes have answered.
"""

from __future__ import annotations

import datetime as dt
import io
import re
import tarfile
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aifactory.provider.journal import Journal
from aifactory.provider.local import engine_errors as errors
from aifactory.provider.local import image_recipe, labels, pool_types, ports
from aifactory.provider.local.driver import ContainerEngine, NewContainer
from aifactory.provider.local.engine_output import Container
from aifactory.provider.local.pool_types import NodeInput, NodePoolInputs
from aifactory.provider.resource import Cancelled, Context

AT_ONCE = 8
"""Nodes made at the same time; more only queue inside the engine."""
PORT_TRIES = 5


class NodeFailed(Exception):
    """One node could not be made, mended or reached. The message is the whole reason, with the node's name."""


class Gang:
    """One pool during one verb; the caller holds the journal."""

    def __init__(self, ctx: Context, engine: ContainerEngine, news: NodePoolInputs, journal: Journal) -> None:
        self.ctx, self.engine, self.news, self.journal = ctx, engine, news, journal
        self._mutex = threading.Lock()
        self._given: set[int] = set()
        self._others: list[Container] | None = None

    # -- looking

    def look(self) -> dict[str, Container]:
        """Our containers by name, of whatever token."""
        mine = {labels.DEPLOYMENT: self.ctx.deployment, labels.URN: self.ctx.urn}
        return {c.name: c for c in self.engine.containers(mine)}

    def is_current(self, container: Container, node: NodeInput) -> bool:
        return (
            container.labels.get(labels.TOKEN) == self.news.token
            and container.labels.get(labels.SPEC) == pool_types.spec_digest(self.news, node)
        )  # fmt: skip

    def note(self, name: str) -> dict[str, Any]:
        """The journal's line of a node."""
        return dict(self.journal.data.get("nodes", {}).get(name, {}))

    def write(self, name: str, **facts: Any) -> None:
        with self._mutex:
            nodes = self.journal.data.setdefault("nodes", {})
            nodes[name] = {**nodes.get(name, {}), **facts}
            self.journal.save()

    # -- doing

    def each(self, nodes: Iterable[NodeInput], act: Callable[[NodeInput], None]) -> dict[str, str]:
        """Runs `act` on all nodes, several at once; name → reason of those that failed. Raises Cancelled last."""
        nodes = list(nodes)
        reasons: dict[str, str] = {}
        cancelled: Cancelled | None = None
        with ThreadPoolExecutor(max_workers=max(1, min(AT_ONCE, len(nodes)))) as pool:
            for node, future in [(n, pool.submit(act, n)) for n in nodes]:
                try:
                    future.result()
                except NodeFailed as failure:
                    reasons[node.name] = str(failure)
                except errors.EngineError as error:
                    reasons[node.name] = f"failed: {node.name}: {error}"
                except Cancelled as stop:
                    cancelled = stop
        if cancelled is not None:
            raise cancelled
        return reasons

    def make(self, node: NodeInput) -> None:
        """A running node where there is none, or where one is to be replaced. Its volume begins empty."""
        from aifactory.provider.host.key_material import ssh_key_pair  # 60 ms that an unchanged run saves

        self.ctx.check_cancelled()
        self._clear(node)
        tried: set[int] = set()
        try:
            while True:
                port = self._port(node, tried)
                try:
                    self._start_new(node, port, *ssh_key_pair())
                    return
                except errors.PortInUse as error:
                    self._refuse_published(node, error)
                    tried.add(port)
                    if len(tried) >= PORT_TRIES:
                        raise
                self.engine.remove(node.name)
        except BaseException:
            self._undo(node)
            raise

    def mend(self, node: NodeInput, container: Container) -> None:
        """A stopped or paused node runs again, with its identity and everything on it."""
        self.ctx.check_cancelled()
        self.write(node.name, ready=False)
        try:
            if container.state == "paused":
                self.engine.unpause(node.name)
            else:
                self.engine.start(node.name)
                self.engine.hold_bridge_address(self.news.network)
        except errors.PortInUse as error:
            port = self._refuse_published(node, error)
            raise NodeFailed(f"failed: {node.name}: its port {port} is taken by {self._holder(port)}") from error
        self.authorize(node)

    def remove(self, name: str) -> None:
        """A node and its volume, gone already or not. Raises EngineError."""
        self.engine.remove(name)
        self._remove_volume(name)
        with self._mutex:
            self.journal.data.get("nodes", {}).pop(name, None)
            self.journal.save()

    def remove_stray_volumes(self) -> None:
        """Volumes of this pool that belong to none of its nodes (a run killed between volume and container)."""
        mine = {labels.DEPLOYMENT: self.ctx.deployment, labels.URN: self.ctx.urn}
        wanted = {pool_types.volume(node.name) for node in self.news.nodes}
        for volume in self.engine.volumes(mine):
            if volume.name not in wanted:
                self.engine.remove_volume(volume.name)

    def authorize(self, node: NodeInput) -> None:
        """The login key of this input, also on a node that runs."""
        if self.note(node.name).get("key") != self.news.authorized_key:
            self.engine.copy_in(node.name, _tar({image_recipe.AUTHORIZED_KEYS_FILE: (0o644, self._login())}))
            self.write(node.name, key=self.news.authorized_key)

    # -- steps

    def _start_new(self, node: NodeInput, port: int, private: str, public: str) -> None:
        image, log = self.news.image, self.ctx.log
        flags = self.engine.flags(image, log)
        created_at = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        new = NewContainer(
            name=node.name,
            image=image,
            network=self.news.network,
            address=node.address,
            mac=pool_types.mac(node.address),
            labels={
                **self._labels(),
                labels.SPEC: pool_types.spec_digest(self.news, node),
                labels.HOST_KEY: public,
                labels.CREATED_AT: created_at,
                labels.NESTING: "yes" if flags.privileged else "no",
            },
            volumes=((pool_types.volume(node.name), "/var/lib/containers"),),
            publish=((port, pool_types.SSH_PORT), *((p.host_port, p.node_port) for p in node.publish)),
        )
        if self.engine.volume(pool_types.volume(node.name)) is None:
            self.engine.create_volume(pool_types.volume(node.name), self._labels())
        self.write(node.name, port=port, ready=False, key=self.news.authorized_key)
        files = {
            image_recipe.HOST_KEY_FILE: (0o600, private),
            image_recipe.AUTHORIZED_KEYS_FILE: (0o644, self._login()),
        }
        try:
            self.engine.create(new, flags)
            self.engine.copy_in(node.name, _tar(files))
            self.engine.start(node.name)
            self.engine.hold_bridge_address(self.news.network)
        except errors.EngineError as error:
            if type(error) not in (errors.CannotRun, errors.EngineError):
                raise
            again = self.engine.flags(image, log, again=True)  # the remembered ones may be of another day
            if again == flags:
                raise
            self.engine.remove(node.name)
            self._start_new(node, port, private, public)

    def _clear(self, node: NodeInput) -> None:
        """Takes away what stands under the node's names, if it is ours; refuses if it is somebody else's."""
        container = self.engine.container(node.name)
        if container is not None:
            self._refuse_foreign(node.name, f"container {node.name}", container.labels)
            self.write(node.name, port=pool_types.ssh_port(container) or self.note(node.name).get("port"))
            self.engine.remove(node.name)
        self._remove_volume(node.name)

    def _remove_volume(self, node: str) -> None:
        name = pool_types.volume(node)
        volume = self.engine.volume(name)
        if volume is not None:
            self._refuse_foreign(node, f"volume {name}", volume.labels)
            self.engine.remove_volume(name)

    def _refuse_foreign(self, node: str, what: str, found: Mapping[str, str]) -> None:
        mine = self._labels()
        if any(found.get(key) != mine[key] for key in (labels.DEPLOYMENT, labels.URN)):
            raise NodeFailed(f"failed: {node}: {what} exists already and belongs to {labels.holder(found)}")

    def _undo(self, node: NodeInput) -> None:
        """After a failure nothing of the node stays; what cannot be removed is found by its labels next time."""
        try:
            self._clear(node)
        except (NodeFailed, errors.EngineError) as error:
            self.ctx.log(f"{node.name} is half made and could not be removed: {error}")

    def _port(self, node: NodeInput, tried: set[int]) -> int:
        with self._mutex:
            if self._others is None:
                self._others = self.engine.containers({labels.DEPLOYMENT: ""})
            taken = {outside for c in self._others for outside, _ in c.ports if c.name != node.name}
            taken |= tried | self._given | {p.host_port for n in self.news.nodes for p in n.publish}
            port = ports.pick(f"{self.ctx.deployment}/{node.name}", taken, self.note(node.name).get("port"))
            self._given.add(port)
            return port

    def _refuse_published(self, node: NodeInput, error: errors.EngineError) -> int:
        """The port that the engine could not have; raises NodeFailed where the spec asked for that one."""
        found = re.search(r":(\d{1,5})\b", error.detail)
        port = int(found[1]) if found else 0
        for wanted in node.publish:
            if wanted.host_port == port or not ports.is_free(wanted.host_port):
                holder = self._holder(wanted.host_port)
                raise NodeFailed(f"failed: {node.name}: port {wanted.host_port} of this machine is taken by {holder}")
        return port

    def _holder(self, port: int) -> str:
        return ports.holder(port, [c for c in self.engine.containers({labels.DEPLOYMENT: ""}) if c.state == "running"])

    def _labels(self) -> dict[str, str]:
        mine = labels.of(self.ctx, self.news.region, self.news.token)
        return {**mine, labels.POOL: self.news.pool}

    def _login(self) -> str:
        return f"{self.news.authorized_key.strip()}\n"


def _tar(files: dict[str, tuple[int, str]]) -> bytes:
    """Files of root, by their path below `/`."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for path, (mode, text) in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(text.encode()), mode
            tar.addfile(entry, io.BytesIO(text.encode()))
    return raw.getvalue()
