"""Changes backends at run time, as operators and programs ask: each change whole, or not at all."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass

from l4lb.balancer.installer import Installer
from l4lb.balancer.phase import Phase
from l4lb.balancer.planner import Plan, Planner
from l4lb.balancer.store import Reason, StateStore
from l4lb.config import Config
from l4lb.errors import ControlError, StartError
from l4lb.state import edits
from l4lb.state.changes import find, with_new_settings, with_operator_change
from l4lb.state.edits import Edits
from l4lb.state.state import BackendKey, State
from l4lb.status import AdminState, Settings

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Running:
    """What runs: the configuration of the file, the edits, and the state that came of both."""

    config: Config
    edits: Edits
    state: State


class Editor:
    """Each change lasts until the file changes the backend. ControlError says why one cannot be made."""

    def __init__(self, store: StateStore, phase: Phase, planner: Planner, installer: Installer) -> None:
        self._store = store
        self._phase = phase
        self._planner = planner
        self._installer = installer
        self._handing_over = False

    @contextlib.contextmanager
    def unedited(self) -> Iterator[None]:
        """Within the block no backend is added, removed or given other settings: a successor is told what they are."""
        self._handing_over = True
        try:
            yield
        finally:
            self._handing_over = False

    def set(self, key: BackendKey, state: AdminState | None, weight: int | None) -> None:
        """Give a backend another state or weight; None leaves it as it is."""
        entry = find(self._store.state, key)
        changed = with_operator_change(self._store.state.pools[key[0]], entry, state, weight)
        if changed != entry:
            self._store.replace({key: changed}, Reason.OPERATOR)
            _log.info("%s/%s is set to %s, weight %d", *key, changed.state.value, changed.current_weight)

    async def add(self, pool: str, settings: Settings) -> str:
        """Add a backend; its name."""
        running = self._running()
        wanted, name = edits.added(running.edits, running.config, running.state, pool, settings)
        if await self._look_up(wanted, (pool, name)):
            # Something else may have changed meanwhile.
            running = self._running()
            wanted, name = edits.added(running.edits, running.config, running.state, pool, settings)
        self._install(wanted, running.state)
        _log.info("%s/%s is added at run time", pool, name)
        return name

    async def change(self, key: BackendKey, settings: Settings, state: AdminState | None, weight: int | None) -> None:
        """Give a backend other settings, and perhaps another state or weight."""
        running = self._running()
        wanted = edits.changed(running.edits, running.config, running.state, key, settings)
        if await self._look_up(wanted, key):
            running = self._running()
            wanted = edits.changed(running.edits, running.config, running.state, key, settings)
        pool, entry = running.state.pools[key[0]], running.state.pools[key[0]].backends[key[1]]
        now = edits.over(running.config, wanted).pools[key[0]].backends
        config = next(backend for backend in now if backend.name == key[1])
        changed = with_operator_change(pool, with_new_settings(pool, entry, config), state, weight)
        self._install(wanted, running.state.with_backends({key: changed}))
        _log.info("%s/%s has other settings at run time: %s", *key, ", ".join(settings))

    def remove(self, key: BackendKey) -> None:
        """Remove a backend."""
        running = self._running()
        self._install(edits.removed(running.edits, running.config, running.state, key), running.state)
        _log.info("%s/%s is removed at run time", *key)

    def written(self) -> dict[str, list[Settings]]:
        """The backends of each pool as a file would have them, without those of its source."""
        config = self._store.config
        return {} if config is None else edits.written_backends(config, self._store.edits, self._store.state)

    def _running(self) -> _Running:
        config = self._store.config
        if self._handing_over:
            raise ControlError("an upgrade is under way; change backends once it is done", 409)
        if config is None or self._phase.stopping:
            raise ControlError("l4lb is not up yet, or stops; change backends while it serves", 409)
        return _Running(config, self._store.edits, self._store.state)

    def _install(self, wanted: Edits, known: State) -> None:
        running = self._running()
        plan = Plan(running.config, {}, running.state.zones, running.state.access)
        try:
            self._installer.install(plan, wanted, known)
        except StartError as error:
            raise ControlError(str(error), 409) from error

    async def _look_up(self, wanted: Edits, key: BackendKey) -> bool:
        """Look up the address of a backend, if it is a name; whether that took a while."""
        edit = wanted.get(key)
        if edit is None or edit.now is None or not edit.now.address.is_open:
            return False
        await self._planner.look_up([edit.now.address])
        return True
