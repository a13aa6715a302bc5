"""The balancer over a data plane that can be made to fail: all or nothing, departures, health, run-time changes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import logging
import os
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from l4lb.config import Address, Config
from l4lb.control import publisher, sessions
from l4lb.control.alarms import Alarms
from l4lb.control.api import AdminState, HealthState, Session
from l4lb.control.balancer import Balancer
from l4lb.control.sessions import Sessions
from l4lb.engine.api import EngineOptions, SlotKind
from l4lb.errors import ControlError, StartError
from l4lb.health.probes import Result, Target, failure, success
from l4lb.load.weigher import Weigher
from tests.control.build import config, record
from tests.helpers.fake_engine import FakeEngine
from tests.helpers.loops import eventually, run, turns
from tests.helpers.mmdb import write_database
from tests.helpers.peers import connect, listen

A, B, C = "127.0.0.1:9001", "127.0.0.1:9002", "127.0.0.1:9003"
CHECKED: dict[str, Any] = {"health": {"interval": 3600, "timeout": 1, "rise": 1, "fall": 1}}


class Stage:
    """A balancer on a fake engine, and the sessions that were reported."""

    def __init__(self) -> None:
        self.engine = FakeEngine(EngineOptions(workers=2))
        self.reported: list[Session] = []
        self.balancer = Balancer(self.engine, self.reported.extend)

    async def apply(self, config: Config) -> None:
        self.balancer.apply(await self.balancer.prepare(config))

    def address(self) -> tuple[str, int]:
        host, _, port = self.balancer.listeners()["web"].bind[0].rpartition(":")
        return host, int(port)

    def backend(self, name: str = A) -> Any:
        return self.balancer.pools()["app"].backends[name]

    def usable(self) -> dict[str, bool]:
        return {backend.name: backend.usable for backend in self.engine.snapshot.pools[0].backends}


@contextlib.asynccontextmanager
async def staged() -> AsyncIterator[Stage]:
    stage = Stage()
    try:
        yield stage
    finally:
        await stage.balancer.close()
    assert stage.engine.closed


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[int, Result]:
    """What a check of each port finds; a port that is not there is not answered at all."""
    answers: dict[int, Result] = {}

    async def probe(target: Target, _settings: object, _subject: object) -> Result:
        await eventually(lambda: target.address[1] in answers)
        return answers[target.address[1]]  # type: ignore[index]

    monkeypatch.setattr("l4lb.health.scheduler.probe", probe)
    return answers


FIXED = "127.0.0.9"
"""Where no port is taken by those who ask for any."""

GOOD, BAD = success("fine"), failure("broken")
UP, DOWN = HealthState.UP, HealthState.DOWN


def listening_sockets() -> int:
    return len(os.listdir("/proc/self/fd"))


# ---- all or nothing --------------------------------------------------------------------------------------------------


def test_configuration_reaches_the_engine_and_clients_the_sockets() -> None:
    async def main() -> None:
        async with staged() as stage:
            await stage.apply(config(A, B))
            (listener,) = stage.engine.snapshot.listeners
            assert [len(fds) for fds in listener.fds] == [2]
            assert stage.usable() == {A: True, B: True}
            connect(stage.address()).close()

    run(main())


def everything(stage: Stage) -> tuple[object, ...]:
    """All that a change that fails must leave alone: what runs, what is known, and what is held for it."""
    pools = {name: replace(pool, discovery=None) for name, pool in stage.balancer.pools().items()}
    found = {
        name: None if pool.discovery is None else replace(pool.discovery, age=None)
        for name, pool in stage.balancer.pools().items()
    }
    tasks = {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}
    held = set(stage.engine.slots), len(stage.engine.snapshots), dict(stage.engine.leaving), listening_sockets()
    return pools, found, stage.balancer.listeners(), tasks, *held


@contextlib.contextmanager
def fault(step: str, stage: Stage, folder: Path) -> Iterator[str]:
    """Let a step of the change fail meanwhile; what is said of it."""
    engine = stage.engine
    match step.split():
        case ["address"]:
            with listen(FIXED, int((folder / "port").read_text())):
                yield "listeners.l48: cannot bind .*: Address already in use"
        case ["database" | "certificate" as name]:
            lost = (folder / name).rename(folder / "lost")
            yield name
            lost.rename(folder / name)
        case ["slots", left]:
            before, engine.slots_left = engine.slots_left, int(left)
            yield "cannot take this configuration: .*No space left"
            assert engine.slots_left == int(left)
            engine.slots_left = before
        case _:
            engine.publish_error = OSError(errno.ENOMEM, "no memory") if step == "memory" else ValueError("no prime")
            yield "cannot take this configuration: .*no (memory|prime)"
            engine.publish_error = None


@pytest.mark.parametrize(
    "step", ["database", "certificate", "address", *(f"slots {left}" for left in (0, 1, 40, 59)), "memory", "prime"]
)
def test_a_change_that_fails_at_any_step_changes_nothing(step: str, answers: dict[int, Result], tmp_path: Path) -> None:
    answers |= {9001: GOOD, 9002: BAD, 9003: GOOD}
    with listen(FIXED) as reserve:
        (tmp_path / "port").write_text(str(port := reserve.getsockname()[1]))
    write_database(tmp_path / "database", {"192.0.2.0/24": {"country": {"iso_code": "DE"}}})
    (tmp_path / "certificate").write_bytes(trustme.CA().cert_pem.bytes())
    for name in ("old", "new"):
        (tmp_path / f"{name}.json").write_text(f'[{{"targets": ["{A}", "{B}"], "labels": {{"of": "{name}"}}}}]')
    source = {"discover": {"file": {"path": str(tmp_path / "old.json")}}}
    small = config(C, pool=CHECKED | source | {"passive": {}}, zones={"x": ["10.0.0.0/8"]})
    # It has nothing in common with the other one but names.
    tls = {"type": "tcp", "tls": {"ca": str(tmp_path / "certificate")}}
    wanted = config(
        geo={"database": str(tmp_path / "database")},
        zones={"x": ["country:DE"]},
        listeners={
            f"l{n}": {"bind": f"{FIXED}:{port}" if n == 48 else "127.0.0.1:0", "pool": "app"} for n in range(50)
        },
        pools={
            "app": {"backends": [A], "sticky": {}, "discover": {"file": {"path": str(tmp_path / "new.json")}}},
            **{f"p{n}": {"backends": [A], "health": tls} for n in range(5)},
        },
    )

    async def main() -> None:
        async with staged() as stage:
            await stage.apply(small)
            while len(stage.usable()) != 3:
                await stage.balancer.rediscover()
            await eventually(lambda: (stage.backend(B).health, stage.backend().health) == (DOWN, UP))
            stage.balancer.set_backend("app", A, state=AdminState.DRAIN, weight=7)
            await stage.balancer.tidy()
            with fault(step, stage, tmp_path) as why:
                before = everything(stage)
                with pytest.raises(StartError, match=why):
                    await stage.apply(wanted)
                stage.balancer.discard()
                await eventually(lambda: everything(stage) == before)
            await stage.apply(wanted)
            assert len(stage.balancer.listeners()) == 50

    run(main())


def test_same_configuration_again_keeps_sockets_and_slots() -> None:
    async def main() -> None:
        async with staged() as stage:
            wanted = config(A, B)
            await stage.apply(wanted)
            for _ in range(10):
                await stage.apply(wanted)
                await stage.balancer.tidy()
            assert stage.engine.snapshot == stage.engine.snapshots[0]
            assert len(stage.engine.slots) == 4

    run(main())


# ---- what leaves -----------------------------------------------------------------------------------------------------


def test_slots_are_given_back_once_nobody_uses_them() -> None:
    async def main() -> None:
        async with staged() as stage:
            await stage.apply(config(A, B))
            (slot,) = [one.slot for one in stage.engine.snapshot.pools[0].backends if one.name == B]
            await stage.apply(config(A))
            stage.engine.in_use.add((SlotKind.BACKEND, slot))
            await stage.balancer.tidy()
            assert (SlotKind.BACKEND, slot) in stage.engine.slots
            stage.engine.in_use.clear()
            await stage.balancer.tidy()
            assert (SlotKind.BACKEND, slot) not in stage.engine.slots

    run(main())


def test_housekeeping_sleeps_while_there_is_nothing_to_do() -> None:
    async def main() -> None:
        async with staged() as stage:
            await stage.apply(config(A, bind=["127.0.0.1:0", "[::1]:0"]))
            await stage.balancer.tidy()
            waiting = [
                asyncio.ensure_future(stage.balancer.tidy()),
                asyncio.ensure_future(stage.balancer.close_sockets()),
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

        def set_leaving(_slots: Sequence[int], _leaving: bool) -> int:
            asked.set()
            answer.wait(10)
            return 0

        async with staged() as stage:
            monkeypatch.setattr(stage.engine, "set_leaving", set_leaving)
            await stage.apply(config(A, B, C))
            await stage.apply(config(A, C))
            slots = len(stage.engine.slots)
            waiting = asyncio.ensure_future(stage.balancer.tidy())
            await eventually(asked.is_set)
            await stage.apply(config(A))
            answer.set()
            await waiting
            async with asyncio.timeout(10):
                await stage.balancer.tidy()
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
            await stage.balancer.tidy()
            assert stage.engine.leaving == {}
            # Whoever is drained follows the file; whoever has left does not.
            await stage.apply(config(A, B))
            await stage.balancer.tidy()
            assert stage.engine.leaving == {slots[B]: True}
            await stage.apply(config(A, B, pool=keep))
            await stage.balancer.tidy()
            assert stage.engine.leaving == {slots[B]: False}
            stage.balancer.see_off()
            await stage.balancer.tidy()
            assert stage.engine.leaving == {slots[B]: False}

    run(main())


def test_sessions_of_a_backend_that_left_are_killed_when_patience_is_over() -> None:
    async def main() -> None:
        async with staged() as stage:
            await stage.apply(config(A, B, C, pool={"drain_timeout": 0}))
            slots = {one.name: one.slot for one in stage.engine.snapshot.pools[0].backends}
            stage.engine.in_use |= {(SlotKind.BACKEND, slots[B])}
            await stage.apply(config(A))
            await stage.balancer.tidy()
            # C had no session, so it left without a kill.
            assert stage.engine.killed_backends == [slots[B]]
            await stage.balancer.tidy()
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
                await stage.balancer.tidy()
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
            await stage.balancer.tidy()
            await eventually(lambda: stage.reported)
            assert [session.backend for session in stage.reported] == [B]

    run(main())


def test_a_stop_that_the_data_plane_refuses_at_first_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "PUBLISH_RETRY", 0.01)

    async def main() -> None:
        async with staged() as stage:
            await stage.apply(config(A))
            address = stage.address()
            stage.engine.publish_error = RuntimeError("nobody foresaw it")
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
            await stage.balancer.tidy()
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
                    await stage.balancer.tidy()
            await stage.balancer.tidy()
            assert len(stage.engine.slots) == len(slots) - 1

    run(main())


@pytest.mark.parametrize("part", [(Weigher, "weigh"), (Alarms, "look_for_backends")])
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
            await stage.balancer.close_sockets()
            assert listening_sockets() == before
            stage.engine.retired = 0
            await stage.balancer.close_sockets()
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
            await stage.balancer.close_sockets()
            await stage.apply(both)
            stage.engine.retired = 0
            await stage.balancer.close_sockets()
            assert stage.engine.snapshot.listeners[0].fds == fds
            connect(stage.address()).close()

    run(main())


# ---- health ----------------------------------------------------------------------------------------------------------


def test_first_change_counts_at_once_and_the_ones_after_it_together(answers: dict[int, Result]) -> None:
    async def main() -> None:
        async with staged() as stage:
            backends = [f"127.0.0.1:{port}" for port in range(9001, 9061)]
            await stage.apply(config(*backends, pool=CHECKED))
            assert not any(stage.usable().values())
            answers[9001] = GOOD
            await eventually(lambda: stage.usable()[A])
            published = len(stage.engine.snapshots)
            answers.update(dict.fromkeys(range(9002, 9061), GOOD))
            await eventually(lambda: all(stage.usable().values()))
            # Of 59; how many there are is the machine's doing.
            assert len(stage.engine.snapshots) - published <= 20

    run(main())


def test_changes_of_health_are_published_no_faster_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many changes there are: one snapshot at once, one after the interval."""

    async def main() -> None:
        async with staged() as stage:
            await stage.apply(config(A, B, pool={"health": {"interval": 3600, "timeout": 1}}))
            calls: list[float] = []
            loop = asyncio.get_running_loop()
            real = stage.engine.publish

            def publish(snapshot: Any) -> None:
                calls.append(loop.time())
                real(snapshot)

            monkeypatch.setattr(stage.engine, "publish", publish)
            report = stage.balancer._on_health
            for turn in range(200):
                report(("app", A), HealthState.DOWN if turn % 2 else HealthState.UP, "said")
                await turns(1)
            await eventually(lambda: not stage.balancer._publisher.waiting)
            assert all(
                after - before >= publisher.PUBLISH_INTERVAL * 0.9 for before, after in itertools.pairwise(calls)
            )
            assert stage.usable()[A] is False

    run(main())


