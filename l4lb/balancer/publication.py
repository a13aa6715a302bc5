"""Passes the state on to the data plane, as one snapshot, with every pool that the data plane takes."""

from __future__ import annotations

from collections.abc import Callable

from l4lb.balancer.alarms import Alarms
from l4lb.balancer.compose import Composer
from l4lb.balancer.phase import Phase
from l4lb.balancer.publisher import Publisher
from l4lb.balancer.store import Change, Reason, StateStore
from l4lb.config import Config
from l4lb.engine.api import Engine, EventKind
from l4lb.sockets.listeners import Sockets
from l4lb.state.containment import Containment, PoolFaults, refused
from l4lb.state.state import State

_AT_ONCE = frozenset({Reason.OPERATOR, Reason.HANDOVER, Reason.ADDRESS, Reason.WEIGHT})
"""Rare or paced already, so they are published at once: a caller may rely on the change when its call returns."""


class Publication:
    """The last follower of the store. `publisher` decides when, and `passed` is called with each state that the data
    plane has taken. The owner sets `settle`, which adjusts the state before each publication.

    `faults` are the pools that the data plane refuses: they keep what they had, and are tried again.
    """

    def __init__(
        self,
        engine: Engine,
        store: StateStore,
        phase: Phase,
        sockets: Sockets,
        alarms: Alarms,
        events: EventKind,
        passed: Callable[[State], None],
    ) -> None:
        self._engine = engine
        self._store = store
        self._phase = phase
        self._sockets = sockets
        self._alarms = alarms
        self._composer = Composer(events)
        self._on_passed = passed
        self._passed: State | None = None
        self._publishing = False
        self.settle: Callable[[], None] = lambda: None
        self.faults = Containment("changes of its backends are not in use")
        self.publisher = Publisher(self._publish)

    def follow(self, change: Change) -> None:
        """Publish what has changed, unless the data plane has it already or is about to get it."""
        if self._publishing or self._store.state is self._passed:
            return
        if change.reason is Reason.WEIGHT and not _shows(change):
            return
        if change.reason in _AT_ONCE:
            self.publisher.now()
        else:
            self.publisher.soon()

    def pass_on(self, state: State, config: Config, kept: frozenset[str] = frozenset()) -> None:
        """Have the data plane run this state, with the pools in `kept` as it has them. PoolFaults has the pools that it
        cannot take."""
        fds = self._sockets.fds()
        snapshot = self._composer.compose(state, fds, config.log, accepting=self._phase.accepting, kept=kept)
        try:
            self._engine.publish(snapshot)
        except (OSError, ValueError) as error:
            faults = dict(refused(self._engine, self._composer.new(state, snapshot)))
            raise PoolFaults(faults) if faults else error from error
        self._composer.settle(state, snapshot)
        self._passed = state
        self._on_passed(state)

    def _publish(self) -> None:
        config = self._store.config
        if config is None:
            return
        self._publishing = True
        try:
            self.settle()
            self.faults.attempt(lambda kept: self.pass_on(self._store.state, config, kept), self._composer.has)
        finally:
            self._publishing = False
        if self.faults.active:
            self.publisher.later()
        self._alarms.look_for_panic(self._store.state)


def _shows(change: Change) -> bool:
    """Whether the data plane can tell the weights from those before."""
    return any(old is None or pool.weights() != old.weights() for _, old, pool in change.pools())
