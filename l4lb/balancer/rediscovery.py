"""Makes what sources find later the backends that run, and follows names to their new addresses."""

from __future__ import annotations

import logging
from dataclasses import replace

from l4lb.balancer.installer import Installer
from l4lb.balancer.loop_guard import LoopGuard
from l4lb.balancer.planner import Plan, Planner
from l4lb.balancer.store import Reason, StateStore
from l4lb.base.tasks import repeat
from l4lb.errors import StartError

DISCOVERY_INTERVAL = 0.02
"""Seconds between two rounds, however fast sources find something new."""

RESOLVE_INTERVAL = 30.0
"""Seconds between two look-ups of every name in use."""

_log = logging.getLogger(__name__)


class Rediscovery:
    """Also works while the process stops: a client in a queue may be waiting for just that backend."""

    def __init__(self, store: StateStore, planner: Planner, installer: Installer) -> None:
        self._store = store
        self._planner = planner
        self._installer = installer

    async def run(self) -> None:
        await repeat("discovery", DISCOVERY_INTERVAL, self.round)

    async def round(self) -> None:
        """Wait until a source has found something new, and use it."""
        await self._planner.rediscovered.wait()
        await self.use_found()

    async def use_found(self) -> None:
        """Use what is found by now. What cannot be used is tried again."""
        self._planner.rediscovered.clear()
        config = self._store.config
        if config is None:
            return
        targets = await self._planner.look_up_found(config)
        # The configuration that runs now, which may be another one than before the look-up.
        config, state, faults = self._store.config or config, self._store.state, self._installer.faults
        try:
            self._installer.install(Plan(config, targets, state.zones, state.access))
        except StartError as error:
            faults.refuse(error)
            self._planner.retry_later()
        except Exception:
            self._planner.retry_later()
            raise
        if faults.active:
            self._planner.retry_later()


class NameRefresher:
    """Looks up the names of backends again. A backend that moved is checked and used at its new address."""

    def __init__(self, store: StateStore, planner: Planner, guard: LoopGuard) -> None:
        self._store = store
        self._planner = planner
        self._guard = guard

    async def run(self) -> None:
        await repeat("name resolution", RESOLVE_INTERVAL, self.round)

    async def round(self) -> None:
        if self._store.config is None:
            return
        named = {one.config.address for _, one in self._store.state.backends() if one.config.address.is_open}
        targets = await self._planner.look_up(named)
        before = self._store.state
        moved = {
            key: replace(backend, target=target)
            for key, backend in before.backends()
            if (target := targets.get(backend.config.address, backend.target)) != backend.target
        }
        guarded = self._guard.guarded(before.with_backends(moved))
        known = dict(before.backends())
        changed = {key: entry for key, entry in guarded.backends() if entry.target != known[key].target}
        for key, entry in changed.items():
            _log.info("%s/%s is now at %s", *key, entry.target and entry.target.address)
        self._store.replace(changed, Reason.ADDRESS)
