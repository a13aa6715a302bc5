"""The state that follows from a configuration and the state before it. Pure, apart from taking slots.

A listener, pool or backend that both have keeps its slot, and with it its counters and sessions. A backend also keeps
its health, and the operator's changes until the file changes that backend.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import replace
from typing import Any

from l4lb.agent.protocol import NO_REPORT
from l4lb.config import Address, Config, model
from l4lb.engine.api import SlotKind
from l4lb.net.target import Target
from l4lb.state.access import NO_ACCESS, Access
from l4lb.state.backend_entry import BackendEntry
from l4lb.state.containment import PoolFaults
from l4lb.state.state import ListenerEntry, PoolEntry, State, health_of
from l4lb.state.zones import NO_ZONES, Zones


def merge(
    old: State,
    config: Config,
    targets: Mapping[Address, Target],
    take_slot: Callable[[SlotKind], int],
    zones: Zones = NO_ZONES,
    kept: Container[str] = (),
    give_slot: Callable[[SlotKind, int], object] = lambda _kind, _slot: None,
    access: Mapping[str, Access] = {},
) -> State:
    """The state that `config` asks for, with its compiled zones and the `access` of its listeners.

    `take_slot` is called for what is new, and `give_slot` for what was taken for a pool that cannot be. PoolFaults has
    all of those. The pools in `kept` stay as they are.

    A pool that stays as it was is the same object, here and wherever a state is changed: that is how others see what
    there is to do.
    """
    pools, faults = {}, {}
    for name, pool in config.pools.items():
        before = old.pools.get(name)
        if before is not None and name in kept:
            pools[name] = before
            continue
        taken: list[tuple[SlotKind, int]] = []
        try:
            pools[name] = _merge_pool(before, pool, targets, _noting(take_slot, taken))
        except (OSError, ValueError) as error:
            faults[name] = error
            for kind, slot in taken:
                give_slot(kind, slot)
    if faults:
        raise PoolFaults(faults)
    listeners = {}
    for name, listener in config.listeners.items():
        known = old.listeners.get(name)
        slot = take_slot(SlotKind.LISTENER) if known is None else known.slot
        listeners[name] = ListenerEntry(slot=slot, config=listener, access=access.get(name, NO_ACCESS))
    return State(listeners=listeners, pools=pools, zones=zones)


def _noting(take_slot: Callable[[SlotKind], int], taken: list[tuple[SlotKind, int]]) -> Callable[[SlotKind], int]:
    def take(kind: SlotKind) -> int:
        taken.append((kind, take_slot(kind)))
        return taken[-1][1]

    return take


def _merge_pool(
    old: PoolEntry | None,
    config: model.Pool,
    targets: Mapping[Address, Target],
    take_slot: Callable[[SlotKind], int],
) -> PoolEntry:
    if old is None:
        old = PoolEntry(slot=take_slot(SlotKind.POOL), config=config, backends={})
    config = _kept(old.config, config)
    pool = replace(old, config=config)
    backends = {}
    for backend in config.backends:
        before, target = old.backends.get(backend.name), targets.get(backend.address)
        if before is None:
            slot = take_slot(SlotKind.BACKEND)
            entry = BackendEntry(slot=slot, config=backend, target=target, health=pool.initial_health(backend))
        else:
            entry = _merge_backend(before, backend, target, pool, was_checked=old.has_checks(before.config))
        backends[backend.name] = entry
    if config is old.config and all(entry is old.backends.get(name) for name, entry in backends.items()):
        return old
    return replace(pool, backends=backends)


def _merge_backend(
    before: BackendEntry, config: model.Backend, target: Target | None, pool: PoolEntry, *, was_checked: bool
) -> BackendEntry:
    if before.config is config or before.config == config:
        agent = NO_REPORT if pool.config.agent is None else before.agent
        entry = _with(before, target=target or before.target, agent=agent)
    else:
        moved = before.config.address != config.address
        entry = BackendEntry(
            slot=before.slot,
            config=config,
            target=target,
            health=pool.initial_health(config) if moved else before.health,
            readiness=before.readiness,
            usable_since=None if moved else before.usable_since,
            warm_until=before.warm_until,
            ejected=before.ejected and not moved,
            stalled=None if moved else before.stalled,
            learnt_max_busy=None if moved else before.learnt_max_busy,
        )
    # Once the feature is off, no part of l4lb would take its finding back.
    return _with(
        entry,
        ejected=entry.ejected and pool.config.passive is not None,
        stalled=entry.stalled if pool.watches_progress else None,
        health=health_of(pool, entry, was_checked=was_checked),
    )


def _kept(old: model.Pool, new: model.Pool) -> model.Pool:
    """The new pool with the objects of the old one where they are equal, so that later comparisons are cheap."""
    if old is new or old == new:
        return old
    return new.model_copy(update={"health": old.health}) if old.health == new.health else new


def _with(entry: BackendEntry, **changes: Any) -> BackendEntry:
    """The entry with these changes; itself if they change nothing."""
    for name, value in changes.items():
        now = getattr(entry, name)
        if now is not value and now != value:
            return replace(entry, **changes)
    return entry
