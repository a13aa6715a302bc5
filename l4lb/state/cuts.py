"""Whose sessions are to end when backends go down or come up: what `on_down` and `on_up` of a pool ask for. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from l4lb.engine.api import Ending
from l4lb.state.state import BackendKey, PoolEntry, State


@dataclass(frozen=True, slots=True)
class Cut:
    """All sessions of a backend end. It is known by its slot, so that another one of the same name is left alone."""

    key: BackendKey
    slot: int
    ending: Ending


def cuts(before: State, after: State) -> Iterator[Cut]:
    """What follows from a change of what the data plane was told. A backend that is new has no sessions yet."""
    for name, pool in after.pools.items():
        old = before.pools.get(name)
        if old is None or old is pool:
            continue
        endings = {**_lowered(old, pool), **_downed(old, pool)}
        for backend, ending in endings.items():
            if backend in old.backends:
                yield Cut((name, backend), pool.backends[backend].slot, ending)


def _downed(before: PoolEntry, after: PoolEntry) -> dict[str, Ending]:
    return dict.fromkeys(after.cut_off() - before.cut_off(), Ending.BACKEND_DOWN)


def _lowered(before: PoolEntry, after: PoolEntry) -> dict[str, Ending]:
    """Backends below one that has come up. One that is only used in a panic has not."""
    if after.config.on_up == "keep":
        return {}
    order = after.ranks()
    risen = {order[name] for name in _serving(after) - _serving(before)}
    return {name: Ending.BETTER_UP for name, rank in order.items() if risen and rank > min(risen)}


def _serving(pool: PoolEntry) -> set[str]:
    return {name for name in pool.accepting() if pool.backends[name].accepts_new}
