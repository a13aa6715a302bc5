"""Turns the endpoints that discovery found into backends of their pools, beside those of the file. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

from l4lb.config import Config, model
from l4lb.discovery.source import Endpoint, Readiness
from l4lb.state.state import State

Found = Mapping[str, Sequence[Endpoint]]
"""Endpoints by pool."""


def expand(config: Config, found: Found) -> Config:
    """The configuration as if the file listed the endpoints. An endpoint named like a listed backend is left out."""
    zones = config.zones.keys()
    pools = {name: _expanded(pool, found.get(name, ()), zones) for name, pool in config.pools.items()}
    return config.model_copy(update={"pools": pools})


def _expanded(pool: model.Pool, endpoints: Sequence[Endpoint], zones: Set[str]) -> model.Pool:
    settings = pool.discover
    if settings is None:
        return pool
    more = tuple(_backend(endpoint, zones, settings) for endpoint in _unlisted(pool, endpoints))
    return pool.model_copy(update={"backends": (*pool.backends, *more)}) if more else pool


def _unlisted(pool: model.Pool, endpoints: Sequence[Endpoint]) -> Sequence[Endpoint]:
    listed = {backend.name for backend in pool.backends} if endpoints else ()
    return [endpoint for endpoint in endpoints if endpoint.name not in listed]


def _backend(endpoint: Endpoint, zones: Set[str], settings: model.Discover) -> model.Backend:
    return model.Backend(
        name=endpoint.name,
        address=endpoint.address,
        weight=endpoint.weight,
        tier=endpoint.tier,
        zone=_zone(endpoint, zones),
        max_connections=settings.max_connections,
        max_busy=settings.max_busy,
    )


def _zone(endpoint: Endpoint, zones: Set[str]) -> str | None:
    """The endpoint's zone if the configuration has it; no client is in any other zone."""
    return endpoint.zone if endpoint.zone in zones else None


def place(state: State, config: Config, found: Found) -> State:
    """The state with the known endpoints moved to their present tier and zone.

    Sources move endpoints whenever others come and go. Such a move must not drop the operator's changes, as any other
    change of a backend does.
    """
    changed = {}
    for pool_name, pool in config.pools.items():
        for endpoint in _unlisted(pool, found.get(pool_name, ())):
            entry = state.find((pool_name, endpoint.name))
            there = {"tier": endpoint.tier, "zone": _zone(endpoint, config.zones.keys())}
            if entry is not None and {"tier": entry.config.tier, "zone": entry.config.zone} != there:
                moved = entry.config.model_copy(update=there)
                changed[pool_name, endpoint.name] = replace(entry, config=moved)
    return state.with_backends(changed) if changed else state


def mark(state: State, config: Config, found: Found) -> State:
    """The state with the readiness that sources report. Backends of the file are ready. Pools without a report stay as
    they are."""
    changed = {}
    for pool_name, pool in config.pools.items():
        if pool.discover is not None and pool_name not in found:
            continue
        said = {endpoint.name: _seen(endpoint, pool) for endpoint in _unlisted(pool, found.get(pool_name, ()))}
        for name, entry in state.pools[pool_name].backends.items():
            readiness = said.get(name, Readiness.READY)
            if entry.readiness is not readiness:
                changed[pool_name, name] = replace(entry, readiness=readiness)
    return state.with_backends(changed) if changed else state


def _seen(endpoint: Endpoint, pool: model.Pool) -> Readiness:
    """A last resort is better than a rejected client. But if clients may wait for a new backend, it is not needed."""
    if endpoint.readiness is not Readiness.LAST_RESORT:
        return endpoint.readiness
    return Readiness.DRAINING if pool.scale_to_zero else Readiness.READY
