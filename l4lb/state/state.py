"""What the control plane knows of every listener, pool and backend. Frozen: a change is a new `State`.

A backend is known by its pool and name. Whoever is in the old state and the new one keeps its slot, and with it its
counters and sessions, its health, and what an operator did to it at run time, until the file changes that backend.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from l4lb.agent.protocol import NO_REPORT, AgentReport
from l4lb.config import model
from l4lb.discovery.source import Readiness
from l4lb.net.target import Target
from l4lb.state.access import Access
from l4lb.state.failback import Candidate, Seat, kept, ranks
from l4lb.state.panic import Standing, is_panic
from l4lb.state.zones import NO_ZONES, Zones
from l4lb.status import AdminState, HealthState

BackendKey = tuple[str, str]
"""Pool and name."""

WEIGHT_SCALE = 16
"""Parts of a weight of 1 that the data plane can tell apart where weights are not whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendEntry:
    """`target` is None until a name is resolved. `weight` is the run-time weight, None while the file's counts.

    `ejected` is what clients' connections have led to, `stalled` why its work is found to stand still, else None.
    `state` is what the operator wants, `agent` what the backend's agent said, `readiness` what the source says that
    found it; all have a say. Slow start and load multiply the weight by `slow_start_factor` and `load_factor`.
    `usable_since` is a time of the event loop, None while the backend is not usable; one that becomes usable before
    `warm_until` needs no slow start.
    """

    slot: int
    config: model.Backend
    target: Target | None
    state: AdminState = AdminState.READY
    weight: int | None = None
    health: HealthState = HealthState.NONE
    agent: AgentReport = NO_REPORT
    readiness: Readiness = Readiness.READY
    slow_start_factor: float = 1.0
    load_factor: float = 1.0
    usable_since: float | None = None
    warm_until: float = -math.inf
    ejected: bool = False
    stalled: str | None = None

    @property
    def current_weight(self) -> int:
        return self.config.weight if self.weight is None else self.weight

    @property
    def admin_state(self) -> AdminState:
        """The most restrictive of what the operator, the agent and the source want."""
        wanted = (self.state, self.agent.state)
        if AdminState.MAINT in wanted:
            return AdminState.MAINT
        draining = AdminState.DRAIN in wanted or self.readiness is Readiness.DRAINING
        return AdminState.DRAIN if draining else AdminState.READY

    @property
    def agreed_health(self) -> HealthState:
        """Up only if the checks, the agent, the source and the progress of its work all say so."""
        down = self.agent.down or self.stalled is not None or self.readiness is Readiness.NOT_READY
        return HealthState.DOWN if down else self.health

    @property
    def leaving(self) -> bool:
        """Whether it is drained for good, not just not chosen."""
        return self.state is not AdminState.READY or self.readiness is Readiness.DRAINING

    @property
    def full_weight(self) -> float:
        """The weight as the agent has it, before load and slow start."""
        weight = self.current_weight
        return weight if self.agent.weight is None else self.agent.weight.of(weight)

    @property
    def weight_factor(self) -> float:
        return self.slow_start_factor * self.load_factor

    @property
    def exact_weight(self) -> float:
        return self.full_weight * self.weight_factor

    @property
    def max_connections(self) -> int:
        return self.config.max_connections if self.agent.max_connections is None else self.agent.max_connections

    @property
    def ready(self) -> bool:
        """Whether it would be used if it were healthy."""
        return self.admin_state is AdminState.READY and self.full_weight > 0

    @property
    def usable(self) -> bool:
        return self.eligible and not self.ejected

    @property
    def eligible(self) -> bool:
        """Usable but for an ejection."""
        return self.ready and self.agreed_health in (HealthState.UP, HealthState.NONE) and self.target is not None

    @property
    def pending(self) -> bool:
        """Whether it will be usable if its first check is good."""
        return self.ready and self.agreed_health is HealthState.PENDING and self.target is not None

    @property
    def standing(self) -> Standing:
        """What panic is decided upon: health, and not what clients' connections have led to."""
        return Standing(
            tier=self.config.tier,
            ready=self.ready,
            usable=self.eligible,
            known=self.agreed_health is not HealthState.PENDING,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolEntry:
    """`seat` is the tier or backend that it stays with, see `failback`."""

    slot: int
    config: model.Pool
    backends: Mapping[str, BackendEntry]
    seat: Seat | None = None

    @property
    def checked(self) -> bool:
        return self.config.health is not None and self.config.health.type != "none"

    def checks(self, backend: model.Backend) -> bool:
        """Whether this backend of it is checked."""
        return self.checked and (backend.health is None or backend.health.type != "none")

    def untested(self, backend: model.Backend) -> HealthState:
        """What is said of a backend that was not checked yet."""
        health = self.config.health
        return HealthState.NONE if health is None or not self.checks(backend) else HealthState(health.start)

    @property
    def panic(self) -> bool:
        """Whether so few backends are usable that health is ignored."""
        return is_panic((backend.standing for backend in self.backends.values()), self.config.panic_threshold)

    @property
    def closes_quiet(self) -> bool:
        """Whether the quiet sessions of a backend that leaves are to go."""
        return self.config.drain_quiet == "close"

    @property
    def stays(self) -> bool:
        """Whether it does not go back at once to a better tier or backend that it left."""
        return self.config.failback != 0

    @property
    def spills(self) -> bool:
        """Whether a lower tier takes what the ones above have no place for."""
        return self.config.spill == "on"

    @property
    def by_backend(self) -> bool:
        """Whether its backends have an order of their own, beside their tiers."""
        return self.config.balance == "first"

    def taking(self) -> set[str]:
        """The backends that take new sessions: the willing ones, but for those that failback and spill hold back."""
        if self.spills and self.seat is None:
            return self.willing()
        return kept(self.seat, self.candidates(), spill=self.spills)

    def willing(self) -> set[str]:
        """The usable backends; in a panic all that are ready and not ejected."""
        panic = self.panic
        return {
            name
            for name, backend in self.backends.items()
            if backend.usable or (panic and backend.ready and backend.target is not None and not backend.ejected)
        }

    def candidates(self) -> dict[str, Candidate]:
        """The backends as failback sees them."""
        willing, order = self.willing(), self.ranks()
        return {
            name: Candidate(
                rank=order[name], serves=name in willing, pending=backend.pending, since=backend.usable_since
            )
            for name, backend in self.backends.items()
        }

    def ranks(self) -> dict[str, tuple[int, int]]:
        """Which backends are better than which."""
        tiers = ((name, backend.config.tier) for name, backend in self.backends.items())
        return ranks(tiers, by_backend=self.by_backend)

    def doomed(self) -> set[str]:
        """The backends that are to have no session at all: those that are down or in maintenance, where the pool says
        so. In a panic health is not believed."""
        if self.config.on_down == "keep":
            return set()
        panic = self.panic
        return {
            name
            for name, backend in self.backends.items()
            if backend.admin_state is AdminState.MAINT or (backend.agreed_health is HealthState.DOWN and not panic)
        }

    def places(self) -> dict[tuple[int, str | None], list[str]]:
        """The backends of each tier and zone: those that the same clients are shared out among."""
        places: dict[tuple[int, str | None], list[str]] = {}
        for name, backend in self.backends.items():
            places.setdefault((backend.config.tier, backend.config.zone), []).append(name)
        return places

    def effective_weights(self) -> dict[str, float]:
        """What balancing uses, on the scale of the file: 0 for a backend that takes no new session."""
        (weights, scale), taking = self._scaled(), self.taking()
        return {name: weights[name] / scale if name in taking else 0 for name in self.backends}

    def lasting_weights(self) -> dict[str, float]:
        """The same without what load makes of it, which is different in a moment."""
        taking = self.taking()
        return {
            name: backend.full_weight * backend.slow_start_factor if name in taking else 0
            for name, backend in self.backends.items()
        }

    def weights(self) -> dict[str, int]:
        """What the data plane is told. Who has any weight keeps a little of it."""
        return self._scaled()[0]

    def _scaled(self) -> tuple[dict[str, int], int]:
        """Whole weights, and by how much they are larger than they should be: WEIGHT_SCALE where one is not whole."""
        exact = {name: backend.exact_weight for name, backend in self.backends.items()}
        scale = 1 if all(weight.is_integer() for weight in exact.values()) else WEIGHT_SCALE
        return {name: max(1, round(weight * scale)) if weight > 0 else 0 for name, weight in exact.items()}, scale


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerEntry:
    slot: int
    config: model.Listener
    access: Access


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    listeners: Mapping[str, ListenerEntry] = field(default_factory=dict)
    pools: Mapping[str, PoolEntry] = field(default_factory=dict)
    zones: Zones = NO_ZONES

    @property
    def access(self) -> dict[str, Access]:
        """Of each listener."""
        return {name: listener.access for name, listener in self.listeners.items()}

    def backends(self) -> Iterator[tuple[BackendKey, BackendEntry]]:
        for pool_name, pool in self.pools.items():
            for name, backend in pool.backends.items():
                yield (pool_name, name), backend

    def changed(self, before: State) -> Iterator[BackendKey]:
        """The backends of pools that are not what they were."""
        for pool_name, pool in self.pools.items():
            if pool is not before.pools.get(pool_name):
                yield from ((pool_name, name) for name in pool.backends)

    def find(self, key: BackendKey) -> BackendEntry | None:
        pool = self.pools.get(key[0])
        return None if pool is None else pool.backends.get(key[1])

    def closing_quiet(self, key: BackendKey) -> bool | None:
        """Whether the quiet sessions of a backend are to go; None if it is not there."""
        pool, backend = self.pools.get(key[0]), self.find(key)
        return None if pool is None or backend is None else pool.closes_quiet and backend.leaving

    def with_backends(self, changed: Mapping[BackendKey, BackendEntry]) -> State:
        """The state with these backends in place of those of the same names."""
        backends: dict[str, dict[str, BackendEntry]] = {}
        for (pool_name, name), backend in changed.items():
            if pool_name not in backends:
                backends[pool_name] = dict(self.pools[pool_name].backends)
            backends[pool_name][name] = backend
        pools = {name: replace(self.pools[name], backends=known) for name, known in backends.items()}
        return replace(self, pools={**self.pools, **pools})


def health_of(pool: PoolEntry, entry: BackendEntry, *, was_checked: bool) -> HealthState:
    """The health of a backend under the settings that it and its pool have now."""
    if not pool.checks(entry.config):
        return HealthState.NONE
    # A backend that served without checks goes on serving until a check says otherwise.
    return entry.health if was_checked else HealthState.UP
