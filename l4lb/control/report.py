"""What the balancer shows of itself: the state of the control plane beside the numbers of the data plane."""

from __future__ import annotations

from l4lb.control.api import BackendStatus, HealthState, ListenerStatus, PoolStatus
from l4lb.control.sockets import Sockets, bind_key
from l4lb.control.state import BackendEntry, BackendKey, ListenerEntry, PoolEntry
from l4lb.engine.api import Engine
from l4lb.health.scheduler import Scheduler


def listener_status(name: str, listener: ListenerEntry, sockets: Sockets, engine: Engine) -> ListenerStatus:
    binds = (sockets.binds.get(bind_key(name, address)) for address in listener.config.bind)
    return ListenerStatus(
        bind=tuple(bind.shown for bind in binds if bind is not None),
        pool=listener.config.pool,
        statistics=engine.listener_statistics(listener.slot),
    )


def pool_status(name: str, pool: PoolEntry, scheduler: Scheduler[BackendKey], engine: Engine) -> PoolStatus:
    return PoolStatus(
        balance=pool.config.balance,
        backends={
            backend_name: _backend_status((name, backend_name), backend, scheduler, engine)
            for backend_name, backend in pool.backends.items()
        },
        statistics=engine.pool_statistics(pool.slot),
    )


def _backend_status(
    key: BackendKey, backend: BackendEntry, scheduler: Scheduler[BackendKey], engine: Engine
) -> BackendStatus:
    watch = scheduler.watch(key)
    if backend.target is None:
        message = "its name does not resolve"
    elif watch is None:
        message = "not checked" if backend.health is HealthState.NONE else "not checked in maintenance"
    else:
        message = watch.message
    return BackendStatus(
        address=str(backend.config.address),
        state=backend.state,
        health=backend.health,
        health_message=message,
        health_checks_total={} if watch is None else watch.results_total,
        weight=backend.current_weight,
        effective_weight=backend.effective_weight,
        statistics=engine.backend_statistics(backend.slot),
    )
