"""The status of listeners, pools and backends: the state of the control plane with the numbers of the data plane."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from l4lb.balancer.failover import failover_status
from l4lb.balancer.limit_controller import LimitController
from l4lb.balancer.outliers import Outliers
from l4lb.balancer.planner import Planner
from l4lb.balancer.store import StateStore
from l4lb.balancer.weight_controller import AgentRequest, WeightController
from l4lb.discovery.source import Readiness
from l4lb.engine.api import Engine
from l4lb.health.scheduler import Scheduler, Watch
from l4lb.load.poller import Asked
from l4lb.sockets.bind import bind_key
from l4lb.sockets.listeners import Sockets
from l4lb.state import edits
from l4lb.state.backend_entry import BackendEntry
from l4lb.state.changes import find
from l4lb.state.containment import Containment
from l4lb.state.edits import Origins
from l4lb.state.state import BackendKey, ListenerEntry, PoolEntry
from l4lb.status import (
    AdminState,
    AgentStatus,
    BackendStatus,
    EjectionStatus,
    HealthState,
    ListenerStatus,
    PoolFaultStatus,
    PoolStatus,
)


@dataclass(frozen=True, slots=True)
class StatusReporter:
    """Asks all parts that know something of listeners and backends. `contained` are the pools with faults."""

    engine: Engine
    store: StateStore
    sockets: Sockets
    planner: Planner
    scheduler: Scheduler[BackendKey]
    weights: WeightController
    limits: LimitController
    outliers: Outliers
    contained: Sequence[Containment]

    def listeners(self) -> dict[str, ListenerStatus]:
        return {name: self._listener(name, listener) for name, listener in self.store.state.listeners.items()}

    def pools(self) -> dict[str, PoolStatus]:
        if self.store.config is None:
            return {}
        now = asyncio.get_running_loop().time()
        origins = edits.origins(self.store.config, self.store.edits)
        return {name: self._pool(name, pool, origins[name], now) for name, pool in self.store.state.pools.items()}

    def backend(self, key: BackendKey) -> BackendStatus:
        """One of them: with thousands, all would take long. ControlError for one that is not there."""
        find(self.store.state, key)
        assert self.store.config is not None
        origins, pool = edits.origins(self.store.config, self.store.edits, [key[0]]), self.store.state.pools[key[0]]
        now, weights = asyncio.get_running_loop().time(), pool.effective_weights()
        return self._backend(key, pool, weights[key[1]], origins[key[0]], now)

    def _listener(self, name: str, listener: ListenerEntry) -> ListenerStatus:
        found = (self.sockets.binds.get(bind_key(name, address)) for address in listener.config.bind)
        binds = [bind for bind in found if bind is not None]
        return ListenerStatus(
            bind=tuple(bind.shown for bind in binds),
            lost=tuple(bind.shown for bind in binds if bind.is_lost),
            pool=listener.config.pool,
            statistics=self.engine.listener_statistics(listener.slot),
            max_connections=listener.config.max_connections or None,
        )

    def _fault(self, pool: str) -> PoolFaultStatus:
        message = next((fault for part in self.contained if (fault := part.fault(pool)) is not None), None)
        return PoolFaultStatus(message, sum(part.faults_total[pool] for part in self.contained))

    def _pool(self, name: str, pool: PoolEntry, origins: Origins, now: float) -> PoolStatus:
        weights = pool.effective_weights()
        # Read before the backends: a client that leaves the queue meanwhile counts twice rather than not at all.
        statistics = self.engine.pool_statistics(pool.slot)
        return PoolStatus(
            balance=pool.config.balance,
            protocol=pool.config.protocol,
            panic=pool.panic,
            backends={
                backend_name: self._backend((name, backend_name), pool, weights[backend_name], origins, now)
                for backend_name in pool.backends
            },
            statistics=statistics,
            scale_to_zero=pool.config.scale_to_zero,
            discovery=self.planner.status(name, now),
            failover=failover_status(pool, now),
            fault=self._fault(name),
            ejections_withheld_total=self.outliers.withheld(name),
            queue_size=None if pool.config.queue is None else pool.config.queue.size,
            sticky_entries=None if pool.config.sticky is None else pool.config.sticky.entries,
            removed=origins.removed,
        )

    def _backend(
        self, key: BackendKey, pool: PoolEntry, effective_weight: float, origins: Origins, now: float
    ) -> BackendStatus:
        backend, health = pool.backends[key[1]], pool.config.health
        watch, ejection = self.scheduler.watch(key), self.outliers.status(key, now)
        return BackendStatus(
            address=str(backend.config.address),
            tier=backend.config.tier,
            zone=backend.config.zone,
            state=backend.agreed_state,
            health=backend.agreed_health,
            health_message=_message(backend, watch, ejection),
            health_checks_total={} if watch is None else watch.results_total,
            weight=backend.current_weight,
            effective_weight=effective_weight,
            statistics=self.engine.backend_statistics(backend.slot),
            load=self.weights.load(key, backend, now),
            agent=_agent_status(self.weights.agent(key)),
            ejection=ejection,
            flaps=0 if watch is None else watch.health.flaps,
            cold_left=self.engine.summaries([backend.slot])[0].cold_left,
            stalled=backend.stalled is not None,
            max_connections=backend.max_connections or None,
            max_busy=backend.max_busy or None,
            max_busy_message=self.limits.explain(key, backend),
            origin=origins.of(key[1]),
            changed=origins.changed(key[1]),
            output=health is not None and health.type in ("exec", "send_expect"),
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


def _agent_status(asked: Asked[AgentRequest] | None) -> AgentStatus | None:
    return None if asked is None else AgentStatus(message=asked.message, checks_total=asked.results_total)
