"""What a new configuration removes, and how the sessions that still use it end. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from l4lb.engine.api import SlotKind
from l4lb.state.state import State

SlotKey = tuple[SlotKind, int]


@dataclass(frozen=True, slots=True)
class Removal:
    """`timeout` is the seconds that sessions of a backend may go on, None for no limit. If `closes_idle`, idle sessions
    are closed at once, spread over `spread` seconds."""

    kind: SlotKind
    slot: int
    label: str
    timeout: float | None = None
    closes_idle: bool = False
    spread: float = 0.0


def removals(old: State, new: State) -> Iterator[Removal]:
    """What `old` has and `new` lacks. The old pool's settings apply, since its sessions began under them."""
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
