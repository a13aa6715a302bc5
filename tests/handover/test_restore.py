"""What a successor knows of its predecessor's backends, clients and sources: all that still holds, and nothing else."""

from __future__ import annotations

import json
import math
import socket
from dataclasses import replace
from typing import Any

import pytest

from l4lb.agent.protocol import AgentReport, AgentWeight
from l4lb.config import Address
from l4lb.discovery.source import Endpoint, Readiness
from l4lb.engine.api import StickyEntry
from l4lb.handover import restore, sticky_batches
from l4lb.handover.records import BackendRecord, HandoverData, HandoverReader
from l4lb.health.machine import HealthTrack
from l4lb.health.passive import Cause, OutlierTrack
from l4lb.net.target import Target
from l4lb.process.upgrade.channel import Message, decode_body, encode
from l4lb.state.backend_entry import BackendEntry
from l4lb.state.state import BackendKey, State
from l4lb.status import AdminState, HealthState
from tests.helpers.build import config, merged
from tests.helpers.fake_engine import FakeEngine

A, B = "127.0.0.1:9001", "127.0.0.1:9002"
KEY = ("app", "a")
POOL: dict[str, Any] = {"health": {"type": "tcp"}, "passive": {}, "agent": {"port": 9}}
THEN, NOW = 1000.0, 50_000.0
"""Clocks of two processes, at the same moment."""


def state(address: str = A, *, pool: dict[str, Any] = POOL, **values: object) -> State:
    return merged(config({"name": "a", "address": address} | values, pool=pool))


def backend(state: State) -> BackendEntry:
    entry = state.find(KEY)
    assert entry is not None
    return entry


def told(
    checked: restore.Checked | None = None,
    track: OutlierTrack | None = None,
    *,
    before: State | None = None,
    **values: object,
) -> dict[BackendKey, BackendRecord]:
    """What is told of a backend with these values, after its way to another process."""
    before = before or state()
    entry = replace(backend(before), **values)  # type: ignore[arg-type]
    return carried(HandoverData({KEY: restore.export(KEY, entry, before.pools["app"], checked, track, THEN)})).backends


def test_a_limit_that_was_learnt_holds_while_the_backend_is_where_it_was() -> None:
    records = told(learnt_max_busy=17)
    assert backend(restore.backends(state(), records, NOW)).learnt_max_busy == 17
    assert backend(restore.backends(state(B), records, NOW)).learnt_max_busy is None


def test_a_cold_backend_is_cold_for_the_responses_that_are_left() -> None:
    spared = POOL | {"slow_start": {"turns": 2}}
    records = {key: one.model_copy(update={"cold": 2}) for key, one in told(before=state(pool=spared)).items()}
    assert carried(HandoverData(records)).backends == records
    after = state(pool=spared)
    assert restore.cold(after, records) == {backend(after).slot: 2}
    assert restore.cold(state(B, pool=spared), records) == {}
    assert restore.cold(state(), records) == {}


def carried(memory: HandoverData) -> HandoverData:
    """The memory on the other side."""
    listener = HandoverReader()
    for kind, fields in memory.messages():
        message = decode_body(encode(Message(kind, fields))[1])
        listener.read(message.kind, message.fields)
    return listener.memory


def test_a_backend_that_did_not_change_is_as_it_was() -> None:
    verdict = AgentReport(AdminState.DRAIN, True, AgentWeight(40), 7, "busy")
    known = told(
        state=AdminState.MAINT, weight=9, health=HealthState.DOWN, agent=verdict, usable_since=THEN - 30, ejected=True
    )
    entry = backend(restore.backends(state(), known, NOW))
    assert (entry.state, entry.weight, entry.health) == (AdminState.MAINT, 9, HealthState.DOWN)
    assert entry.agent == verdict
    assert entry.usable_since == NOW - 30


def test_what_has_always_been_so_still_has() -> None:
    entry = backend(restore.backends(state(), told(usable_since=-math.inf), NOW))
    assert entry.usable_since == -math.inf
    assert backend(restore.backends(state(), told(usable_since=None), NOW)).usable_since is None


def test_what_the_file_changes_ends_what_an_operator_did_but_not_its_health() -> None:
    known = told(state=AdminState.DRAIN, weight=9, health=HealthState.UP, usable_since=THEN - 1)
    entry = backend(restore.backends(state(weight=3), known, NOW))
    assert (entry.state, entry.weight, entry.health) == (AdminState.READY, None, HealthState.UP)
    assert entry.usable_since == NOW - 1


def test_of_a_backend_that_moved_nothing_is_known() -> None:
    known = told((HealthTrack(HealthState.UP), "up"), OutlierTrack(ejections=1), health=HealthState.UP, weight=9)
    moved = state(B)
    assert restore.backends(moved, known, NOW) == moved
    assert restore.checks(moved, known, NOW) == {}
    assert restore.tracks(moved, known, NOW) == {}


def test_verdicts_of_sources_no_longer_configured_do_not_count() -> None:
    known = told(
        track=OutlierTrack(out_until=THEN + 5),
        health=HealthState.DOWN,
        agent=AgentReport(down=True),
        stalled="it hangs",
    )
    entry = backend(restore.backends(state(pool={}), known, NOW))
    assert (entry.health, entry.ejected, entry.stalled) == (HealthState.NONE, False, None)
    assert not entry.agent.down


