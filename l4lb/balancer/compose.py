"""From the state of the control plane to a snapshot for the data plane."""

from __future__ import annotations

import socket
from collections.abc import Container, Iterator, Mapping

from l4lb.config import model
from l4lb.engine.api import (
    NO_EVENTS,
    BackendSpec,
    Balance,
    EventKind,
    HashKey,
    ListenerSpec,
    PoolProtocol,
    PoolSpec,
    ProxyMode,
    Resend,
    SendProxy,
    Snapshot,
    TcpSpec,
)
from l4lb.net.dial import source_address
from l4lb.sockets.bind import BindKey, Rows, bind_key
from l4lb.state.backend_entry import BackendEntry
from l4lb.state.containment import PoolFaults
from l4lb.state.state import ListenerEntry, PoolEntry, State
from l4lb.state.tables import table_size

_NOWHERE = ("0.0.0.0", 0)
"""Stands for an address that is not known yet. Such a backend is not usable, so no client is sent there."""


class Composer:
    """Pools that are the same as in the last snapshot are not composed again: one change in ten thousand backends is
    passed on at once. `events` are reported besides those that are logged."""

    def __init__(self, events: EventKind = NO_EVENTS) -> None:
        self._events = events
        self._numbers: Mapping[str, int] = {}
        self._pools: dict[str, tuple[PoolEntry, PoolSpec]] = {}

    def compose(
        self,
        state: State,
        fds: Mapping[BindKey, Rows],
        log: model.Log,
        *,
        accepting: bool = True,
        kept: Container[str] = (),
    ) -> Snapshot:
        """`fds` holds the listening sockets of each bind. The pools in `kept` are as they were last, whatever the state
        has; PoolFaults has those that cannot be composed.

        Without `accepting` listeners have no sockets; they are still there for clients that have not shown their PROXY
        header yet.
        """
        indices = {name: index for index, name in enumerate(state.pools)}
        sockets = {
            name: _sockets(name, listener, fds) if accepting else () for name, listener in state.listeners.items()
        }
        return Snapshot(
            listeners=tuple(_listener(listener, indices, sockets[name]) for name, listener in state.listeners.items()),
            pools=self._compose_pools(state, kept),
            zones=state.zones.table,
            events=self._events | _events(log.access),
            interval_ms=0 if log.access is None else _ms(log.access.interval),
        )

    def has(self, pool: str) -> bool:
        """Whether the pool was composed before."""
        return pool in self._pools

    def new(self, state: State, snapshot: Snapshot) -> Iterator[tuple[str, PoolSpec]]:
        """The pools of a snapshot of this state that are not what was passed on last, see `settle`."""
        for name, spec in zip(state.pools, snapshot.pools, strict=True):
            if name not in self._pools or self._pools[name][1] is not spec:
                yield name, spec

    def settle(self, state: State, snapshot: Snapshot) -> None:
        """This was passed on: what does not change is not composed again."""
        known, self._pools = self._pools, {}
        self._numbers = state.zones.numbers
        for (name, pool), spec in zip(state.pools.items(), snapshot.pools, strict=True):
            before = known.get(name)
            # One that was kept is still of the state it was made of, so that it is tried again.
            self._pools[name] = before if before is not None and before[1] is spec else (pool, spec)

    def _compose_pools(self, state: State, kept: Container[str]) -> tuple[PoolSpec, ...]:
        numbers = state.zones.numbers
        same_zones = numbers == self._numbers
        specs, faults = [], {}
        for name, pool in state.pools.items():
            before = self._pools.get(name)
            if before is not None and ((same_zones and before[0] is pool) or name in kept):
                specs.append(before[1])
                continue
            try:
                specs.append(_pool(pool, numbers))
            except Exception as error:
                faults[name] = error
        if faults:
            raise PoolFaults(faults)
        return tuple(specs)


def _ms(seconds: float | None) -> int:
    return 0 if seconds is None else max(1, round(seconds * 1000))


def _events(access: model.AccessLog | None) -> EventKind:
    events = NO_EVENTS
    for name in () if access is None else access.events:
        events |= EventKind[name.upper()]
    return events


