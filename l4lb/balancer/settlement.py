"""Adjusts the state to the moment, right before it is passed on to the data plane.

These steps look at whole pools, so they run once for all changes that are published together, not once for each.
"""

from __future__ import annotations

import asyncio

from l4lb.balancer.alarms import Alarms
from l4lb.balancer.failover import Failover
from l4lb.balancer.outliers import Outliers
from l4lb.balancer.phase import Phase
from l4lb.balancer.rebalancer import Rebalancer
from l4lb.balancer.store import Reason, StateStore, changed_pools
from l4lb.balancer.weight_controller import WeightController
from l4lb.base.unexpected import contained
from l4lb.state.state import State


class Settlement:
    """Every method runs on the event loop. A step that fails is logged, and the next ones are made."""

    def __init__(
        self,
        store: StateStore,
        phase: Phase,
        outliers: Outliers,
        alarms: Alarms,
        rebalancer: Rebalancer,
        weights: WeightController,
        failover: Failover,
    ) -> None:
        self._store = store
        self._phase = phase
        self._outliers = outliers
        self._alarms = alarms
        self._rebalancer = rebalancer
        self._weights = weights
        self._failover = failover
        self._noted = store.state

    def settle(self) -> None:
        """Adjust the state that runs."""
        with contained("pool changes"):
            self.note_pools()
        with contained("weights"):
            self._weights.step()
        with contained("failover"):
            self._store.change(self._seated(self._store.state), Reason.FAILOVER)

    def settled(self, state: State, now: float, *, first: bool) -> State:
        """A state that does not run yet, with the weights and tiers of this moment. With `first` no client has come
        yet: every backend has been there for ever, and no pool has left a tier."""
        state = self._weights.apply_factors(state, now, first=first)
        return self._failover.settle(state, now, clients=not first)

    def note_pools(self) -> None:
        """See what the changes since the last call mean for their pools."""
        changed = [(name, pool) for name, _, pool in changed_pools(self._noted, self._store.state)]
        # First, because an ejected backend comes back before a client is turned away.
        if not all(pool.accepting() for _, pool in changed):
            self._outliers.step()
        state = self._store.state
        self._alarms.look_for_backends(state, [name for name, _ in changed])
        self._rebalancer.note_gains(self._noted, state)
        self._noted = state

    def _seated(self, state: State) -> State:
        now = asyncio.get_running_loop().time()
        return self._failover.settle(state, now, clients=self._phase.has_clients)