def test_a_backend_that_served_without_checks_goes_on_serving() -> None:
    known = told(before=state(pool={}))
    assert backend(restore.backends(state(), known, NOW)).health is HealthState.UP


def test_checks_go_on_where_they_were() -> None:
    health = HealthTrack(HealthState.DOWN, streak=1, undecided=2, flaps=3, risen_at=THEN - 20)
    known = told((health, "no answer"), health=HealthState.DOWN)
    recalled = restore.backends(state(), known, NOW)
    assert restore.checks(recalled, known, NOW) == {KEY: (replace(health, risen_at=NOW - 20), "no answer")}


def test_a_check_that_says_something_else_than_the_state_is_forgotten() -> None:
    known = told((HealthTrack(HealthState.DOWN), "no answer"), health=HealthState.DOWN)
    assert restore.checks(state(), known, NOW) == {}


def test_an_ejection_lasts_as_long_as_it_would_have() -> None:
    track = OutlierTrack(ejections=2, returned_at=THEN - 60, out_until=THEN + 12, cause=Cause.FAILURES)
    known = told(track=track)
    recalled = restore.backends(state(), known, NOW)
    assert backend(recalled).ejected
    assert restore.tracks(recalled, known, NOW) == {KEY: replace(track, returned_at=NOW - 60, out_until=NOW + 12)}


def test_what_an_operator_does_meanwhile_is_found() -> None:
    now = restore.backends(state(), told(), NOW)
    assert restore.operator_changes(now, told()) == {}
    changed = restore.operator_changes(now, told(state=AdminState.DRAIN, weight=2))[KEY]
    assert (changed.state, changed.weight) == (AdminState.DRAIN, 2)
    assert restore.operator_changes(state(weight=3), told(weight=2)) == {}


def test_another_version_may_know_more_or_less() -> None:
    (one,) = told(weight=9).values()
    fields = json.loads(one.model_dump_json()) | {"mood": "good"}
    listener = HandoverReader()
    listener.read("backends", {"backends": [fields], "weather": "fine"})
    listener.read("songs", {"songs": []})
    assert listener.memory.backends == {KEY: one}
    assert BackendRecord.model_validate({"pool": "app", "name": "a", "config": one.config}).state is AdminState.READY


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("backends", {"backends": [{"pool": "app"}]}),
        ("backends", {}),
        ("backends", {"backends": 7}),
        ("endpoints", {"pool": "app", "endpoints": [{"name": "x", "address": "nowhere"}]}),
        ("sticky", {"pool": "app", "backends": [], "packed": "AAAA"}),
        ("sticky", {"pool": "app", "backends": [], "packed": "?"}),
    ],
)
def test_nonsense_is_an_error(kind: str, fields: dict[str, Any]) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        HandoverReader().read(kind, fields)


def test_sources_and_names_are_carried_whole() -> None:
    endpoints = tuple(
        Endpoint(f"e{number}", Address.parse(A), number % 7, "eu", number % 3, Readiness.DRAINING)
        for number in range(1000)
    )
    names = {Address.parse("app.example:80"): Target(socket.AF_INET6, ("2001:db8::1", 80))}
    memory = carried(HandoverData(endpoints={"app": endpoints, "none": ()}, targets=names))
    assert memory.endpoints == {"app": endpoints, "none": ()}
    assert memory.targets == names


# ---- clients of sticky pools -----------------------------------------------------------------------------------------


def entries(*backends: int) -> list[StickyEntry]:
    return [StickyEntry(key=bytes(15) + bytes([n]), backend=slot, left=n + 0.5) for n, slot in enumerate(backends)]


def test_clients_find_their_backends_in_other_slots() -> None:
    (kind, fields) = sticky_batches.pack("app", entries(5, 7, 5), {5: "a", 7: "b"}).message()
    listener = HandoverReader()
    listener.read(kind, json.loads(json.dumps(fields)))
    (batch,) = listener.memory.sticky
    assert sticky_batches.unpack(batch, {"a": 1, "b": 2}) == entries(1, 2, 1)


def test_clients_of_backends_that_are_gone_are_left_out() -> None:
    batch = sticky_batches.pack("app", entries(5, 7, 9), {5: "a", 7: "b"})
    assert sticky_batches.unpack(batch, {"b": 2}) == entries(5, 2)[1:]


def test_every_client_is_read_however_many_there_are() -> None:
    engine = FakeEngine()
    engine.sticky[3] = entries(*([5] * 200)) * 20
    read = [
        entry
        for batch in sticky_batches.read(engine, "app", 3, {5: "a"}, 0.0)
        for entry in sticky_batches.unpack(batch, {"a": 5})
    ]
    assert read == engine.sticky[3]
    recent = [
        entry
        for batch in sticky_batches.read(engine, "app", 3, {5: "a"}, 150.0)
        for entry in sticky_batches.unpack(batch, {"a": 5})
    ]
    assert recent == [entry for entry in engine.sticky[3] if entry.left >= 150.0]
    engine.close()
