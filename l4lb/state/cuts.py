"""Which backends lose their sessions when one goes down or comes up (`on_down` and `on_up` of a pool). Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from l4lb.engine.api import CloseReason
from l4lb.state.state import BackendKey, PoolEntry, State


@dataclass(frozen=True, slots=True)
class Cut:
    """Close all sessions of this backend. The slot tells it from a later backend of the same name."""

    key: BackendKey
    slot: int
    reason: CloseReason


def cuts(before: State, after: State) -> Iterator[Cut]:
    """The cuts that follow from a change of state. A new backend has no sessions yet."""
    for name, pool in after.pools.items():
        old = before.pools.get(name)
        if old is None or old is pool:
            continue
        reasons = {**_lowered(old, pool), **_downed(old, pool)}
        for backend, reason in reasons.items():
            if backend in old.backends:
                yield Cut((name, backend), pool.backends[backend].slot, reason)


def _downed(before: PoolEntry, after: PoolEntry) -> dict[str, CloseReason]:
    return dict.fromkeys(after.cut_off() - before.cut_off(), CloseReason.BACKEND_DOWN)


def _lowered(before: PoolEntry, after: PoolEntry) -> dict[str, CloseReason]:
    """The backends ranked below one that came up. A backend that is only used in a panic has not come up."""
    if after.config.on_up == "keep":
        return {}
    order = after.ranks()
    risen = {order[name] for name in _serving(after) - _serving(before)}
    return {name: CloseReason.BETTER_UP for name, rank in order.items() if risen and rank > min(risen)}


def _serving(pool: PoolEntry) -> set[str]:
    return {name for name in pool.accepting() if pool.backends[name].accepts_new}