def _sockets(name: str, listener: ListenerEntry, fds: Mapping[BindKey, Rows]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(row) for address in listener.config.bind for row in fds[bind_key(name, address)])


def _listener(
    listener: ListenerEntry, pool_indices: Mapping[str, int], sockets: tuple[tuple[int, ...], ...]
) -> ListenerSpec:
    config, proxy = listener.config, listener.config.proxy_protocol
    return ListenerSpec(
        slot=listener.slot,
        pool=pool_indices[config.pool],
        fds=sockets,
        max_connections=config.max_connections,
        allow=listener.access.allow,
        deny=listener.access.deny,
        proxy_mode=ProxyMode.OFF if proxy is None else ProxyMode[proxy.mode.upper()],
        proxy_from=listener.access.proxy_from,
        proxy_timeout_ms=0 if proxy is None else _ms(proxy.timeout),
        routes=tuple((name, pool_indices[pool]) for name, pool in config.sni.items()),
    )


def _pool(pool: PoolEntry, zones: Mapping[str, int]) -> PoolSpec:
    config, timeouts, weights, taking = pool.config, pool.config.timeouts, pool.weights(), pool.accepting()
    return PoolSpec(
        slot=pool.slot,
        balance=Balance.MAGLEV if config.balance == "source_hash" else Balance[config.balance.upper()],
        table_size=table_size(pool),
        max_load=0 if config.hash.max_load is None else round(config.hash.max_load * 100),
        hash_key=HashKey[config.hash.key.upper()],
        retries=config.retries,
        send_proxy=SendProxy[config.send_proxy.upper()],
        protocol=PoolProtocol[config.protocol.upper()],
        resend=Resend[config.resend.upper()],
        connect_ms=_ms(timeouts.connect),
        idle_ms=_ms(timeouts.idle),
        half_close_ms=_ms(timeouts.half_close),
        lifetime_ms=_ms(timeouts.lifetime),
        first_byte_ms=_ms(timeouts.first_byte),
        response_ms=_ms(timeouts.response),
        stream_gap_ms=_ms(timeouts.stream_gap),
        keepalive_ms=_ms(timeouts.keepalive),
        backend_keepalive_ms=_ms(timeouts.backend_keepalive),
        hello_ms=_ms(timeouts.hello),
        tcp=_tcp(config.tcp),
        queue_size=0 if config.queue is None else config.queue.size,
        queue_ms=0 if config.queue is None else _ms(config.queue.timeout),
        abort_on_close=config.abort_on_close,
        sticky_entries=0 if config.sticky is None else config.sticky.entries,
        sticky_ttl_ms=0 if config.sticky is None else _ms(config.sticky.ttl),
        sources=tuple(source_address(source) for source in config.source),
        backends=tuple(
            _backend(backend, weights[name], zones, config.slow_start.turns, usable=name in taking)
            for name, backend in pool.backends.items()
        ),
    )


def _tcp(tcp: model.Tcp) -> TcpSpec:
    if tcp.keepalive is None:
        return TcpSpec(user_timeout_ms=_ms(tcp.user_timeout))
    return TcpSpec(
        keepalive_s=round(tcp.keepalive),
        interval_s=round(tcp.keepalive_interval),
        probes=tcp.keepalive_probes,
        user_timeout_ms=_ms(tcp.user_timeout),
    )


def _backend(
    backend: BackendEntry, weight: int, zones: Mapping[str, int], cold_max_busy: int, *, usable: bool
) -> BackendSpec:
    target, zone = backend.target, backend.config.zone
    return BackendSpec(
        slot=backend.slot,
        name=backend.config.name,
        family=socket.AF_INET if target is None else target.family,
        address=_NOWHERE if target is None else target.address,
        weight=weight,
        max_connections=backend.max_connections,
        max_busy=backend.max_busy,
        cold_max_busy=cold_max_busy,
        usable=usable,
        tier=backend.config.tier,
        zone=0 if zone is None else zones[zone],
    )
