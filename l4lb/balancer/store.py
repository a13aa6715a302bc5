"""The one place where the state is written, and the order in which the other parts hear of it.

Every change goes through `StateStore`: it works out the difference once, then calls its followers, in the order in
which they were registered. A follower that raises is logged, and the others are still called.

A follower may change the state itself. The new state is there at once, for everything that reads it, but its followers
are called after those of the change before: calls never nest, and every follower sees every change, in order. No
follower may answer each change with another one, or this never ends.

All of it belongs to the event loop and does no I/O.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from l4lb.base.unexpected import contained
from l4lb.config import Config
from l4lb.state.backend_entry import BackendEntry
from l4lb.state.edits import NO_EDITS, Edits
from l4lb.state.state import BackendKey, PoolEntry, State


class Reason(enum.Enum):
    """What a change comes from."""

    INSTALL = "a file, discovery or an edit"
    OPERATOR = "an operator"
    HANDOVER = "the predecessor"
    ADDRESS = "a name that leads elsewhere"
    HEALTH = "a health check"
    AGENT = "an agent"
    PROGRESS = "a scrape of progress"
    EJECTION = "passive health"
    WEIGHT = "load or slow start"
    LIMIT = "a limit that was learnt"
    FAILOVER = "failback"


_CHECKED_ANEW = frozenset({Reason.OPERATOR, Reason.HANDOVER, Reason.ADDRESS, Reason.AGENT})
"""Reasons that may change which backends are checked, and where."""


@dataclass(frozen=True, slots=True)
class Change:
    """`backends` are all that differ, and perhaps others of the same pools."""

    before: State
    after: State
    reason: Reason
    backends: Collection[BackendKey]

    def is_install(self) -> bool:
        """Whether listeners, pools or backends may have come or gone."""
        return self.reason is Reason.INSTALL

    def pools(self) -> Iterator[tuple[str, PoolEntry | None, PoolEntry]]:
        """The pools that differ: name, before, after."""
        return changed_pools(self.before, self.after)

    def changes_checks(self) -> bool:
        """Whether other backends are to be checked, scraped and asked than before, or at other addresses."""
        if self.is_install():
            return True
        return self.reason in _CHECKED_ANEW and any(
            _is_checked_anew(self.before.find(key), self.after.find(key)) for key in self.backends
        )


def changed_pools(before: State, after: State) -> Iterator[tuple[str, PoolEntry | None, PoolEntry]]:
    """The pools of `after` that are not what they were: name, before, after."""
    for name, pool in after.pools.items():
        old = before.pools.get(name)
        if old is not pool:
            yield name, old, pool


def _is_checked_anew(before: BackendEntry | None, after: BackendEntry | None) -> bool:
    if before is None or after is None:
        return True
    return (before.target, before.agreed_state, before.health) != (after.target, after.agreed_state, after.health)


@dataclass(frozen=True, slots=True)
class _Follower:
    name: str
    call: Callable[[Change], object]
    when: Callable[[Change], bool]


class StateStore:
    """Holds what runs: the state, the configuration of the file that it was made of, and the edits made to that at run
    time. `edits` are those of a predecessor."""

    def __init__(self, edits: Edits = NO_EDITS) -> None:
        self._state = State()
        self._config: Config | None = None
        self._edits = edits
        self._followers: list[_Follower] = []
        self._unheard: deque[Change] = deque()
        self._calling = False

    @property
    def state(self) -> State:
        return self._state

    @property
    def config(self) -> Config | None:
        """As the file has it; None before the first one is installed."""
        return self._config

    @property
    def edits(self) -> Edits:
        return self._edits

    def follow(
        self, name: str, call: Callable[[Change], object], *, when: Callable[[Change], bool] = lambda _change: True
    ) -> None:
        """Call this after every change for which `when` is true, behind the followers registered before it."""
        self._followers.append(_Follower(name, call, when))

    def install(self, config: Config, edits: Edits, state: State) -> None:
        """This configuration runs now, with these edits, as this state."""
        self._config, self._edits = config, edits
        self._write(state, Reason.INSTALL, tuple(state.changed(self._state)))

    def change(self, state: State, reason: Reason) -> None:
        """Write another state. The same one is no change."""
        if state is not self._state:
            self._write(state, reason, tuple(state.changed(self._state)))

    def replace(self, backends: Mapping[BackendKey, BackendEntry], reason: Reason) -> None:
        """Write these backends in place of those of the same names. An empty mapping is no change."""
        if backends:
            self._write(self._state.with_backends(backends), reason, tuple(backends))

    def _write(self, state: State, reason: Reason, backends: Collection[BackendKey]) -> None:
        self._unheard.append(Change(self._state, state, reason, backends))
        self._state = state
        if not self._calling:
            self._calling = True
            try:
                self._call_followers()
            finally:
                self._calling = False

    def _call_followers(self) -> None:
        while self._unheard:
            change = self._unheard.popleft()
            for follower in self._followers:
                with contained(follower.name):
                    if follower.when(change):
                        follower.call(change)
