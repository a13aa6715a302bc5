"""Resolves what a configuration leaves open: addresses of names, networks of zones, and backends that sources find.

This may take long and touches nothing that runs. What a source finds later is planned in the same way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from l4lb.balancer.checks import require_tls
from l4lb.balancer.resolve import Resolver
from l4lb.base.threads import SerialThread
from l4lb.config import Address, Config
from l4lb.discovery.discovery import Discovery
from l4lb.discovery.shrink_guard import Endpoints
from l4lb.engine.api import Engine, SlotKind
from l4lb.net.target import Target
from l4lb.state.access import Access, compile_access
from l4lb.state.discovered import expand, mark, place
from l4lb.state.merge import merge
from l4lb.state.state import State
from l4lb.state.targets import literal
from l4lb.state.zones import NO_ZONES, Zones, compile_zones
from l4lb.status import DiscoveryStatus

REDISCOVERY_RETRY = 1.0
"""Seconds until endpoints that could not be used are tried again."""

FILES_TIMEOUT = 300.0
"""Seconds for reading certificates, or databases. The largest take ten or so; a file system may hang for ever."""

FOUND_TIMEOUT = 0.2
"""Seconds to wait for the names that a source finds. Later answers are used when they arrive."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """A configuration with its names resolved, its zones and the lists of its listeners compiled. What sources find is
    laid over it when it is used, see `Planner.merge`."""

    config: Config
    targets: Mapping[Address, Target]
    zones: Zones
    access: Mapping[str, Access]


class Planner:
    """Owns the sources. `rediscovered` is set when one of them has found something else than before.

    `endpoints` is what sources of pools had found, `targets` where names led, before there was this planner.
    """

    def __init__(
        self,
        engine: Engine,
        endpoints: Mapping[str, Endpoints] | None = None,
        targets: Mapping[Address, Target] | None = None,
    ) -> None:
        self._engine = engine
        self._files = SerialThread("reading certificates and databases", FILES_TIMEOUT)
        self.rediscovered = asyncio.Event()
        # A late answer is used as what a source finds is.
        self._resolver = Resolver(self.rediscovered.set, targets)
        self._discovery = Discovery(self.rediscovered.set, endpoints)

    async def prepare(self, config: Config, state: State, *, wait: bool) -> Plan:
        """A plan for `config`. `state` is what runs; `wait` for the first answers of sources that are new.

        StartError if a database, or a file that checks need, cannot be read.
        """
        await self._files.call(require_tls, config)
        compile_networks, compiled = self._engine.compile_networks, NO_ZONES
        if config.zones:
            compiled = await self._files.call(compile_zones, config, state.zones, compile_networks)
        access = await self._files.call(compile_access, config, state.access, compile_networks)
        for selector in compiled.idle:
            _log.warning("zones: no database has a network of %s", selector)
        if wait:
            await self._discovery.prepare(config)
        addresses = _addresses(expand(config, self._discovery.found(config)))
        return Plan(config, await self._resolver.look_up(addresses), compiled, access)

    def discard(self) -> None:
        """Forget what was prepared and will not be applied."""
        self._discovery.discard()

    def follow(self, config: Config) -> None:
        """Follow the sources of this configuration from now on, and no others."""
        self._discovery.apply(config)

    def merge(
        self,
        plan: Plan,
        old: State,
        take_slot: Callable[[SlotKind], int],
        give_slot: Callable[[SlotKind, int], object],
        kept: frozenset[str] = frozenset(),
    ) -> tuple[State, Mapping[Address, Target]]:
        """The state that the plan asks for with what is found by now, and the targets in it, see `keep`.

        The pools in `kept` stay as they are; one that is new has only the backends of the file.
        """
        found = {name: known for name, known in self._discovery.found(plan.config).items() if name not in kept}
        expanded = expand(plan.config, found)
        # What was found or added since the plan was made needs no look-up if it is no name, or one that is known.
        targets = {
            address: target
            for address in _addresses(expanded)
            if (target := plan.targets.get(address) or literal(address) or self._resolver.targets.get(address))
            is not None
        }
        merged = merge(
            place(old, plan.config, found), expanded, targets, take_slot, plan.zones, kept, give_slot, plan.access
        )
        for name in kept:
            targets |= {one.config.address: one.target for one in merged.pools[name].backends.values() if one.target}
        return mark(merged, plan.config, found), targets

    def keep(self, targets: Mapping[Address, Target]) -> None:
        """Keep the targets that are in use: they stay where a later look-up fails."""
        self._resolver.keep(targets)

    async def look_up(self, names: Collection[Address]) -> Mapping[Address, Target]:
        """Where these names, which are all in use, lead now; that is kept."""
        self._resolver.forget(names)
        return await self._resolver.look_up(names)

    # ---- what sources find later -----------------------------------------------------------------------------------

    async def look_up_found(self, config: Config) -> Mapping[Address, Target]:
        """Targets of what is found by now, beside those in use."""
        found = self._discovery.found(config)
        names = {endpoint.address for endpoints in found.values() for endpoint in endpoints if endpoint.address.is_open}
        new = {name for name in names - self._resolver.targets.keys() if not self._resolver.is_failing(name)}
        # A silent name server must not delay what other sources have found.
        return {**self._resolver.targets, **await self._resolver.look_up(new, FOUND_TIMEOUT)}

    def retry_later(self) -> None:
        """Try again in a while to use what was found."""
        asyncio.get_running_loop().call_later(REDISCOVERY_RETRY, self.rediscovered.set)

    def known(self, config: Config) -> tuple[Mapping[str, Endpoints], Mapping[Address, Target]]:
        """What sources have found, and where names lead: for another planner to begin with."""
        return self._discovery.found(config), self._resolver.targets

    @property
    def waiting(self) -> bool:
        """Whether a source has not answered yet and nothing is known about its pool."""
        return self._discovery.waiting

    def status(self, pool: str, now: float) -> DiscoveryStatus | None:
        """The status of the source of a pool; None if the pool has none."""
        return self._discovery.status(pool, now)

    async def close(self) -> None:
        """Stop following sources and looking names up."""
        await self._discovery.close()
        await self._resolver.close()


def _addresses(config: Config) -> set[Address]:
    return {backend.address for pool in config.pools.values() for backend in pool.backends}
