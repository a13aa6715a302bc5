"""What the control plane knows of every listener, pool and backend. Frozen: a change makes a new `State`.

Pools that did not change are the same objects in the old and the new state; users compare them by identity.
What follows from the state of a single backend is in `backend_entry`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from l4lb.config import model
from l4lb.state.access import Access
from l4lb.state.backend_entry import BackendEntry
from l4lb.state.failback import Candidate, Seat, kept, ranks
from l4lb.state.panic import is_panic
from l4lb.state.zones import NO_ZONES, Zones
from l4lb.status import AdminState, HealthState

BackendKey = tuple[str, str]
"""Pool and name."""

WEIGHT_SCALE = 16
"""The data plane's weights are whole numbers. If a pool has other ones, all are multiplied by this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolEntry:
    """`seat` is the tier or backend that the pool is at, see `failback`."""

    slot: int
    config: model.Pool
    backends: Mapping[str, BackendEntry]
    seat: Seat | None = None

    # ---- questions to the configuration --------------------------------------------------------------------------

    def has_checks(self, backend: model.Backend) -> bool:
        """Whether this backend of the pool is checked."""
        pool, own = self.config.health, backend.health
        return pool is not None and pool.type != "none" and (own is None or own.type != "none")

    def initial_health(self, backend: model.Backend) -> HealthState:
        """The health of a backend before its first check."""
        health = self.config.health
        return HealthState.NONE if health is None or not self.has_checks(backend) else HealthState(health.start)

    @property
    def watches_progress(self) -> bool:
        """Whether backends are watched for work that stands still, which takes scrapes of their load."""
        health = self.config.health
        return health is not None and health.progress is not None and self.config.load is not None

    @property
    def rebalance(self) -> model.Rebalance | None:
        """How connections move. Where each request is balanced, connections have no reason to."""
        return self.config.rebalance if self.config.protocol == "tcp" else None

    @property
    def closes_idle(self) -> bool:
        """Whether a drain closes idle sessions."""
        return self.config.drain_quiet == "close"

    @property
    def holds_seat(self) -> bool:
        """Whether the pool waits before it returns to a better tier or backend."""
        return self.config.failback != 0

    @property
    def spills(self) -> bool:
        """Whether clients that do not fit into the upper tiers go to a lower one."""
        return self.config.spill == "on"

    @property
    def by_backend(self) -> bool:
        """Whether backends of one tier are ranked by their order in the pool."""
        return self.config.balance == "first"

    # ---- which backends get clients ------------------------------------------------------------------------------

    @property
    def panic(self) -> bool:
        """Whether so few backends are healthy that health is ignored."""
        return is_panic((backend.standing for backend in self.backends.values()), self.config.panic_threshold)

    def accepting(self) -> set[str]:
        """The backends that get new sessions: those available, less those that failback and spill hold back."""
        if self.spills and self.seat is None:
            return self.available()
        return kept(self.seat, self.candidates(), spill=self.spills)

    def available(self) -> set[str]:
        """The backends that could get new sessions; in a panic these are more."""
        panic = self.panic
        return {
            name
            for name, backend in self.backends.items()
            if backend.accepts_new or (panic and backend.accepts_in_panic)
        }

    def candidates(self) -> dict[str, Candidate]:
        """The backends as `failback` needs them."""
        available, order = self.available(), self.ranks()
        return {
            name: Candidate(
                rank=order[name],
                serves=name in available,
                pending=backend.awaits_first_check,
                since=backend.usable_since,
            )
            for name, backend in self.backends.items()
        }

    def ranks(self) -> dict[str, tuple[int, int]]:
        """The rank of each backend; lower is better."""
        tiers = ((name, backend.config.tier) for name, backend in self.backends.items())
        return ranks(tiers, by_backend=self.by_backend)

    def cut_off(self) -> set[str]:
        """The backends that lose all their sessions: if the pool says so, those that are down or in maintenance. In a
        panic, health does not count."""
        if self.config.on_down == "keep":
            return set()
        panic = self.panic
        return {
            name
            for name, backend in self.backends.items()
            if backend.agreed_state is AdminState.MAINT or (backend.agreed_health is HealthState.DOWN and not panic)
        }

    def groups(self) -> dict[tuple[int, str | None], list[str]]:
        """The backends by tier and zone. Those of one group share the same clients."""
        groups: dict[tuple[int, str | None], list[str]] = {}
        for name, backend in self.backends.items():
            groups.setdefault((backend.config.tier, backend.config.zone), []).append(name)
        return groups

    # ---- weights -------------------------------------------------------------------------------------------------

    def effective_weights(self) -> dict[str, float]:
        """The weights that balancing uses, on the scale of the file: 0 for a backend that gets no new session."""
        (weights, scale), accepting = self._scaled(), self.accepting()
        return {name: weights[name] / scale if name in accepting else 0 for name in self.backends}

    def steady_weights(self) -> dict[str, float]:
        """The same without the load factor, which changes all the time."""
        accepting = self.accepting()
        return {
            name: backend.full_weight * backend.slow_start_factor if name in accepting else 0
            for name, backend in self.backends.items()
        }

    def weights(self) -> dict[str, int]:
        """The weights for the data plane. One above 0 is at least 1."""
        return self._scaled()[0]

    def _scaled(self) -> tuple[dict[str, int], int]:
        """Whole weights, and the scale that made them whole: 1 if they were, else WEIGHT_SCALE."""
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
        """The compiled lists of each listener."""
        return {name: listener.access for name, listener in self.listeners.items()}

    def backends(self) -> Iterator[tuple[BackendKey, BackendEntry]]:
        for pool_name, pool in self.pools.items():
            for name, backend in pool.backends.items():
                yield (pool_name, name), backend

    def changed(self, before: State) -> Iterator[BackendKey]:
        """The backends of pools that changed since `before`."""
        for pool_name, pool in self.pools.items():
            if pool is not before.pools.get(pool_name):
                yield from ((pool_name, name) for name in pool.backends)

    def find(self, key: BackendKey) -> BackendEntry | None:
        pool = self.pools.get(key[0])
        return None if pool is None else pool.backends.get(key[1])

    def closing_idle(self, key: BackendKey) -> bool | None:
        """Whether the idle sessions of a backend are to be closed; None if there is no such backend."""
        pool, backend = self.pools.get(key[0]), self.find(key)
        return None if pool is None or backend is None else pool.closes_idle and backend.being_drained

    def with_backends(self, changed: Mapping[BackendKey, BackendEntry]) -> State:
        """The state with these backends in the place of those with the same keys."""
        backends: dict[str, dict[str, BackendEntry]] = {}
        for (pool_name, name), backend in changed.items():
            if pool_name not in backends:
                backends[pool_name] = dict(self.pools[pool_name].backends)
            backends[pool_name][name] = backend
        pools = {name: replace(self.pools[name], backends=known) for name, known in backends.items()}
        return replace(self, pools={**self.pools, **pools})


def health_of(pool: PoolEntry, entry: BackendEntry, *, was_checked: bool) -> HealthState:
    """The health of a backend after a change of its settings or its pool's."""
    if not pool.has_checks(entry.config):
        return HealthState.NONE
    # A backend that served without checks goes on serving until a check fails.
    return entry.health if was_checked else HealthState.UP
