"""Makes a planned configuration the running one: all of it, or nothing.

The data plane takes the new state first. Until it has, whatever was taken for the plan is given back on a failure; from
then on nothing is taken back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from l4lb.balancer.loop_guard import LoopGuard
from l4lb.balancer.phase import Phase
from l4lb.balancer.planner import Plan, Planner
from l4lb.balancer.publication import Publication
from l4lb.balancer.settlement import Settlement
from l4lb.balancer.store import StateStore
from l4lb.balancer.transfer import Transfer
from l4lb.base.unexpected import contained
from l4lb.config import Address
from l4lb.engine.api import Engine, SlotKind
from l4lb.errors import StartError
from l4lb.net.target import Target
from l4lb.sockets.listeners import Sockets
from l4lb.state import edits
from l4lb.state.containment import Containment, PoolFaults
from l4lb.state.edits import Edits
from l4lb.state.removals import SlotKey
from l4lb.state.state import State

_log = logging.getLogger(__name__)


class _Slots:
    """The slots that are taken for a plan."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._taken: set[SlotKey] = set()

    def take(self, kind: SlotKind) -> int:
        slot = self._engine.take_slot(kind)
        self._taken.add((kind, slot))
        return slot

    def give(self, kind: SlotKind, slot: int) -> None:
        self._taken.remove((kind, slot))
        self._engine.give_slot(kind, slot)

    def give_all(self) -> None:
        for kind, slot in self._taken:
            self._engine.give_slot(kind, slot)


@dataclass(slots=True)
class Installer:
    """`faults` are the pools whose discovered backends the data plane does not take: they keep what they had."""

    engine: Engine
    store: StateStore
    phase: Phase
    sockets: Sockets
    planner: Planner
    guard: LoopGuard
    transfer: Transfer
    settlement: Settlement
    publication: Publication
    faults: Containment = field(default_factory=lambda: Containment("what was discovered is not in use"))

    def install(self, plan: Plan, wanted: Edits | None = None, known: State | None = None) -> None:
        """Run the plan with the `wanted` edits, by default those that still hold under its configuration. What is known
        of backends comes from `known`, by default the state that runs.

        StartError if the data plane cannot take it; then nothing has changed.
        """
        wanted = edits.lasting(self.store.edits, plan.config) if wanted is None else wanted
        edited = replace(plan, config=edits.over(plan.config, wanted))
        opened = self.sockets.open_missing({} if self.phase.stopping else plan.config.listeners)
        try:
            state, targets = self.faults.attempt(
                lambda kept: self._publish(edited, self.store.state if known is None else known, kept),
                lambda name: self._is_discovered(edited, name),
            )
        except Exception as error:
            self.sockets.close(opened)
            if not isinstance(error, (OSError, ValueError, PoolFaults)):
                raise
            raise StartError(f"the data plane cannot take this configuration: {error}") from error
        with contained("keeping resolved names"):
            self.planner.keep(targets)
        for pool, name in self.store.edits.keys() - wanted.keys():
            _log.debug("%s/%s: the file replaces what was changed at run time", pool, name)
        self.store.install(plan.config, wanted, state)

    def _publish(self, plan: Plan, old: State, kept: frozenset[str]) -> tuple[State, Mapping[Address, Target]]:
        """Have the data plane run the plan, except for the pools in `kept`; the state and targets that it runs then.
        What it raises has changed nothing."""
        now, slots, config = asyncio.get_running_loop().time(), _Slots(self.engine), self.store.config
        try:
            merged, targets = self.planner.merge(plan, old, slots.take, slots.give, kept)
            merged = self.guard.guarded(merged)
            if config is None:
                merged = self.transfer.restore(merged, now)
            # Backends that are found before the first client comes were there before l4lb was.
            state = self.settlement.settled(merged, now, first=config is None or not self.phase.has_clients)
            self.publication.pass_on(state, plan.config)
        except Exception:
            slots.give_all()
            raise
        return state, targets

    def _is_discovered(self, plan: Plan, pool: str) -> bool:
        """Whether a fault of the pool comes from its source, as the file and the operator say the same as before. What
        those have changed is taken as a whole, or not at all."""
        config, before = self.store.config, None
        if config is not None:
            before = edits.over(config, edits.lasting(self.store.edits, config)).pools.get(pool)
        wanted = plan.config.pools[pool]
        return wanted.discover is not None and before in (None, wanted)
