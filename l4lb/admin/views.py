"""What the JSON API says of the running state. Pure: from the control plane's types to plain dicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from l4lb.engine import BACKEND_STATS, LISTENER_STATS, POOL_STATS, STICKY_STATS, WORKER_STATS
from l4lb.engine.statistics import Stat, Statistics, StatKind, StickyStatistics
from l4lb.observe.access import client_address
from l4lb.observe.logs import timestamp
from l4lb.status import (
    AdminState,
    AgentStatus,
    BackendStatus,
    DiscoveryStatus,
    EjectionStatus,
    FailoverStatus,
    HealthState,
    ListenerStatus,
    LoadStatus,
    PoolStatus,
    Session,
    ShutdownStatus,
    Status,
)

Json = dict[str, object]


HIDDEN = "shown on the admin socket only"


def public(status: Status) -> Status:
    """What any client of the admin address may read: all but what programs and scripts of checks quote."""
    pools = {name: replace(pool, backends=_public(pool.backends)) for name, pool in status.pools.items()}
    return replace(status, pools=pools)


def _public(backends: Mapping[str, BackendStatus]) -> Mapping[str, BackendStatus]:
    if not any(backend.output for backend in backends.values()):
        return backends
    return {name: public_backend(backend) for name, backend in backends.items()}


def public_backend(backend: BackendStatus) -> BackendStatus:
    """One backend without the details that only operators may read."""
    return replace(backend, health_message=HIDDEN) if backend.output and backend.health_message else backend


def status_view(status: Status) -> Json:
    """The whole state. Times are RFC 3339."""
    config = status.config
    return {
        "version": status.version,
        "pid": status.pid,
        "uptime_seconds": round(status.uptime_seconds, 3),
        "stopping": status.stopping,
        "max_connections": status.max_connections,
        "shutdown": None if status.shutdown is None else _shutdown(status.shutdown),
        "config": {
            "file": config.file,
            "loaded_at": timestamp(config.loaded_at),
            "last_reload_ok": config.last_reload_ok,
            "last_reload_at": timestamp(config.last_reload_at),
            "last_error": config.last_error,
            "restart_notes": list(config.restart_notes),
        },
        "upgrade": {
            "under_way": status.upgrade.under_way,
            "done_total": status.upgrade.done_total,
            "failed_total": status.upgrade.failed_total,
            "last_error": status.upgrade.last_error,
        },
        "listeners": {name: _listener(listener) for name, listener in status.listeners.items()},
        "pools": {name: _pool(pool) for name, pool in status.pools.items()},
        "workers": [_numbers(WORKER_STATS, worker) for worker in status.workers],
    }


def _shutdown(shutdown: ShutdownStatus) -> Json:
    return {
        "age_s": round(shutdown.age, 3),
        "left_s": None if shutdown.left is None else round(shutdown.left, 3),
        "sessions": shutdown.sessions,
        "busy": shutdown.busy,
    }


def _listener(listener: ListenerStatus) -> Json:
    statistics = listener.statistics
    return {
        "bind": list(listener.bind),
        "lost": list(listener.lost),
        "pool": listener.pool,
        "max_connections": listener.max_connections,
        **_numbers(LISTENER_STATS, statistics),
        "rejected_total": dict(statistics.rejected_total),
    }


def _pool(pool: PoolStatus) -> Json:
    closed: dict[str, dict[str, int]] = {}
    for (reason, code), count in pool.statistics.closed_total.items():
        closed.setdefault(reason, {})[code] = count
    return {
        "balance": pool.balance,
        "protocol": pool.protocol,
        "panic": pool.panic,
        "ejections_withheld_total": pool.ejections_withheld_total,
        "scale_to_zero": pool.scale_to_zero,
        **_numbers(POOL_STATS, pool.statistics),
        "queue_size": pool.queue_size,
        "fault": pool.fault.message,
        "discovery": None if pool.discovery is None else _discovery(pool.discovery),
        "failover": None if pool.failover is None else _failover(pool.failover),
        "sticky": None if pool.statistics.sticky is None else _sticky(pool.statistics.sticky, pool.sticky_entries),
        "closed_total": closed,
        "pinned_total": dict(pool.statistics.pinned_total),
        "removed": list(pool.removed),
        "backends": {name: backend_view(backend) for name, backend in pool.backends.items()},
    }


def _failover(failover: FailoverStatus) -> Json:
    return {"current": failover.current, "held": list(failover.held), "message": failover.message}


def _discovery(discovery: DiscoveryStatus) -> Json:
    return {
        "source": discovery.source,
        "working": discovery.working,
        "message": discovery.message,
        "age_s": None if discovery.age is None else round(discovery.age, 3),
        "endpoints": discovery.endpoints,
        "held": discovery.held,
        "unusable": discovery.unusable,
        "updates_total": dict(discovery.updates_total),
    }


def _sticky(sticky: StickyStatistics, entries_max: int | None) -> Json:
    return {
        "entries": sticky.entries,
        "entries_max": entries_max,
        **_numbers(STICKY_STATS, sticky),
    }


def backend_view(backend: BackendStatus) -> Json:
    """One backend. `busy` counts turns in flight; `bytes_in` are
    sent to the backend on behalf of clients, `bytes_out` are received from it."""
    return {
        "address": backend.address,
        "tier": backend.tier,
        "zone": backend.zone,
        "state": backend.state.value,
        "health": backend.health.value,
        "health_message": backend.health_message,
        "health_checks_total": dict(backend.health_checks_total),
        "weight": backend.weight,
        "effective_weight": whole(backend.effective_weight),
        "max_connections": backend.max_connections,
        "max_busy": backend.max_busy,
        "max_busy_message": backend.max_busy_message,
        **_numbers(BACKEND_STATS, backend.statistics),
        "responses_total": dict(backend.statistics.responses_total),
        "flaps": backend.flaps,
        "cold_left": backend.cold_left,
        "stalled": backend.stalled,
        "origin": backend.origin.value,
        "changed": list(backend.changed),
        "ejection": None if backend.ejection is None else _ejection(backend.ejection),
        "load": None if backend.load is None else _load(backend.load),
        "agent": None if backend.agent is None else _agent(backend.agent),
    }


def whole(number: float) -> float:
    """A whole number as one, any other to four digits: sixteenths are exact."""
    return int(number) if number == int(number) else round(number, 4)


def _load(load: LoadStatus) -> Json:
    return {
        "utilisation": None if load.utilisation is None else round(load.utilisation, 3),
        "signals": dict(load.readings),
        "age_s": None if load.age is None else round(load.age, 3),
        "stale": load.stale,
        "factor": round(load.factor, 3),
        "message": load.message,
        "scrapes_total": dict(load.scrapes_total),
    }


def _ejection(ejection: EjectionStatus) -> Json:
    return {
        "cause": ejection.cause,
        "left_s": None if ejection.left is None else round(ejection.left, 3),
        "ejections_total": dict(ejection.ejections_total),
    }


def _agent(agent: AgentStatus) -> Json:
    return {"message": agent.message, "checks_total": dict(agent.checks_total)}


_KEYS = {"latency_us": "latency_s", "sent_bytes_total": "bytes_in", "received_bytes_total": "bytes_out"}
"""Keys of the API that differ from the names of statistics: bytes are named as clients see them."""


def _numbers(table: Iterable[Stat], statistics: Statistics) -> Json:
    """The gauges and counters of a table of `l4lb.h`."""
    return {
        _KEYS.get(stat.name, stat.name): getattr(statistics, stat.attribute)
        for stat in table
        if stat.kind in (StatKind.GAUGE, StatKind.COUNTER)
    }


def session_view(session: Session) -> Json:
    """A live session. Times are seconds; null for a phase that was not reached."""
    record = session.record
    return {
        "session": record.id,
        "listener": session.listener,
        "client": client_address(session),
        "pool": session.pool,
        "backend": session.backend,
        "state": record.state.name.lower(),
        "phase": record.phase.name.lower(),
        "turns": record.turns,
        "moves": record.moves,
        "pin": record.pin,
        "status": record.status,
        "started": timestamp(record.started),
        "duration_s": round(record.duration, 3),
        "idle_s": round(record.idle, 3),
        "queue_s": record.queue,
        "connect_s": record.connect,
        "first_byte_s": record.first_byte,
        "bytes_in": record.bytes_in,
        "bytes_out": record.bytes_out,
        "retries": record.retries,
        "path": record.path.name.lower(),
    }


def is_up(backend: BackendStatus) -> bool:
    """Whether nothing is known against the backend: its checks pass, or there are none."""
    return backend.health in (HealthState.UP, HealthState.NONE)


def is_usable(backend: BackendStatus) -> bool:
    """Whether it takes new sessions, as far as it has room."""
    return backend.effective_weight > 0


def autoscale_view(name: str, pool: PoolStatus) -> Json:
    """A pool's demand and backends, in numbers that a KEDA `metrics-api` trigger can read.

    `demand` and `sessions` add up over several l4lb, and none is a share of the backends that are there: those that are
    being started would be started again.
    """
    backends = pool.backends.values()
    queued = pool.statistics.queued
    busy = sum(backend.statistics.busy for backend in backends)
    connections = sum(backend.statistics.connections for backend in backends)
    return {
        "pool": name,
        "demand": busy + queued,
        "sessions": connections + queued,
        "queued": queued,
        "busy": busy,
        "connections": connections,
        "backends": {
            "total": len(pool.backends),
            "ready": sum(backend.state is AdminState.READY for backend in backends),
            "usable": sum(map(is_usable, backends)),
        },
    }
