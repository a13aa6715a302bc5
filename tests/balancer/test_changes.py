"""What changes while a configuration runs: health, and what operators want."""

from __future__ import annotations

import asyncio
import errno
import itertools
import logging
from typing import Any

import pytest

from l4lb.balancer import publisher, sessions
from l4lb.errors import ControlError
from l4lb.health.probes import Result
from l4lb.status import AdminState, HealthState
from tests.helpers.build import config, record
from tests.helpers.loops import eventually, run, turns
from tests.helpers.stage import BAD, CHECKED, GOOD, A, B, C, staged

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
            report = stage.balancer.parts.findings.on_health
            for turn in range(200):
                report(("app", A), HealthState.DOWN if turn % 2 else HealthState.UP, "said")
                await turns(1)
            await eventually(lambda: not stage.balancer.parts.publication.publisher.waiting)
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
            assert dict(status.health_checks_total) == {"success": 0, "failure": 1, "inconclusive": 0, "hindered": 0}

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


def test_a_client_that_leaves_the_queue_during_reading_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue is read before the backends: a client counted in both is better than one counted in neither."""
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
            # Numbers that the data plane has no room for.
            for number in (2**64, -1, 10**20, 10**5000):
                with pytest.raises(ControlError, match="there is no session") as info:
                    await stage.balancer.kill_session(number)
                assert info.value.status == 404
                assert len(str(info.value)) < 200
            assert stage.engine.killed_sessions == [7, 8]

    run(main())
