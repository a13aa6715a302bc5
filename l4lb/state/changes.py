"""A backend after a change by its operator, or after a report of its agent. Pure."""

from __future__ import annotations

from dataclasses import replace

from l4lb.agent.protocol import NO_REPORT
from l4lb.base.limits import WEIGHT_MAX
from l4lb.config import model
from l4lb.errors import ControlError
from l4lb.state.backend_entry import BackendEntry
from l4lb.state.state import BackendKey, PoolEntry, State, health_of
from l4lb.status import AdminState


def find(state: State, key: BackendKey) -> BackendEntry:
    """The backend that an operator names. ControlError if there is no such backend."""
    if key[0] not in state.pools:
        raise ControlError(f"there is no pool '{key[0]}'; `l4lb status` shows the names", 404)
    entry = state.find(key)
    if entry is None:
        raise ControlError(f"there is no backend '{key[1]}' in pool '{key[0]}'; `l4lb status` shows the names", 404)
    return entry


def with_operator_change(
    pool: PoolEntry, entry: BackendEntry, state: AdminState | None, weight: int | None
) -> BackendEntry:
    """The backend with the operator's state and weight; None keeps the value. ControlError for a bad weight."""
    if weight is not None and not 0 <= weight <= WEIGHT_MAX:
        raise ControlError(f"weight {weight} is out of range; weights are 0 to {WEIGHT_MAX}", 400)
    changed = replace(
        entry,
        state=entry.state if state is None else state,
        weight=entry.weight if weight is None else weight,
        # `ready` also ends what the agent asked for: the agent may be gone.
        agent=entry.agent.cleared() if state is AdminState.READY else entry.agent,
    )
    return _unknown_after_maint(pool, entry, changed)


def with_new_settings(pool: PoolEntry, entry: BackendEntry, config: model.Backend) -> BackendEntry:
    """The backend with the operator's settings. Its run-time state and weight stay. If the address changes, whatever is
    known of the server at the old one is dropped."""
    if entry.config.address == config.address:
        changed = replace(entry, config=config)
        return replace(changed, health=health_of(pool, changed, was_checked=pool.has_checks(entry.config)))
    return replace(
        entry,
        config=config,
        target=None,
        health=pool.initial_health(config),
        agent=NO_REPORT,
        usable_since=None,
        ejected=False,
        stalled=None,
        learnt_max_busy=None,
    )


def with_agent_report(pool: PoolEntry, entry: BackendEntry, line: str) -> BackendEntry:
    """The backend after this line of its agent."""
    return _unknown_after_maint(pool, entry, replace(entry, agent=entry.agent.with_line(line)))


def _unknown_after_maint(pool: PoolEntry, before: BackendEntry, after: BackendEntry) -> BackendEntry:
    """In maintenance there are no checks and scrapes: health is unknown when it begins, and when it ends."""
    if (before.agreed_state is AdminState.MAINT) == (after.agreed_state is AdminState.MAINT):
        return after
    return replace(after, health=pool.initial_health(after.config), stalled=None)