def test_backend_that_fails_gets_no_new_session_and_says_why(answers: dict[int, Result]) -> None:
    async def main() -> None:
        async with staged() as stage:
            answers.update({9001: GOOD, 9002: BAD})
            await stage.apply(config(A, B, pool=CHECKED))
            await eventually(
                lambda: stage.usable() == {A: True, B: False} and stage.backend(B).health is HealthState.DOWN
            )
            status = stage.backend(B)
            assert (status.health_message, status.effective_weight, status.weight) == ("broken", 0, 1)
            assert dict(status.health_checks_total) == {"success": 0, "failure": 1, "inconclusive": 0}

    run(main())


def test_pool_that_loses_its_last_backend_is_reported(
    answers: dict[int, Result], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with staged() as stage:
            answers[9001] = BAD
            await stage.apply(config(A, pool=CHECKED))
            await eventually(lambda: "pool app has no usable backend" in caplog.text)

    run(main())
    assert f"app/{A} is down: broken" in caplog.text


def test_who_leaves_the_waiting_room_while_it_is_read_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The room is read before the places outside of it: one who is seen in both is better than one in neither."""
    order: list[str] = []

    async def main() -> None:
        async with staged() as stage:
            await stage.apply(config(A, pool={"queue": {}}))
            for name in ("pool_statistics", "backend_statistics"):
                read = getattr(stage.engine, name)
                monkeypatch.setattr(
                    stage.engine, name, lambda slot, n=name, read=read: (order.append(n), read(slot))[1]
                )
            stage.balancer.pools()

    run(main())
    assert order == ["pool_statistics", "backend_statistics"]


@pytest.mark.parametrize(
    ("pool", "level", "fate"),
    [
        ({}, "ERROR", "are turned away"),
        ({"queue": {}}, "ERROR", "wait"),
        ({"queue": {}, "scale_to_zero": True}, "INFO", "wait"),
    ],
)
def test_what_becomes_of_clients_of_an_empty_pool_is_told(
    answers: dict[int, Result], caplog: pytest.LogCaptureFixture, pool: dict[str, object], level: str, fate: str
) -> None:
    caplog.set_level(logging.INFO)

    async def main() -> None:
        async with staged() as stage:
            answers[9001] = BAD
            await stage.apply(config(A, pool=CHECKED | pool))
            await eventually(lambda: "pool app has no usable backend" in caplog.text)

    run(main())
    (told,) = (record for record in caplog.records if "no usable backend" in record.message)
    assert (told.levelname, told.message) == (level, f"pool app has no usable backend: its clients {fate}")


def test_publishing_health_is_tried_again_after_a_failure(
    answers: dict[int, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        monkeypatch.setattr(publisher, "PUBLISH_RETRY", 0.01)
        async with staged() as stage:
            await stage.apply(config(A, pool=CHECKED))
            stage.engine.publish_error = OSError(errno.ENOMEM, "Cannot allocate memory")
            answers[9001] = GOOD
            await eventually(lambda: stage.backend(A).health is HealthState.UP)
            await turns()
            stage.engine.publish_error = None
            await eventually(lambda: stage.usable()[A])

    run(main())


def test_health_survives_a_reload(answers: dict[int, Result]) -> None:
    async def main() -> None:
        async with staged() as stage:
            answers.update({9001: GOOD, 9002: BAD})
            await stage.apply(config(A, B, pool=CHECKED))
            await eventually(lambda: stage.backend(B).health is HealthState.DOWN and stage.usable()[A])
            answers.clear()
            await stage.apply(config(A, B, C, pool=CHECKED | {"retries": 0}))
            assert stage.usable() == {A: True, B: False, C: False}
            assert stage.backend(C).health is HealthState.PENDING

    run(main())


def test_backend_that_moved_behind_one_check_port_comes_back(answers: dict[int, Result]) -> None:
    """The check's address is the same, the backend's is not: it has to be checked before it is used."""

    async def main() -> None:
        async with staged() as stage:
            answers[9100] = GOOD
            checked = {"health": CHECKED["health"] | {"port": 9100}}
            await stage.apply(config({"name": "a", "address": A}, pool=checked))
            await eventually(lambda: stage.usable()["a"])
            await stage.apply(config({"name": "a", "address": B}, pool=checked))
            assert not stage.usable()["a"]
            await eventually(lambda: stage.usable()["a"])

    run(main())


# ---- names -----------------------------------------------------------------------------------------------------------


def test_name_that_does_not_resolve_waits_and_is_used_once_it_does(answers: dict[int, Result]) -> None:
    async def main() -> None:
        found: list[Any] = []

        async def getaddrinfo(_host: str, port: int, **_options: Any) -> Any:
            if not found:
                raise socket.gaierror(-2, "Name or service not known")
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (found[0], port))]

        asyncio.get_running_loop().getaddrinfo = getaddrinfo  # type: ignore[method-assign, assignment]
        async with staged() as stage:
            await stage.apply(config({"name": "a", "address": "model.example:80"}))
            assert stage.usable() == {"a": False}
            assert stage.backend("a").health_message == "its name does not resolve"
            for address in ("192.0.2.1", "192.0.2.2"):
                found[:] = [address]
                await stage.balancer.resolve_again()
                (spec,) = stage.engine.snapshot.pools[0].backends
                assert (spec.address, spec.usable) == ((address, 80), True)
            published = len(stage.engine.snapshots)
            await stage.balancer.resolve_again()
            found.clear()
            await stage.balancer.resolve_again()
            assert len(stage.engine.snapshots) == published

    run(main())


# ---- run time --------------------------------------------------------------------------------------------------------


def test_backend_is_drained_weighted_and_made_ready() -> None:
    async def main() -> None:
        async with staged() as stage:
            await stage.apply(config(A, B))
            stage.balancer.set_backend("app", A, state=AdminState.DRAIN)
            assert stage.usable() == {A: False, B: True}
            stage.balancer.set_backend("app", A, state=AdminState.READY, weight=7)
            assert stage.usable() == {A: True, B: True}
            assert [one.weight for one in stage.engine.snapshot.pools[0].backends] == [7, 1]
            published = len(stage.engine.snapshots)
            stage.balancer.set_backend("app", A, state=AdminState.READY, weight=7)
            assert len(stage.engine.snapshots) == published
            await stage.apply(config(A, C))
            assert stage.backend(A).weight == 7

    run(main())


def test_change_that_the_engine_refuses_for_now_is_made_later(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(publisher, "PUBLISH_RETRY", 0.01)
        async with staged() as stage:
            await stage.apply(config(A, B))
            stage.engine.publish_error = OSError(errno.ENOMEM, "Cannot allocate memory")
            stage.balancer.set_backend("app", A, state=AdminState.DRAIN)
            assert stage.usable() == {A: True, B: True}
            stage.engine.publish_error = None
            await eventually(lambda: stage.usable() == {A: False, B: True})

    run(main())


@pytest.mark.parametrize(
    ("pool", "backend", "weight", "status", "sentence"),
    [
        ("nope", A, 1, 404, "there is no pool 'nope'; `l4lb status` shows the names"),
        ("app", "nope", 1, 404, "there is no backend 'nope' in pool 'app'; `l4lb status` shows the names"),
        ("app", A, 257, 400, "weight 257 is out of range; weights are 0 to 256"),
        ("app", A, -1, 400, "weight -1 is out of range; weights are 0 to 256"),
    ],
)
def test_change_that_cannot_be_made_changes_nothing(
    pool: str, backend: str, weight: int, status: int, sentence: str
) -> None:
    async def main() -> None:
        async with staged() as stage:
            await stage.apply(config(A))
            with pytest.raises(ControlError) as info:
                stage.balancer.set_backend(pool, backend, weight=weight)
            assert (info.value.status, str(info.value)) == (status, sentence)
            assert len(stage.engine.snapshots) == 1
            assert stage.backend(A).weight == 1

    run(main())


def test_backend_in_maintenance_is_not_checked_and_is_checked_before_it_serves_again(
    answers: dict[int, Result],
) -> None:
    async def main() -> None:
        async with staged() as stage:
            answers[9001] = GOOD
            await stage.apply(config(A, pool=CHECKED))
            await eventually(lambda: stage.usable()[A])
            stage.balancer.set_backend("app", A, state=AdminState.MAINT)
            answers.clear()
            status = stage.backend(A)
            assert (status.health, status.health_message) == (HealthState.PENDING, "not checked in maintenance")
            stage.balancer.set_backend("app", A, state=AdminState.READY)
            await turns()
            assert not stage.usable()[A]
            answers[9001] = GOOD
            await eventually(lambda: stage.usable()[A])

    run(main())


def test_sessions_of_all_workers_are_listed_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(sessions, "LISTING_BATCH", 3)
        async with staged() as stage:
            stage.engine.records = [record(id=number) for number in range(1, 21)]
            assert sorted(one.record.id for one in await stage.balancer.sessions()) == list(range(1, 21))
            assert stage.balancer.session_count() == 20

    run(main())


def test_session_is_killed_or_known_to_be_gone() -> None:
    async def main() -> None:
        async with staged() as stage:
            stage.engine.records = [record(id=7)]
            await stage.balancer.kill_session(7)
            with pytest.raises(ControlError, match="there is no session 8") as info:
                await stage.balancer.kill_session(8)
            assert info.value.status == 404
            assert stage.engine.killed_sessions == [7, 8]

    run(main())


# ---- the end ---------------------------------------------------------------------------------------------------------


def test_stopping_takes_no_new_client_and_no_new_configuration(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "web.sock"
        async with staged() as stage:
            await stage.apply(config(A, bind=["127.0.0.1:0", f"unix:{path}"]))
            address = stage.address()
            await stage.balancer.stop_accepting()
            assert stage.engine.snapshot.listeners[0].fds == ()
            assert stage.usable() == {A: True}
            assert not path.exists()
            with pytest.raises(StartError, match="stopping"):
                await stage.apply(config(A, B))
            with pytest.raises(ConnectionRefusedError):
                connect(address)
            stage.balancer.set_backend("app", A, state=AdminState.DRAIN)
            assert stage.engine.snapshot.listeners[0].fds == ()

    run(main())


def test_stopping_waits_for_the_workers_to_let_go() -> None:
    async def main() -> None:
        async with staged() as stage:
            await stage.apply(config(A))
            address = stage.address()
            stage.engine.retired = 1
            stopping = asyncio.ensure_future(stage.balancer.stop_accepting())
            await eventually(lambda: stage.engine.snapshot.listeners[0].fds == ())
            connect(address).close()
            stage.engine.retired = 0
            await stopping
            with pytest.raises(ConnectionRefusedError):
                connect(address)

    run(main())


def test_last_events_are_delivered_at_the_end() -> None:
    async def main() -> list[Session]:
        async with staged() as stage:
            await stage.apply(config(A))
            stage.engine.happen(record(id=1))
            await eventually(lambda: len(stage.reported) == 1)
            real_stop = stage.engine.stop

            def stop() -> None:
                real_stop()
                stage.engine.happen(record(id=2))

            stage.engine.stop = stop  # type: ignore[method-assign]
        return stage.reported

    assert [session.record.id for session in run(main())] == [1, 2]


def test_address_of_a_backend_is_what_the_file_says() -> None:
    async def main() -> None:
        async with staged() as stage:
            await stage.apply(config({"name": "a", "address": A}))
            assert Address.parse(stage.backend("a").address) == Address.parse(A)

    run(main())


# ---- zones and panic -------------------------------------------------------------------------------------------------


def test_zones_reach_the_engine_and_stay_compiled() -> None:
    async def main() -> None:
        async with staged() as stage:
            zoned = {"name": "a", "address": A, "zone": "us"}
            await stage.apply(config(zoned, zones={"eu": ["10.1.0.0/16"], "us": ["10.2.0.0/16"]}))
            table = stage.engine.snapshot.zones
            assert table is not None
            assert stage.engine.snapshot.pools[0].backends[0].zone == 2
            stage.balancer.set_backend("app", "a", weight=7)
            await stage.apply(config(zoned, B, zones={"eu": ["10.1.0.0/16"], "us": ["10.2.0.0/16"]}))
            assert stage.engine.snapshot.zones is table
            assert stage.engine.compiled == 1
            await stage.apply(config(zoned, zones={"us": ["10.2.0.0/16"]}))
            assert stage.engine.compiled == 2
            assert stage.engine.snapshot.pools[0].backends[0].zone == 1
            await stage.apply(config(A))
            assert stage.engine.snapshot.zones is None

    run(main())


def test_selector_that_finds_nothing_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_database(tmp_path / "geo.mmdb", {"192.0.2.0/24": {"country": {"iso_code": "DE"}}})

    async def main() -> None:
        async with staged() as stage:
            await stage.apply(config(A, geo={"database": str(path)}, zones={"x": ["country:DE", "country:DD"]}))

    run(main())
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "zones: no database has a network of country:DD"
    ]


def test_panic_is_told_when_it_begins_and_when_it_ends(
    answers: dict[int, Result], caplog: pytest.LogCaptureFixture
) -> None:
    def told() -> list[str]:
        return [record.message for record in caplog.records if "panics" in record.message or "calm" in record.message]

    async def main() -> None:
        async with staged() as stage:
            answers.update({9001: GOOD, 9002: BAD, 9003: BAD})
            wanted = config(A, B, C, pool=CHECKED | {"panic_threshold": 0.5})
            await stage.apply(wanted)
            await eventually(lambda: stage.balancer.pools()["app"].panic)
            await eventually(lambda: all(stage.usable().values()))
            assert [stage.backend(name).health for name in (A, B)] == [HealthState.UP, HealthState.DOWN]
            assert told() == ["pool app panics: less than 50% of its backends are usable, so health is ignored"]
            await stage.apply(wanted)
            assert len(told()) == 1
            stage.balancer.set_backend("app", C, state=AdminState.DRAIN)
            assert stage.usable() == {A: True, B: False, C: False}
            assert told()[1:] == ["pool app has calmed down: only healthy backends are used"]
            stage.balancer.set_backend("app", A, state=AdminState.MAINT)
            assert stage.usable() == {A: False, B: True, C: False}
            assert len(told()) == 3

    run(main())


def test_rebalancing_moves_nothing_between_tiers_and_zones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backends of a reserve have no connections, and should not."""
    counts: dict[int, int] = {}

    def statistics(self: FakeEngine, slot: int) -> Any:
        return replace(original(self, slot), connections=counts.get(slot, 0))

    original = FakeEngine.backend_statistics
    monkeypatch.setattr(FakeEngine, "backend_statistics", statistics)

    async def main() -> None:
        async with staged() as stage:
            pool = {"rebalance": {"rate": 1000}}
            zones: dict[str, Any] = {"z": []}
            places = [{}, {}, {"tier": 1}, {"zone": "z"}]
            backends = [{"name": f"b{number}", "address": A} | place for number, place in enumerate(places)]
            await stage.apply(config(*backends[:1], *backends[2:], pool=pool, zones=zones))
            await stage.apply(config(*backends, pool=pool, zones=zones))
            slots = {backend.name: backend.slot for backend in stage.engine.snapshot.pools[0].backends}
            counts.update({slots["b0"]: 40, slots["b3"]: 10})
            await stage.balancer.rebalance()
            ((slot, count, _),) = stage.engine.closed_quiet
            assert (slot, count) == (slots["b0"], 20)
            counts.update({slots["b0"]: 20, slots["b1"]: 20})
            await stage.balancer.rebalance()
            assert len(stage.engine.closed_quiet) == 1

    run(main())
