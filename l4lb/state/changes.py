"""What becomes of a backend when its operator or its agent says something. Pure."""

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
    """The backend that an operator names. ControlError if it is not there."""
    if key[0] not in state.pools:
        raise ControlError(f"there is no pool '{key[0]}'; `l4lb status` shows the names", 404)
    entry = state.find(key)
    if entry is None:
        raise ControlError(f"there is no backend '{key[1]}' in pool '{key[0]}'; `l4lb status` shows the names", 404)
    return entry


def with_operator_change(
    pool: PoolEntry, entry: BackendEntry, state: AdminState | None, weight: int | None
) -> BackendEntry:
    """After its operator gave it another state or weight; None leaves it as it is. ControlError for a bad weight."""
    if weight is not None and not 0 <= weight <= WEIGHT_MAX:
        raise ControlError(f"weight {weight} is out of range; weights are 0 to {WEIGHT_MAX}", 400)
    changed = replace(
        entry,
        state=entry.state if state is None else state,
        weight=entry.weight if weight is None else weight,
        # What its agent asked for ends too: it may have gone since.
        agent=entry.agent.cleared() if state is AdminState.READY else entry.agent,
    )
    return _unknown_after_maint(pool, entry, changed)


def with_new_settings(pool: PoolEntry, entry: BackendEntry, config: model.Backend) -> BackendEntry:
    """After its operator gave it other settings. What was done to it stays, its state and its weight; what is known of
    a server at another address does not."""
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
    )


def with_agent_report(pool: PoolEntry, entry: BackendEntry, line: str) -> BackendEntry:
    """After its agent said this."""
    return _unknown_after_maint(pool, entry, replace(entry, agent=entry.agent.with_line(line)))


def _unknown_after_maint(pool: PoolEntry, before: BackendEntry, after: BackendEntry) -> BackendEntry:
    """Nothing is known of a backend that is neither checked nor scraped."""
    if (before.agreed_state is AdminState.MAINT) == (after.agreed_state is AdminState.MAINT):
        return after
    return replace(after, health=pool.initial_health(after.config), stalled=None)
