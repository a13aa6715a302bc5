"""Exports what a balancer knows of its backends, and restores it in the state of its successor. Pure.

The rules are those of a reload: changes by the operator hold until the file changes the backend, health holds while the
backend has the same address.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

from l4lb.agent.protocol import NO_REPORT, AgentReport, AgentWeight
from l4lb.handover.batches import Json
from l4lb.handover.records import ALWAYS, AgentRecord, AgentWeightRecord, BackendRecord, CheckRecord, EjectionRecord
from l4lb.health.machine import HealthTrack
from l4lb.health.passive import OutlierTrack
from l4lb.state.backend_entry import BackendEntry
from l4lb.state.failback import Seat
from l4lb.state.state import BackendKey, PoolEntry, State
from l4lb.status import HealthState

Records = Mapping[BackendKey, BackendRecord]
Checked = tuple[HealthTrack, str]
"""The result of the checks, and the message of the last one."""


def canonical(entry: BackendEntry) -> Json:
    """The settings of a backend in a form that two versions can compare."""
    config: Json = entry.config.model_dump(mode="json", exclude_defaults=True)
    return config


# ---- exporting -----------------------------------------------------------------------------------------------------


def export(
    key: BackendKey,
    entry: BackendEntry,
    pool: PoolEntry,
    checked: Checked | None,
    track: OutlierTrack | None,
    now: float,
) -> BackendRecord:
    """The record of a backend. `now` is on the clock of all times in the arguments."""
    return BackendRecord(
        pool=key[0],
        name=key[1],
        config=canonical(entry),
        state=entry.state,
        weight=entry.weight,
        health=entry.health,
        checked=pool.has_checks(entry.config),
        check=None if checked is None else _export_check(*checked, now),
        agent=_export_agent(entry.agent),
        usable=None if entry.usable_since is None else _age(entry.usable_since, now),
        max_busy=entry.learnt_max_busy,
        stalled=entry.stalled,
        ejection=None if track is None else _export_ejection(track, now),
    )


def _export_check(health: HealthTrack, message: str, now: float) -> CheckRecord:
    return CheckRecord(
        state=health.state,
        message=message,
        streak=health.streak,
        undecided=health.undecided,
        flaps=health.flaps,
        risen=_age(health.risen_at, now),
    )


def _export_agent(verdict: AgentReport) -> AgentRecord | None:
    if verdict == NO_REPORT:
        return None
    weight = verdict.weight
    return AgentRecord(
        state=verdict.state,
        down=verdict.down,
        weight=None if weight is None else AgentWeightRecord(value=weight.value, relative=weight.relative),
        max_connections=verdict.max_connections,
        remark=verdict.remark,
    )


def _export_ejection(track: OutlierTrack, now: float) -> EjectionRecord | None:
    if not track.is_out and track.ejections == 0:
        return None
    return EjectionRecord(
        ejections=track.ejections,
        returned=_age(track.returned_at, now),
        left=None if track.out_until is None else max(0.0, track.out_until - now),
        cause=track.cause,
    )


def _age(at: float, now: float) -> float:
    return min(max(0.0, now - at), ALWAYS)


# ---- restoring -----------------------------------------------------------------------------------------------------


def backends(state: State, told: Records, now: float) -> State:
    """The state with all that the predecessor knew of its backends."""
    changed = {key: _restored(entry, state.pools[key[0]], one, now) for key, entry, one in _known(state, told)}
    return state.with_backends(changed) if changed else state


def seats(state: State, told: Mapping[str, Seat]) -> State:
    """The state with the seats of the predecessor's pools; the same object if they do not differ."""
    pools = {
        name: replace(pool, seat=told[name])
        for name, pool in state.pools.items()
        if pool.holds_seat and name in told and told[name] != pool.seat
    }
    return replace(state, pools={**state.pools, **pools}) if pools else state


def _known(state: State, told: Records) -> Iterator[tuple[BackendKey, BackendEntry, BackendRecord]]:
    for key, entry in state.backends():
        if key in told:
            yield key, entry, told[key]


def _restored(entry: BackendEntry, pool: PoolEntry, told: BackendRecord, now: float) -> BackendEntry:
    if _unchanged(entry, told):
        agent = NO_REPORT if pool.config.agent is None or told.agent is None else _restore_agent(told.agent)
        entry = replace(entry, state=told.state, weight=told.weight, agent=agent)
    if _moved(entry, told):
        return entry
    if pool.has_checks(entry.config):
        # A backend that served without checks goes on serving until a check fails.
        entry = replace(entry, health=told.health if told.checked else HealthState.UP)
    return replace(
        entry,
        usable_since=None if told.usable is None else _time(told.usable, now),
        ejected=pool.config.passive is not None and told.ejection is not None and told.ejection.left is not None,
        learnt_max_busy=told.max_busy,
        stalled=told.stalled if pool.watches_progress else None,
    )


def _unchanged(entry: BackendEntry, told: BackendRecord) -> bool:
    return canonical(entry) == told.config


def _moved(entry: BackendEntry, told: BackendRecord) -> bool:
    return bool(canonical(entry)["address"] != told.config.get("address"))


def _time(age: float, now: float) -> float:
    return -math.inf if age >= ALWAYS else now - age


def _restore_agent(told: AgentRecord) -> AgentReport:
    weight = None if told.weight is None else AgentWeight(told.weight.value, told.weight.relative)
    return AgentReport(told.state, told.down, weight, told.max_connections, told.remark)


def checks(state: State, told: Records, now: float) -> dict[BackendKey, Checked]:
    """The results of checks, of the backends to which they still apply."""
    return {
        key: (HealthTrack(one.state, one.streak, one.undecided, one.flaps, _time(one.risen, now)), one.message)
        for key, entry, backend in _known(state, told)
        if (one := backend.check) is not None and one.state is entry.health and not _moved(entry, backend)
    }


def tracks(state: State, told: Records, now: float) -> dict[BackendKey, OutlierTrack]:
    """The ejections, of the backends that still have the same address."""
    return {
        key: OutlierTrack(
            ejections=past.ejections,
            returned_at=_time(past.returned, now),
            out_until=None if past.left is None else now + past.left,
            cause=past.cause,
        )
        for key, entry, backend in _known(state, told)
        if (past := backend.ejection) is not None and not _moved(entry, backend)
    }


def cold(state: State, told: Records) -> dict[int, int]:
    """The responses that backends have to give until they are no longer cold, by slot."""
    return {
        entry.slot: one.cold
        for key, entry, one in _known(state, told)
        if one.cold and not _moved(entry, one) and state.pools[key[0]].config.slow_start.turns
    }


def operator_changes(state: State, told: Records) -> dict[BackendKey, BackendEntry]:
    """The backends that an operator changed after the state was exported."""
    return {
        key: replace(entry, state=one.state, weight=one.weight)
        for key, entry, one in _known(state, told)
        if _unchanged(entry, one) and (entry.state, entry.weight) != (one.state, one.weight)
    }
