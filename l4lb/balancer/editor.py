"""Adds, removes and changes backends at run time, each change whole or not at all."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from l4lb.balancer.planner import Planner
from l4lb.config import Config
from l4lb.state import edits
from l4lb.state.changes import with_new_settings, with_operator_change
from l4lb.state.edits import Edits
from l4lb.state.state import BackendKey, State
from l4lb.status import AdminState, Settings

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunningConfig:
    """What runs: the configuration of the file, and the state that came of it and of the edits."""

    config: Config
    state: State


class Editor:
    """Owns the edits; `edits` are those of a predecessor. `running` raises ControlError while nothing can be changed.

    `install` has these edits run from now on, where backends are known as the state has them, or raises ControlError
    and changes nothing.
    """

    def __init__(
        self,
        planner: Planner,
        running: Callable[[], RunningConfig],
        install: Callable[[Edits, State], None],
        known: Edits,
    ) -> None:
        self._planner = planner
        self._running = running
        self._install = install
        self.edits = known

    def lasting(self, config: Config) -> Edits:
        """Those that hold under this configuration of the file."""
        return edits.lasting(self.edits, config)

    def keep(self, lasting: Edits) -> None:
        """These are in use from now on."""
        before, self.edits = self.edits, lasting
        for pool, name in before.keys() - lasting.keys():
            _log.debug("%s/%s is as the file has it", pool, name)

    async def add(self, pool: str, settings: Settings) -> str:
        """Add a backend; its name."""
        running = self._running()
        wanted, name = edits.added(self.edits, running.config, running.state, pool, settings)
        if await self._look_up(wanted, (pool, name)):
            # Other things may have happened meanwhile.
            running = self._running()
            wanted, name = edits.added(self.edits, running.config, running.state, pool, settings)
        self._install(wanted, running.state)
        _log.info("%s/%s is added at run time", pool, name)
        return name

    async def change(self, key: BackendKey, settings: Settings, state: AdminState | None, weight: int | None) -> None:
        """Give a backend other settings, and perhaps another state or weight."""
        running = self._running()
        wanted = edits.changed(self.edits, running.config, running.state, key, settings)
        if await self._look_up(wanted, key):
            running = self._running()
            wanted = edits.changed(self.edits, running.config, running.state, key, settings)
        pool, entry = running.state.pools[key[0]], running.state.pools[key[0]].backends[key[1]]
        now = edits.over(running.config, wanted).pools[key[0]].backends
        config = next(backend for backend in now if backend.name == key[1])
        changed = with_operator_change(pool, with_new_settings(pool, entry, config), state, weight)
        self._install(wanted, running.state.with_backends({key: changed}))
        _log.info("%s/%s has other settings at run time: %s", *key, ", ".join(settings))

    def remove(self, key: BackendKey) -> None:
        """Remove a backend."""
        running = self._running()
        self._install(edits.removed(self.edits, running.config, running.state, key), running.state)
        _log.info("%s/%s is removed at run time", *key)

    async def _look_up(self, wanted: Edits, key: BackendKey) -> bool:
        """Look up where a backend is, if it has a name there; whether that took a while."""
        edit = wanted.get(key)
        if edit is None or edit.now is None or not edit.now.address.is_open:
            return False
        await self._planner.look_up([edit.now.address])
        return True
