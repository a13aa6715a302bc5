"""One backend as the control plane knows it, and every decision that follows from its state alone.

The first row that applies decides. Other modules ask the predicates of `BackendEntry`, never several fields at once.

    state                            shown as  in service  new clients  in a panic  checked  drained
    operator: maint                  maint     no          no           no          no       yes
    agent: maint, also drained       maint     no          no           no          no       yes
    agent: maint                     maint     no          no           no          no       no
    operator: drain                  drain     no          no           no          yes      yes
    source: draining                 drain     no          no           no          yes      yes
    agent: drain                     drain     no          no           no          yes      no
    weight: 0                        ready     no          no           no          yes      no
    address: unknown                 ready     yes         no           no          no       no
    ejected                          ready     yes         no           no          yes      no
    health: down                     ready     yes         no           yes         yes      no
    health: pending                  ready     yes         no           yes         yes      no
    health: up or none               ready     yes         yes          yes         yes      no

- Health is down if the agent says down, the source says not ready, or its work stands still; else it is what the checks
  say.
- In service: the backend counts when the share of healthy backends is compared with the panic threshold.
- Checked: only in a pool with checks, and only once the address is known. The agent is asked even if it said maint.
- Drained: sessions end as `drain_timeout` and `drain_quiet` say. Otherwise a backend only gets no new ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from l4lb.agent.protocol import NO_REPORT, AgentReport
from l4lb.config import model
from l4lb.discovery.source import Readiness
from l4lb.net.target import Target
from l4lb.state.panic import Standing
from l4lb.status import AdminState, HealthState


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendEntry:
    """`target` is None until the name is resolved. `weight` was set at run time; None leaves it to the file.

    `state` is the operator's wish, `agent` the last report of the backend's agent, `readiness` the word of the source
    that found the backend, `health` the result of the checks. `ejected` follows from clients' connections; `stalled`
    says why its work is taken to stand still. Slow start and load multiply the weight by `slow_start_factor` and
    `load_factor`. `usable_since` is the time of the event loop at which it began to accept new clients, None while it
    does not; a backend that begins before `warm_until` skips slow start. `learnt_max_busy` is for `max_busy: auto`.
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
    learnt_max_busy: int | None = None

    # ---- what is shown -------------------------------------------------------------------------------------------

    @property
    def agreed_state(self) -> AdminState:
        """The most restrictive state that the operator, the agent or the source asks for."""
        wanted = (self.state, self.agent.state)
        if AdminState.MAINT in wanted:
            return AdminState.MAINT
        draining = AdminState.DRAIN in wanted or self.readiness is Readiness.DRAINING
        return AdminState.DRAIN if draining else AdminState.READY

    @property
    def agreed_health(self) -> HealthState:
        """Up only if the checks, the agent, the source and the progress of its work all agree."""
        down = self.agent.down or self.stalled is not None or self.readiness is Readiness.NOT_READY
        return HealthState.DOWN if down else self.health

    # ---- new clients ---------------------------------------------------------------------------------------------

    @property
    def in_service(self) -> bool:
        """Would it get clients if it were healthy?"""
        return self.agreed_state is AdminState.READY and self.full_weight > 0

    @property
    def healthy_enough(self) -> bool:
        """Would it accept new clients if it were not ejected?"""
        healthy = self.agreed_health in (HealthState.UP, HealthState.NONE)
        return self.in_service and healthy and self.target is not None

    @property
    def accepts_new(self) -> bool:
        """Does it get new clients, apart from failback and spill?"""
        return self.healthy_enough and not self.ejected

    @property
    def accepts_in_panic(self) -> bool:
        """Does it get new clients while the pool ignores health?"""
        return self.in_service and self.target is not None and not self.ejected

    @property
    def awaits_first_check(self) -> bool:
        """Will it be healthy enough if its first check succeeds?"""
        return self.in_service and self.agreed_health is HealthState.PENDING and self.target is not None

    @property
    def standing(self) -> Standing:
        """What counts for panic: health, but not ejections."""
        return Standing(
            tier=self.config.tier,
            in_service=self.in_service,
            healthy=self.healthy_enough,
            known=self.agreed_health is not HealthState.PENDING,
        )

    # ---- checks and drains ---------------------------------------------------------------------------------------

    @property
    def worth_checking(self) -> bool:
        """Can it be checked and scraped, and does the result matter?"""
        return self.target is not None and self.agreed_state is not AdminState.MAINT

    @property
    def worth_asking(self) -> bool:
        """Is its agent asked? An agent may end the maintenance that it asked for, but not the operator's."""
        return self.target is not None and self.state is not AdminState.MAINT

    @property
    def being_drained(self) -> bool:
        """Do its sessions end, because the operator or the source takes it out?"""
        return self.state is not AdminState.READY or self.readiness is Readiness.DRAINING

    # ---- weight and limits ---------------------------------------------------------------------------------------

    @property
    def current_weight(self) -> int:
        """The weight of the file or the operator."""
        return self.config.weight if self.weight is None else self.weight

    @property
    def full_weight(self) -> float:
        """The weight with the agent's say, before load and slow start."""
        weight = self.current_weight
        return weight if self.agent.weight is None else self.agent.weight.of(weight)

    @property
    def weight_factor(self) -> float:
        return self.slow_start_factor * self.load_factor

    @property
    def exact_weight(self) -> float:
        return self.full_weight * self.weight_factor

    @property
    def learns_max_busy(self) -> bool:
        """Is its limit of turns in flight learnt?"""
        return self.config.max_busy == "auto"

    @property
    def max_busy(self) -> int:
        """Turns in flight from which on it gets no more; 0 is no limit."""
        return self.learnt_max_busy or 0 if self.config.max_busy == "auto" else self.config.max_busy

    @property
    def max_connections(self) -> int:
        return self.config.max_connections if self.agent.max_connections is None else self.agent.max_connections
