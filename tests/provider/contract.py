"""What every backend promises, as tests. A backend's test file subclasses `Contract` and says what is its own:

    class TestLocalPool(Contract):
        @pytest.fixture
        def backend(self, ...) -> Iterator[Backend]: ...

`driver` is how it is run: in one process by default (harness.Engine); override the fixture with a
`RealDriver` to run the same tests under the real engine (tests/provider/test_engine_contract.py does).
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

import pytest
from aifactory.provider import identity, wire
from aifactory.provider.resource import Cancelled, HalfMade, Resource

from tests.provider.harness import DEPLOYMENT, Engine, State, urn


class Backend(ABC):
    """One resource type in a world of its own. `values` are plain JSON, as a program would give them."""

    resource: Resource[Any, Any]

    @abstractmethod
    def values(self) -> dict[str, Any]:
        """Inputs of a resource with at least two parts, where the type has parts."""

    def changed(self) -> dict[str, Any] | None:
        """`values` with a change that is made in place; None where nothing can be."""
        return None

    @abstractmethod
    def parts(self) -> dict[str, str]:
        """Every real object in this world, name → id. Empty before the create and after the delete."""

    @abstractmethod
    def kill_part(self) -> str | None:
        """Removes the first part behind the provider's back and returns its name; None where there are no parts."""

    @abstractmethod
    def slow(self) -> None:
        """From now on a create or update stays busy once it has made an object, until `quick`."""

    @abstractmethod
    def quick(self) -> None: ...

    def import_id(self, state: State) -> str | None:
        """The id to import the object by; None where it cannot be imported."""
        return None

    def secret_texts(self) -> list[str]:
        """Secrets among the values, to be found nowhere in clear."""
        return []


class Driver(Protocol):
    """How a resource is run. `state` is what the engine's state holds of it."""

    @property
    def state(self) -> State | None: ...
    def up(self, values: dict[str, Any]) -> State: ...
    def would_change(self, values: dict[str, Any]) -> bool:
        """Whether a preview of `values` shows anything to do."""
        ...

    def refresh(self) -> State | None: ...
    def destroy(self) -> None: ...
    def taint(self, values: dict[str, Any]) -> State: ...
    def cancelled_up(self, values: dict[str, Any], when: Callable[[], bool]) -> None:
        """An `up` that is told to stop once `when()`; returns when it has stopped."""
        ...

    def killed_up(self, values: dict[str, Any], when: Callable[[], bool]) -> None:
        """An `up` that is killed once `when()`; its state is what a kill leaves."""
        ...

    def written(self) -> str:
        """All that the state holds, as text."""
        ...


