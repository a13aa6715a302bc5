"""What the control plane knows of every listener, pool and backend. Frozen: a change is a new `State`.

A backend is known by its pool and name. Whoever is in the old state and the new one keeps its slot, and with it its
counters and sessions, its health, and what an operator did to it at run time, until the file changes that backend.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from l4lb.agent.protocol import NOTHING_SAID, Verdict
from l4lb.config import Address, Config, model
from l4lb.control.api import AdminState, HealthState
from l4lb.discovery.source import Readiness
from l4lb.engine.api import SlotKind
from l4lb.engine.packing import pack_networks
from l4lb.health.probes import Target

BackendKey = tuple[str, str]
"""Pool and name."""

WEIGHT_SCALE = 16
"""Parts of a weight of 1 that the data plane can tell apart where weights are not whole."""

_RESTRICTION = (AdminState.READY, AdminState.DRAIN, AdminState.MAINT)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendEntry:
    """`target` is None until a name is resolved. `weight` is the run-time weight, None while the file's counts.

    `state` is what the operator wants, `agent` what the backend's agent said, `readiness` what the source says that
    found it; all have a say. `factor` is what load and slow start make of the weight. `usable_since` is a time of the
    event loop, None while the backend is not usable; one that becomes usable before `warm_until` needs no slow start.
    """

    slot: int
    config: model.Backend
    target: Target | None
    state: AdminState = AdminState.READY
    weight: int | None = None
    health: HealthState = HealthState.NONE
    agent: Verdict = NOTHING_SAID
    readiness: Readiness = Readiness.READY
    factor: float = 1.0
    usable_since: float | None = None
    warm_until: float = -math.inf

    @property
    def current_weight(self) -> int:
        return self.config.weight if self.weight is None else self.weight

    @property
    def admin_state(self) -> AdminState:
        """The most restrictive of what the operator, the agent and the source want."""
        source = AdminState.DRAIN if self.readiness is Readiness.DRAINING else AdminState.READY
        return max(self.state, self.agent.state, source, key=_RESTRICTION.index)

    @property
    def agreed_health(self) -> HealthState:
        """Up only if the checks, the agent and the source say so."""
        down = self.agent.down or self.readiness is Readiness.NOT_READY
        return HealthState.DOWN if down else self.health

    @property
    def leaving(self) -> bool:
        """Whether its quiet sessions are to go: it is drained for good, not just not chosen."""
        return self.state is not AdminState.READY or self.readiness is Readiness.DRAINING

    @property
    def full_weight(self) -> float:
        """The weight as the agent has it, before load and slow start."""
        weight = self.current_weight
        return weight if self.agent.weight is None else self.agent.weight.of(weight)

    @property
    def exact_weight(self) -> float:
        return self.full_weight * self.factor

    @property
    def max_connections(self) -> int:
        return self.config.max_connections if self.agent.max_connections is None else self.agent.max_connections

    @property
    def usable(self) -> bool:
        return (
            self.admin_state is AdminState.READY
            and self.agreed_health in (HealthState.UP, HealthState.NONE)
            and self.target is not None
            and self.full_weight > 0
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolEntry:
    slot: int
    config: model.Pool
    backends: Mapping[str, BackendEntry]

    @property
    def checked(self) -> bool:
        return self.config.health is not None and self.config.health.type != "none"

    @property
    def scale(self) -> int:
        """By how much the data plane's weights are larger: WEIGHT_SCALE where some weight is not whole."""
        whole = all(backend.exact_weight.is_integer() for backend in self.backends.values())
        return 1 if whole else WEIGHT_SCALE

    def effective_weights(self) -> dict[str, float]:
        """What balancing uses, on the scale of the file: 0 for a backend that takes no new session."""
        scale, weights = self.scale, self.weights()
        return {name: weights[name] / scale if backend.usable else 0 for name, backend in self.backends.items()}

    def weights(self) -> dict[str, int]:
        """What the data plane is told. Who has any weight keeps a little of it."""
        scale = self.scale
        return {
            name: max(1, round(exact * scale)) if (exact := backend.exact_weight) > 0 else 0
            for name, backend in self.backends.items()
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerEntry:
    """The networks are packed for the data plane once, not for each snapshot."""

    slot: int
    config: model.Listener
    allow: bytes
    deny: bytes
    proxy_from: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    listeners: Mapping[str, ListenerEntry] = field(default_factory=dict)
    pools: Mapping[str, PoolEntry] = field(default_factory=dict)

    def backends(self) -> Iterator[tuple[BackendKey, BackendEntry]]:
        for pool_name, pool in self.pools.items():
            for name, backend in pool.backends.items():
                yield (pool_name, name), backend

    def slots(self) -> set[tuple[SlotKind, int]]:
        return {
            *((SlotKind.LISTENER, listener.slot) for listener in self.listeners.values()),
            *((SlotKind.POOL, pool.slot) for pool in self.pools.values()),
            *((SlotKind.BACKEND, backend.slot) for _, backend in self.backends()),
        }

    def find(self, key: BackendKey) -> BackendEntry | None:
        pool = self.pools.get(key[0])
        return None if pool is None else pool.backends.get(key[1])

    def with_backends(self, changed: Mapping[BackendKey, BackendEntry]) -> State:
        """The state with these backends in place of those of the same names."""
        pools = dict(self.pools)
        for (pool_name, name), backend in changed.items():
            pool = pools[pool_name]
            pools[pool_name] = replace(pool, backends={**pool.backends, name: backend})
        return replace(self, pools=pools)


def merge(old: State, config: Config, targets: Mapping[Address, Target], take_slot: Callable[[SlotKind], int]) -> State:
    """The state that `config` asks for. `take_slot` is called for what is new."""
    pools = {name: _merge_pool(old.pools.get(name), pool, targets, take_slot) for name, pool in config.pools.items()}
    listeners = {}
    for name, listener in config.listeners.items():
        known = old.listeners.get(name)
        slot = take_slot(SlotKind.LISTENER) if known is None else known.slot
        proxy = listener.proxy_protocol
        listeners[name] = ListenerEntry(
            slot=slot,
            config=listener,
            allow=pack_networks(listener.allow),
            deny=pack_networks(listener.deny),
            proxy_from=b"" if proxy is None else pack_networks(proxy.from_),
        )
    return State(listeners=listeners, pools=pools)


def _merge_pool(
    old: PoolEntry | None,
    config: model.Pool,
    targets: Mapping[Address, Target],
    take_slot: Callable[[SlotKind], int],
) -> PoolEntry:
    slot = take_slot(SlotKind.POOL) if old is None else old.slot
    pool = PoolEntry(slot=slot, config=config, backends={})
    known = {} if old is None else old.backends
    was_checked = old is not None and old.checked
    backends = {}
    for backend in config.backends:
        before = known.get(backend.name)
        target = targets.get(backend.address)
        if before is None:
            entry = BackendEntry(slot=take_slot(SlotKind.BACKEND), config=backend, target=target)
        elif before.config == backend:
            agent = NOTHING_SAID if config.agent is None else before.agent
            entry = replace(before, target=target or before.target, agent=agent)
        else:
            moved = before.config.address != backend.address
            entry = BackendEntry(
                slot=before.slot,
                config=backend,
                target=target,
                health=HealthState.PENDING if moved else before.health,
                readiness=before.readiness,
                usable_since=None if moved else before.usable_since,
                warm_until=before.warm_until,
            )
        backends[backend.name] = replace(entry, health=_health(pool, entry, before, was_checked=was_checked))
    return replace(pool, backends=backends)


def _health(pool: PoolEntry, entry: BackendEntry, before: BackendEntry | None, *, was_checked: bool) -> HealthState:
    if not pool.checked:
        return HealthState.NONE
    if before is None:
        return HealthState.PENDING
    # A backend that served without checks goes on serving until a check says otherwise.
    return entry.health if was_checked else HealthState.UP
