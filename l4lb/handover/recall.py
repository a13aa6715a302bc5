"""From what a balancer knows of its backends to what a successor is told, and from there to the successor's state.

It counts as over a reload: what an operator did to a backend until the file changes that backend, what is known of its
health while it is at the same address. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

from l4lb.agent.protocol import NOTHING_SAID, AgentWeight, Verdict
from l4lb.handover.batches import Json
from l4lb.handover.memory import ALWAYS, AgentTold, AgentWeightTold, BackendTold, CheckTold, EjectionTold
from l4lb.health.machine import Health
from l4lb.health.passive import Track
from l4lb.state.failback import Seat
from l4lb.state.state import BackendEntry, BackendKey, PoolEntry, State
from l4lb.status import HealthState

Told = Mapping[BackendKey, BackendTold]
Checked = tuple[Health, str]
"""What checks came to, and what the last one said."""


def canonical(entry: BackendEntry) -> Json:
    """What the configuration says of a backend; equal in every version that reads the same from the same file."""
    config: Json = entry.config.model_dump(mode="json", exclude_defaults=True)
    return config


# ---- telling -------------------------------------------------------------------------------------------------------


def tell(
    key: BackendKey, entry: BackendEntry, pool: PoolEntry, checked: Checked | None, track: Track | None, now: float
) -> BackendTold:
    """`now` is the clock that the times in all of these are of."""
    return BackendTold(
        pool=key[0],
        name=key[1],
        config=canonical(entry),
        state=entry.state,
        weight=entry.weight,
        health=entry.health,
        checked=pool.checks(entry.config),
        check=None if checked is None else _tell_check(*checked, now),
        agent=_tell_agent(entry.agent),
        usable=None if entry.usable_since is None else _age(entry.usable_since, now),
        stalled=entry.stalled,
        ejection=None if track is None else _tell_ejection(track, now),
    )


def _tell_check(health: Health, message: str, now: float) -> CheckTold:
    return CheckTold(
        state=health.state,
        message=message,
        streak=health.streak,
        undecided=health.undecided,
        flaps=health.flaps,
        risen=_age(health.risen_at, now),
    )


def _tell_agent(verdict: Verdict) -> AgentTold | None:
    if verdict == NOTHING_SAID:
        return None
    weight = verdict.weight
    return AgentTold(
        state=verdict.state,
        down=verdict.down,
        weight=None if weight is None else AgentWeightTold(value=weight.value, relative=weight.relative),
        max_connections=verdict.max_connections,
        remark=verdict.remark,
    )


def _tell_ejection(track: Track, now: float) -> EjectionTold | None:
    if not track.is_out and track.ejections == 0:
        return None
    return EjectionTold(
        ejections=track.ejections,
        returned=_age(track.returned_at, now),
        left=None if track.out_until is None else max(0.0, track.out_until - now),
        cause=track.cause,
    )


def _age(at: float, now: float) -> float:
    return min(max(0.0, now - at), ALWAYS)


# ---- recalling -----------------------------------------------------------------------------------------------------


def backends(state: State, told: Told, now: float) -> State:
    """The first state of a process, with what its predecessor knew."""
    changed = {key: _recalled(entry, state.pools[key[0]], one, now) for key, entry, one in _known(state, told)}
    return state.with_backends(changed) if changed else state


def seats(state: State, told: Mapping[str, Seat]) -> State:
    """The state with its pools where they stayed; itself if they are there."""
    pools = {
        name: replace(pool, seat=told[name])
        for name, pool in state.pools.items()
        if pool.stays and name in told and told[name] != pool.seat
    }
    return replace(state, pools={**state.pools, **pools}) if pools else state


def _known(state: State, told: Told) -> Iterator[tuple[BackendKey, BackendEntry, BackendTold]]:
    for key, entry in state.backends():
        if key in told:
            yield key, entry, told[key]


def _recalled(entry: BackendEntry, pool: PoolEntry, told: BackendTold, now: float) -> BackendEntry:
    if _unchanged(entry, told):
        agent = NOTHING_SAID if pool.config.agent is None or told.agent is None else _heard_agent(told.agent)
        entry = replace(entry, state=told.state, weight=told.weight, agent=agent)
    if _moved(entry, told):
        return entry
    if pool.checks(entry.config):
        # A backend that served without checks goes on serving until a check says otherwise.
        entry = replace(entry, health=told.health if told.checked else HealthState.UP)
    health = pool.config.health
    watched = health is not None and health.progress is not None and pool.config.load is not None
    return replace(
        entry,
        usable_since=None if told.usable is None else _time(told.usable, now),
        ejected=pool.config.passive is not None and told.ejection is not None and told.ejection.left is not None,
        stalled=told.stalled if watched else None,
    )


def _unchanged(entry: BackendEntry, told: BackendTold) -> bool:
    return canonical(entry) == told.config


def _moved(entry: BackendEntry, told: BackendTold) -> bool:
    return bool(canonical(entry)["address"] != told.config.get("address"))


def _time(age: float, now: float) -> float:
    return -math.inf if age >= ALWAYS else now - age


def _heard_agent(told: AgentTold) -> Verdict:
    weight = None if told.weight is None else AgentWeight(told.weight.value, told.weight.relative)
    return Verdict(told.state, told.down, weight, told.max_connections, told.remark)


def checks(state: State, told: Told, now: float) -> dict[BackendKey, Checked]:
    """What checks had come to, of the recalled backends that checks have a say in."""
    return {
        key: (Health(one.state, one.streak, one.undecided, one.flaps, _time(one.risen, now)), one.message)
        for key, entry, backend in _known(state, told)
        if (one := backend.check) is not None and one.state is entry.health and not _moved(entry, backend)
    }


def tracks(state: State, told: Told, now: float) -> dict[BackendKey, Track]:
    """What clients' connections had led to, of the recalled backends."""
    return {
        key: Track(
            ejections=past.ejections,
            returned_at=_time(past.returned, now),
            out_until=None if past.left is None else now + past.left,
            cause=past.cause,
        )
        for key, entry, backend in _known(state, told)
        if (past := backend.ejection) is not None and not _moved(entry, backend)
    }


def operated(state: State, told: Told) -> dict[BackendKey, BackendEntry]:
    """The backends that an operator has treated in another way than the state says."""
    return {
        key: replace(entry, state=one.state, weight=one.weight)
        for key, entry, one in _known(state, told)
        if _unchanged(entry, one) and (entry.state, entry.weight) != (one.state, one.weight)
    }
