"""Configurations, targets and records in as few words as a test needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from l4lb.config import Address, Config
from l4lb.engine.api import EventKind, Path, Phase, SessionRecord, SessionState, SlotKind
from l4lb.net.target import Target
from l4lb.state.merge import merge
from l4lb.state.state import State
from l4lb.state.targets import literal


def config(
    *backends: object,
    bind: object = "127.0.0.1:0",
    pool: Mapping[str, Any] | None = None,
    listener: Mapping[str, Any] | None = None,
    **sections: Any,
) -> Config:
    """One listener `web` before one pool `app`; `sections` are other parts of the file, or replace these."""
    data: dict[str, Any] = {
        "listeners": {"web": {"bind": bind, "pool": "app"} | dict(listener or {})},
        "pools": {"app": {"backends": list(backends)} | dict(pool or {})},
    }
    return Config.model_validate(data | sections)


def addresses(config: Config) -> Iterable[Address]:
    return (backend.address for pool in config.pools.values() for backend in pool.backends)


def targets(config: Config) -> dict[Address, Target]:
    """Of all backends that need no look-up."""
    found = ((address, literal(address)) for address in addresses(config))
    return {address: target for address, target in found if target is not None}


class Slots:
    """Hands out slots and remembers each owner."""

    def __init__(self) -> None:
        self.taken: list[tuple[SlotKind, int]] = []

    def __call__(self, kind: SlotKind) -> int:
        self.taken.append((kind, len(self.taken)))
        return self.taken[-1][1]


def merged(*configs: Config) -> State:
    """The state after these configurations, one after the other."""
    state, slots = State(), Slots()
    for one in configs:
        state = merge(state, one, targets(one), slots)
    return state


def slots_of(state: State) -> set[tuple[SlotKind, int]]:
    return {
        *((SlotKind.LISTENER, listener.slot) for listener in state.listeners.values()),
        *((SlotKind.POOL, pool.slot) for pool in state.pools.values()),
        *((SlotKind.BACKEND, backend.slot) for _, backend in state.backends()),
    }


def record(**values: Any) -> SessionRecord:
    fields: dict[str, Any] = {
        "id": 1,
        "event": EventKind.CLOSE,
        "listener": 1,
        "pool": 2,
        "backend": 3,
        "client": "127.0.0.1",
        "client_port": 1234,
        "state": SessionState.RELAY,
        "close": ("normal", "--"),
        "path": Path.COPY,
        "retries": 0,
        "phase": Phase.QUIET,
        "pin": None,
        "status": None,
        "turns": 1,
        "moves": 0,
        "started": 0.0,
        "duration": 1.0,
        "queue": 0.0,
        "connect": 0.001,
        "first_byte": 0.01,
        "bytes_in": 1,
        "bytes_out": 2,
        "idle": 0.0,
    }
    return SessionRecord(**(fields | values))
