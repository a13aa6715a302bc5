"""From what discovery found to backends of the pools, beside those of the file. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from l4lb.config import Config, model
from l4lb.control.state import BackendKey, State
from l4lb.discovery.source import Endpoint, Readiness

Found = Mapping[str, Sequence[Endpoint]]
"""Endpoints by pool."""


def expand(config: Config, found: Found) -> Config:
    """The configuration as if the file had the endpoints. A backend of the file keeps its name for itself."""
    pools = {name: _expanded(pool, found.get(name, ())) for name, pool in config.pools.items()}
    return config.model_copy(update={"pools": pools})


def _expanded(pool: model.Pool, endpoints: Sequence[Endpoint]) -> model.Pool:
    taken = {backend.name for backend in pool.backends}
    more = tuple(_backend(endpoint) for endpoint in endpoints if endpoint.name not in taken)
    return pool.model_copy(update={"backends": (*pool.backends, *more)}) if more else pool


def _backend(endpoint: Endpoint) -> model.Backend:
    return model.Backend(name=endpoint.name, address=endpoint.address, weight=endpoint.weight)


def mark(state: State, config: Config, found: Found) -> State:
    """The state in which every backend is as ready as its source says; those of the file always are."""
    changed = {}
    for key, readiness in _readiness(config, found).items():
        entry = state.find(key)
        if entry is not None and entry.readiness is not readiness:
            changed[key] = replace(entry, readiness=readiness)
    return state.with_backends(changed) if changed else state


def _readiness(config: Config, found: Found) -> dict[BackendKey, Readiness]:
    said: dict[BackendKey, Readiness] = {}
    for pool_name, pool in config.pools.items():
        said |= {(pool_name, endpoint.name): endpoint.readiness for endpoint in found.get(pool_name, ())}
        said |= {(pool_name, backend.name): Readiness.READY for backend in pool.backends}
    return said
