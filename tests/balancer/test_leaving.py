"""What left the configuration, or is about to: its sessions, slots and sockets."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from l4lb.balancer import publisher
from l4lb.balancer.alarms import Alarms
from l4lb.balancer.sessions import Sessions
from l4lb.balancer.weight_controller import WeightController
from l4lb.engine.api import SlotKind
from l4lb.health.probes import Result
from l4lb.status import AdminState
from tests.helpers.build import config, record
from tests.helpers.loops import eventually, run, turns
from tests.helpers.peers import connect
from tests.helpers.stage import BAD, CHECKED, GOOD, A, B, C, listening_sockets, staged


def test_slots_are_released_once_unused() -> None:
    async def main() -> None:
        async with staged() as stage:
            await stage.apply(config(A, B))
            (slot,) = [one.slot for one in stage.engine.snapshot.pools[0].backends if one.name == B]
            await stage.apply(config(A))
            stage.engine.in_use.add((SlotKind.BACKEND, slot))
            await stage.balancer.parts.reclaimer.round()
            assert (SlotKind.BACKEND, slot) in stage.engine.slots
            stage.engine.in_use.clear()
            await stage.balancer.parts.reclaimer.round()
            assert (SlotKind.BACKEND, slot) not in stage.engine.slots

    run(main())


def test_housekeeping_sleeps_while_there_is_nothing_to_do() -> None:
    async def main() -> None:
        async with staged() as stage:
            await stage.apply(config(A, bind=["127.0.0.1:0", "[::1]:0"]))
            await stage.balancer.parts.reclaimer.round()
            waiting = [
                asyncio.ensure_future(stage.balancer.parts.reclaimer.round()),
                asyncio.ensure_future(stage.balancer.parts.socket_closer.round()),
            ]
            await turns()
            assert not any(one.done() for one in waiting)
            sockets = listening_sockets()
            await stage.apply(config(A, bind="[::1]:0"))
            await asyncio.gather(*waiting)
            assert listening_sockets() == sockets - 2

    run(main())


def test_what_is_changed_while_housekeeping_waits_for_a_worker_is_seen_to_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        asked, answer = threading.Event(), threading.Event()

        def set_draining(_slots: Sequence[int], _draining: bool, _spread_ms: int) -> int:
            asked.set()
            answer.wait(10)
            return 0

        async with staged() as stage:
            monkeypatch.setattr(stage.engine, "set_draining", set_draining)
            await stage.apply(config(A, B, C))
            await stage.apply(config(A, C))
            slots = len(stage.engine.slots)
            waiting = asyncio.ensure_future(stage.balancer.parts.reclaimer.round())
            await eventually(asked.is_set)
            await stage.apply(config(A))
            answer.set()
            await waiting
            async with asyncio.timeout(10):
                await stage.balancer.parts.reclaimer.round()
            assert len(stage.engine.slots) == slots - 2

    run(main())


def test_quiet_sessions_leave_with_their_backend_unless_the_pool_keeps_them() -> None:
    async def main() -> None:
        async with staged() as stage:
            keep = {"drain_quiet": "keep"}
            await stage.apply(config(A, B, C, pool=keep))
            slots = {one.name: one.slot for one in stage.engine.snapshot.pools[0].backends}
            stage.engine.in_use |= {(SlotKind.BACKEND, slot) for slot in slots.values()}
            stage.balancer.set_backend("app", B, state=AdminState.DRAIN)
            await stage.apply(config(A, B, pool=keep))
            await stage.balancer.parts.reclaimer.round()
            assert stage.engine.draining == {}
            # A drained backend follows the file; a removed one does not.
            await stage.apply(config(A, B))
            await stage.balancer.parts.reclaimer.round()
            assert stage.engine.draining == {slots[B]: True}
            await stage.apply(config(A, B, pool=keep))
            await stage.balancer.parts.reclaimer.round()
            assert stage.engine.draining == {slots[B]: False}
            stage.balancer.drain_all()
            await stage.balancer.parts.reclaimer.round()
            assert stage.engine.draining == {slots[B]: False}

    run(main())


def test_quiet_sessions_leave_over_the_time_that_their_pool_says() -> None:
    """Of backends that are drained, that left, and of all when the process stops."""

    async def main() -> None:
        async with staged() as stage:
            spread = {"drain_spread": 2.5}
            await stage.apply(config(A, B, C, pool=spread))
            slots = {one.name: one.slot for one in stage.engine.snapshot.pools[0].backends}
            stage.engine.in_use |= {(SlotKind.BACKEND, slot) for slot in slots.values()}
            stage.balancer.set_backend("app", B, state=AdminState.DRAIN)
            await stage.apply(config(A, B, pool=spread))
            await stage.balancer.parts.reclaimer.round()
            assert stage.engine.spreads == {slots[B]: 2500, slots[C]: 2500}
            stage.balancer.set_backend("app", B, state=AdminState.READY)
            await stage.balancer.parts.reclaimer.round()
            assert stage.engine.draining[slots[B]] is False
            stage.balancer.drain_all()
            await stage.balancer.parts.reclaimer.round()
            assert stage.engine.draining == dict.fromkeys(slots.values(), True)
            assert stage.engine.spreads == dict.fromkeys(slots.values(), 2500)

    run(main())


def test_clients_between_two_requests_leave_when_the_process_stops_and_only_then() -> None:
    async def main() -> None:
        async with staged() as stage:
            await stage.apply(config(A, B, pool={"protocol": "http1", "drain_spread": 2.5}))
            stage.balancer.set_backend("app", B, state=AdminState.DRAIN)
            await stage.apply(config(A, pool={"protocol": "http1", "drain_spread": 2.5}))
            await stage.balancer.parts.reclaimer.round()
            assert stage.engine.client_spreads == []
            stage.balancer.drain_all()
            for _ in range(3):
                stage.balancer.parts.reclaimer.dirty.set()
                await stage.balancer.parts.reclaimer.round()
            assert stage.engine.client_spreads == [2500]

    run(main())


def test_clients_that_could_not_be_told_to_leave_are_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with staged() as stage:
            await stage.apply(config(A, pool={"protocol": "http1"}))
            stage.balancer.drain_all()
            with monkeypatch.context() as patch:
                patch.setattr(stage.engine, "drain_clients", lambda _spread_ms: 1 / 0)
                with pytest.raises(ZeroDivisionError):
                    await stage.balancer.parts.reclaimer.round()
            await stage.balancer.parts.reclaimer.round()
            assert stage.engine.client_spreads == [0]

    run(main())


def test_sessions_of_a_backend_that_left_are_killed_when_patience_is_over() -> None:
    async def main() -> None:
        async with staged() as stage:
            await stage.apply(config(A, B, C, pool={"drain_timeout": 0}))
            slots = {one.name: one.slot for one in stage.engine.snapshot.pools[0].backends}
            stage.engine.in_use |= {(SlotKind.BACKEND, slots[B])}
            await stage.apply(config(A))
            await stage.balancer.parts.reclaimer.round()
            # C had no session, so it left without a kill.
            assert stage.engine.killed_backends == [slots[B]]
            await stage.balancer.parts.reclaimer.round()
            assert stage.engine.killed_backends == [slots[B]]

    run(main())


@pytest.mark.parametrize("patience", [600, "off"])
def test_sessions_of_a_backend_that_left_go_on_while_patience_lasts(patience: object) -> None:
    async def main() -> None:
        async with staged() as stage:
            await stage.apply(config(A, B, pool={"drain_timeout": patience}))
            stage.engine.in_use |= stage.engine.slots
            await stage.apply(config(A))
            for _ in range(3):
                await stage.balancer.parts.reclaimer.round()
            assert stage.engine.killed_backends == []

    run(main())


def test_session_of_a_backend_that_left_still_has_its_name() -> None:
    async def main() -> None:
        async with staged() as stage:
            await stage.apply(config(A, B))
            snapshot = stage.engine.snapshot
            ids = {"listener": snapshot.listeners[0].slot, "pool": snapshot.pools[0].slot}
            slot = snapshot.pools[0].backends[1].slot
            stage.engine.in_use.add((SlotKind.BACKEND, slot))
            await stage.apply(config(A))
            stage.engine.records = [record(id=2, backend=slot, **ids)]
            assert [session.backend for session in await stage.balancer.sessions()] == [B]
            # Its last event and the end of its use come together.
            stage.engine.happen(record(id=2, backend=slot, **ids))
            stage.engine.in_use.clear()
            await stage.balancer.parts.reclaimer.round()
            await eventually(lambda: stage.reported)
            assert [session.backend for session in stage.reported] == [B]

    run(main())


def test_a_stop_that_the_data_plane_refuses_at_first_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "PUBLISH_RETRY", 0.01)

    async def main() -> None:
        async with staged() as stage:
            await stage.apply(config(A))
            address = stage.address()
            stage.engine.publish_error = RuntimeError("unforeseen")
            stopping = asyncio.ensure_future(stage.balancer.stop_accepting())
            await turns()
            connect(address).close()
            stage.engine.publish_error = None
            await stopping
            assert not stage.engine.snapshot.listeners[0].fds
            with pytest.raises(ConnectionRefusedError):
                connect(address)

    run(main())


def test_a_slot_is_given_back_once_whatever_becomes_of_its_last_events(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Sessions, "_deliver", lambda *_: 1 / 0)

    async def main() -> None:
        async with staged() as stage:
            await stage.apply(config(A, B))
            slots = set(stage.engine.slots)
            await stage.apply(config(A))
            stage.engine.happen(record(id=2))
            await stage.balancer.parts.reclaimer.round()
            assert len(stage.engine.slots) == len(slots) - 1
            stage.engine.happen(record(id=3))
            await eventually(lambda: len(caplog.messages) == 2)

    run(main())
    assert caplog.messages == ["1 events of sessions could not be delivered"] * 2


def test_a_slot_is_given_back_once_even_if_its_name_cannot_be_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with staged() as stage:
            await stage.apply(config(A, B))
            slots = set(stage.engine.slots)
            await stage.apply(config(A))
            with monkeypatch.context() as patch:
                patch.setattr(Sessions, "forget", lambda *_: 1 / 0)
                with pytest.raises(ZeroDivisionError):
                    await stage.balancer.parts.reclaimer.round()
            await stage.balancer.parts.reclaimer.round()
            assert len(stage.engine.slots) == len(slots) - 1

    run(main())


@pytest.mark.parametrize("part", [(WeightController, "apply_factors"), (Alarms, "look_for_backends")])
def test_a_backend_that_dies_is_told_whatever_else_fails(
    part: tuple[type, str], answers: dict[int, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        answers.update({9001: GOOD, 9002: GOOD})
        async with staged() as stage:
            await stage.apply(config(A, B, pool={"health": CHECKED["health"] | {"interval": 0.01}}))
            await eventually(lambda: stage.usable() == {A: True, B: True})
            monkeypatch.setattr(*part, lambda *_, **__: 1 / 0)
            answers[9001] = BAD
            await eventually(lambda: stage.usable() == {A: False, B: True})

    run(main())


def test_sockets_are_closed_only_when_no_worker_has_them() -> None:
    async def main() -> None:
        async with staged() as stage:
            await stage.apply(config(A, bind=["127.0.0.1:0", "[::1]:0"]))
            before, address = listening_sockets(), stage.address()
            await stage.apply(config(A, bind="[::1]:0"))
            stage.engine.retired = 1
            await stage.balancer.parts.socket_closer.round()
            assert listening_sockets() == before
            stage.engine.retired = 0
            await stage.balancer.parts.socket_closer.round()
            assert listening_sockets() == before - 2
            with pytest.raises(ConnectionRefusedError):
                connect(address)

    run(main())


def test_bind_that_comes_back_before_it_was_closed_is_the_same_socket() -> None:
    async def main() -> None:
        async with staged() as stage:
            both, one = config(A, bind=["127.0.0.1:0", "[::1]:0"]), config(A, bind="[::1]:0")
            await stage.apply(both)
            fds = stage.engine.snapshot.listeners[0].fds
            stage.engine.retired = 1
            await stage.apply(one)
            await stage.balancer.parts.socket_closer.round()
            await stage.apply(both)
            stage.engine.retired = 0
            await stage.balancer.parts.socket_closer.round()
            assert stage.engine.snapshot.listeners[0].fds == fds
            connect(stage.address()).close()

    run(main())
