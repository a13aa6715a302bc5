"""What left the configuration while sessions still use it: kept until they end, or until its timeout does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from l4lb.engine.api import SlotKind
from l4lb.state.state import State

SlotKey = tuple[SlotKind, int]


@dataclass(frozen=True, slots=True)
class Removal:
    """`timeout` is how many seconds the sessions of a backend may go on; None is for ever. `closes_idle` says that
    those that are quiet go at once, spread over `spread` seconds."""

    kind: SlotKind
    slot: int
    label: str
    timeout: float | None = None
    closes_idle: bool = False
    spread: float = 0.0


def removals(old: State, new: State) -> Iterator[Removal]:
    """What `old` has and `new` has not. Patience is that of the pool as the sessions knew it."""
    for name, listener in old.listeners.items():
        if name not in new.listeners:
            yield Removal(SlotKind.LISTENER, listener.slot, name)
    for pool_name, pool in old.pools.items():
        now = new.pools.get(pool_name)
        if now is pool:
            continue
        if now is None:
            yield Removal(SlotKind.POOL, pool.slot, pool_name)
        for name, backend in pool.backends.items():
            if now is None or name not in now.backends:
                yield Removal(
                    SlotKind.BACKEND,
                    backend.slot,
                    f"{pool_name}/{name}",
                    pool.config.drain_timeout,
                    pool.closes_idle,
                    pool.config.drain_spread,
                )