class Contract:
    """The tests. Names say the promise."""

    @pytest.fixture
    def driver(self, backend: Backend, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Driver:
        monkeypatch.setenv("AIFACTORY_HOME", str(tmp_path / "home"))
        return InProcess(backend)

    def test_preview_of_a_create_touches_nothing(self, backend: Backend, driver: Driver) -> None:
        assert driver.would_change(backend.values())
        assert backend.parts() == {}
        assert driver.state is None

    def test_create_makes_it_and_an_unchanged_up_does_nothing(self, backend: Backend, driver: Driver) -> None:
        made = driver.up(backend.values())
        parts = backend.parts()
        assert made.id
        assert parts
        assert not driver.would_change(backend.values())
        assert driver.up(backend.values()) == made
        assert backend.parts() == parts

    def test_refresh_finds_what_create_said(self, backend: Backend, driver: Driver) -> None:
        made = driver.up(backend.values())
        assert driver.refresh() == made

    def test_update_in_place_keeps_every_object(self, backend: Backend, driver: Driver) -> None:
        changed = backend.changed()
        if changed is None:
            pytest.skip("nothing of this type changes in place")
        made = driver.up(backend.values())
        parts = backend.parts()
        assert driver.would_change(changed)
        assert driver.up(changed).id == made.id
        assert backend.parts() == parts
        assert not driver.would_change(changed)

    def test_dead_part_is_seen_and_only_it_is_made_again(self, backend: Backend, driver: Driver) -> None:
        driver.up(backend.values())
        before = backend.parts()
        dead = backend.kill_part()
        if dead is None:
            pytest.skip("this type has no parts")
        assert driver.would_change(backend.values())
        driver.up(backend.values())
        after = backend.parts()
        assert after.keys() == before.keys()
        assert after[dead] != before[dead]
        assert {n: i for n, i in after.items() if n != dead} == {n: i for n, i in before.items() if n != dead}
        assert not driver.would_change(backend.values())

    def test_new_generation_replaces_every_object_and_leaves_no_old_one(self, backend: Backend, driver: Driver) -> None:
        if "generation" not in backend.resource.Inputs.__dataclass_fields__:
            pytest.skip("this type has no generation")
        driver.up(backend.values())
        before = backend.parts()
        driver.up({**backend.values(), "generation": 2})
        after = backend.parts()
        assert after.keys() == before.keys()
        assert not set(after.values()) & set(before.values())

    def test_destroy_leaves_nothing_and_may_be_repeated(self, backend: Backend, driver: Driver) -> None:
        made = driver.up(backend.values())
        driver.destroy()
        assert backend.parts() == {}
        assert driver.state is None
        late = Engine(backend.resource)
        backend.resource.delete(late.context(), made.id, made.inputs, made.outputs)
        assert backend.parts() == {}

    def test_object_that_is_gone_is_deleted_without_complaint(self, backend: Backend, driver: Driver) -> None:
        driver.up(backend.values())
        while backend.kill_part():
            pass
        driver.destroy()
        assert backend.parts() == {}

    def test_killed_create_is_adopted_under_a_new_nonce(self, backend: Backend, driver: Driver) -> None:
        backend.slow()
        driver.killed_up(backend.values(), lambda: bool(backend.parts()))
        first = backend.parts()
        assert first
        backend.quick()
        made = driver.up(backend.values())
        after = backend.parts()
        assert first.items() <= after.items(), "what the killed run made was made twice"
        assert made.outputs.nonce
        driver.destroy()
        assert backend.parts() == {}

    def test_killed_update_is_gone_on_with(self, backend: Backend, driver: Driver) -> None:
        changed = backend.changed()
        if changed is None or (dead := self._killed_part(backend, driver)) is None:
            pytest.skip("nothing of this type is made by an update")
        backend.slow()
        driver.killed_up(changed, lambda: dead in backend.parts())
        backend.quick()
        driver.up(changed)
        assert dead in backend.parts()
        assert not driver.would_change(changed)

    @staticmethod
    def _killed_part(backend: Backend, driver: Driver) -> str | None:
        driver.up(backend.values())
        return backend.kill_part()

    def test_taint_is_a_safe_no_op(self, backend: Backend, driver: Driver) -> None:
        made = driver.up(backend.values())
        parts = backend.parts()
        tainted = driver.taint(backend.values())
        assert backend.parts() == parts, "the old delete hit what the new create had adopted"
        assert tainted.outputs.nonce != made.outputs.nonce
        assert not driver.would_change(backend.values())
        driver.destroy()
        assert backend.parts() == {}

    def test_delete_with_an_old_nonce_touches_nothing(self, backend: Backend, driver: Driver) -> None:
        old = driver.up(backend.values())
        driver.taint(backend.values())
        parts = backend.parts()
        backend.resource.delete(Engine(backend.resource).context(), old.id, old.inputs, old.outputs)
        assert backend.parts() == parts

    def test_cancelled_create_keeps_what_exists_and_the_next_up_goes_on(self, backend: Backend, driver: Driver) -> None:
        backend.slow()
        driver.cancelled_up(backend.values(), lambda: bool(backend.parts()))
        first = backend.parts()
        assert first
        state = driver.state
        assert state is not None, "a half-made object was forgotten"
        assert state.reasons
        backend.quick()
        driver.up(backend.values())
        assert first.items() <= backend.parts().items()
        assert driver.state is not None
        assert not driver.state.reasons
        assert not driver.would_change(backend.values())

    def test_cancelled_create_can_be_destroyed(self, backend: Backend, driver: Driver) -> None:
        backend.slow()
        driver.cancelled_up(backend.values(), lambda: bool(backend.parts()))
        backend.quick()
        driver.destroy()
        assert backend.parts() == {}

    def test_secrets_are_nowhere_in_clear(self, backend: Backend, driver: Driver) -> None:
        driver.up(backend.values())
        written = driver.written()
        for text in backend.secret_texts():
            assert text not in written


class Killed(BaseException):
    """Unwinds a verb as nothing in it expects, which is as close to a kill as one process comes."""


class StopWhen(threading.Event):
    """A cancel event that stops the verb at its next wait once `when()`: by Cancelled, or dead."""

    def __init__(self, when: Callable[[], bool], *, kill: bool) -> None:
        super().__init__()
        self._when, self._kill = when, kill

    def is_set(self) -> bool:
        return self.wait(0)

    def wait(self, timeout: float | None = None) -> bool:
        if not self._when():
            return super().wait(timeout)
        if self._kill:
            raise Killed
        return True


class InProcess:
    """Driver on harness.Engine."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._engine = Engine(backend.resource)

    @property
    def state(self) -> State | None:
        return self._engine.state

    def up(self, values: dict[str, Any]) -> State:
        self._engine.process()
        return self._engine.up(values)

    def would_change(self, values: dict[str, Any]) -> bool:
        diff, _ = self._engine.preview(values)
        return diff is None or diff.changes

    def refresh(self) -> State | None:
        return self._engine.refresh()

    def destroy(self) -> None:
        self._engine.process()
        self._engine.destroy()

    def taint(self, values: dict[str, Any]) -> State:
        return self._engine.taint(values)

    def cancelled_up(self, values: dict[str, Any], when: Callable[[], bool]) -> None:
        self._engine.cancel = StopWhen(when, kill=False)
        with pytest.raises((HalfMade, Cancelled)):
            self._engine.up(values)

    def killed_up(self, values: dict[str, Any], when: Callable[[], bool]) -> None:
        self._engine.cancel = StopWhen(when, kill=True)
        with pytest.raises(Killed):
            self._engine.up(values)

    def written(self) -> str:
        """Inputs and outputs as the engine gets them, less what it encrypts."""
        state = self._engine.state
        assert state
        trees = [wire.decode(wire.dump(part)) for part in (state.inputs, state.outputs)]
        return repr(_without_secrets(trees))


def _without_secrets(tree: Any) -> Any:
    if isinstance(tree, wire.Secret):
        return "[secret]"
    if isinstance(tree, dict):
        return {key: _without_secrets(item) for key, item in tree.items()}
    return [_without_secrets(item) for item in tree] if isinstance(tree, list) else tree


def first_token(resource: Resource[Any, Any]) -> str:
    """The token that the harness gives the first object of a resource."""
    return identity.token(DEPLOYMENT, urn(resource))
