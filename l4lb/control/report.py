"""What the balancer shows of itself: the state of the control plane beside the numbers of the data plane."""

from __future__ import annotations

from l4lb.control.api import (
    AdminState,
    AgentStatus,
    BackendStatus,
    DiscoveryStatus,
    EjectionStatus,
    HealthState,
    ListenerStatus,
    PoolFaultStatus,
    PoolStatus,
)
from l4lb.control.edits import Origins
from l4lb.control.failover import failover_status
from l4lb.control.outliers import Outliers
from l4lb.control.sockets import Sockets, bind_key
from l4lb.control.state import BackendEntry, BackendKey, ListenerEntry, PoolEntry
from l4lb.discovery.source import Readiness
from l4lb.engine.api import Engine
from l4lb.health.scheduler import Scheduler, Watch
from l4lb.load.poller import Asked
from l4lb.load.weigher import Question, Weigher


def listener_status(name: str, listener: ListenerEntry, sockets: Sockets, engine: Engine) -> ListenerStatus:
    found = (sockets.binds.get(bind_key(name, address)) for address in listener.config.bind)
    binds = [bind for bind in found if bind is not None]
    return ListenerStatus(
        bind=tuple(bind.shown for bind in binds),
        lost=tuple(bind.shown for bind in binds if bind.is_lost),
        pool=listener.config.pool,
        statistics=engine.listener_statistics(listener.slot),
        max_connections=listener.config.max_connections or None,
    )


def pool_status(
    name: str,
    pool: PoolEntry,
    scheduler: Scheduler[BackendKey],
    weigher: Weigher,
    outliers: Outliers,
    engine: Engine,
    now: float,
    discovery: DiscoveryStatus | None,
    origins: Origins,
    fault: PoolFaultStatus,
) -> PoolStatus:
    weights = pool.effective_weights()
    # Who leaves the waiting room meanwhile is seen twice, rather than not at all.
    statistics = engine.pool_statistics(pool.slot)
    quotes = pool.config.health is not None and pool.config.health.type in ("exec", "send_expect")
    return PoolStatus(
        balance=pool.config.balance,
        panic=pool.panic,
        backends={
            backend_name: BackendStatus(
                address=str(backend.config.address),
                tier=backend.config.tier,
                zone=backend.config.zone,
                state=backend.admin_state,
                health=backend.agreed_health,
                health_message=_message(
                    backend,
                    watch := scheduler.watch((name, backend_name)),
                    ejection := outliers.status((name, backend_name), now),
                ),
                health_checks_total={} if watch is None else watch.results_total,
                weight=backend.current_weight,
                effective_weight=weights[backend_name],
                statistics=engine.backend_statistics(backend.slot),
                load=weigher.load((name, backend_name), backend, now),
                agent=_agent_status(weigher.agent((name, backend_name))),
                ejection=ejection,
                flaps=0 if watch is None else watch.health.flaps,
                stalled=backend.stalled is not None,
                max_connections=backend.max_connections or None,
                max_busy=backend.config.max_busy or None,
                origin=origins.of(backend_name),
                changed=origins.changed(backend_name),
                output=quotes,
            )
            for backend_name, backend in pool.backends.items()
        },
        statistics=statistics,
        scale_to_zero=pool.config.scale_to_zero,
        discovery=discovery,
        failover=failover_status(pool, now),
        fault=fault,
        ejections_withheld_total=outliers.withheld(name),
        queue_size=None if pool.config.queue is None else pool.config.queue.size,
        sticky_entries=None if pool.config.sticky is None else pool.config.sticky.entries,
        removed=origins.removed,
    )


def _message(backend: BackendEntry, watch: Watch | None, ejection: EjectionStatus | None) -> str:
    if backend.target is None:
        interface = backend.config.address.interface
        return "its name does not resolve" if interface is None else f"this host has no interface {interface}"
    if backend.readiness is not Readiness.READY:
        return f"its source says it is {'draining' if backend.readiness is Readiness.DRAINING else 'not ready'}"
    agent = backend.agent
    if agent.down or agent.state is not AdminState.READY:
        said = "down" if agent.down else agent.state.value
        return f"its agent says {said}{f': {agent.remark}' if agent.remark else ''}"
    if backend.stalled is not None:
        return backend.stalled
    if ejection is not None and ejection.left is not None:
        return f"ejected for another {ejection.left:.0f}s ({ejection.cause})"
    if watch is None:
        return "not checked" if backend.health is HealthState.NONE else "not checked in maintenance"
    return watch.message


def _agent_status(asked: Asked[Question] | None) -> AgentStatus | None:
    return None if asked is None else AgentStatus(message=asked.message, checks_total=asked.results_total)
