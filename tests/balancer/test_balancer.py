"""The balancer over a data plane that can be made to fail: all or nothing, names, zones, and the end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from l4lb.balancer import resolve
from l4lb.config import Address
from l4lb.engine.api import BackendSummary
from l4lb.errors import StartError
from l4lb.health.probes import Result
from l4lb.state.rebalance import LASTING
from l4lb.status import AdminState, HealthState, Session
from tests.helpers.build import config, record
from tests.helpers.loops import eventually, run
from tests.helpers.mmdb import write_database
from tests.helpers.peers import connect, listen
from tests.helpers.stage import BAD, CHECKED, DOWN, FIXED, GOOD, UP, A, B, C, Stage, listening_sockets, staged

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
    held = set(stage.engine.slots), len(stage.engine.snapshots), dict(stage.engine.draining), listening_sockets()
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
                await stage.balancer.parts.rediscovery.round()
            await eventually(lambda: (stage.backend(B).health, stage.backend().health) == (DOWN, UP))
            stage.balancer.set_backend("app", A, state=AdminState.DRAIN, weight=7)
            await stage.balancer.parts.reclaimer.round()
            with fault(step, stage, tmp_path) as why:
                before = everything(stage)
                with pytest.raises(StartError, match=why):
                    await stage.apply(wanted)
                stage.balancer.discard()
                await eventually(lambda: everything(stage) == before)
            await stage.apply(wanted)
            assert len(stage.balancer.listeners()) == 50

    run(main())


@pytest.mark.parametrize("part", ["Sessions.learn", "Reclaimer._retire", "Sockets.apply_settings", "Scheduler.apply"])
def test_what_has_reached_the_engine_is_not_taken_back_whatever_fails_then(
    part: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("unforeseen")

    async def main() -> None:
        async with staged() as stage:
            await stage.apply(config(A))
            with monkeypatch.context() as patch:
                patch.setattr(f"l4lb.balancer.parts.{part}", broken)
                await stage.apply(config(A, B))
            assert "unforeseen" in caplog.text
            assert stage.usable() == {A: True, B: True}
            stage.balancer.set_backend("app", B, weight=3)
            assert [backend.weight for backend in stage.engine.snapshot.pools[0].backends] == [1, 3]

    run(main())


def test_same_configuration_again_keeps_sockets_and_slots() -> None:
    async def main() -> None:
        async with staged() as stage:
            wanted = config(A, B)
            await stage.apply(wanted)
            for _ in range(10):
                await stage.apply(wanted)
                await stage.balancer.parts.reclaimer.round()
            assert stage.engine.snapshot == stage.engine.snapshots[0]
            assert len(stage.engine.slots) == 4

    run(main())


# ---- names -----------------------------------------------------------------------------------------------------------


def test_name_that_does_not_resolve_waits_and_is_used_once_it_does(
    answers: dict[int, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        found: list[Any] = []

        def ask(_name: str) -> list[str]:
            if not found:
                raise socket.gaierror(-2, "Name or service not known")
            return found

        monkeypatch.setattr(resolve, "ask_system", ask)
        async with staged() as stage:
            await stage.apply(config({"name": "a", "address": "model.example:80"}))
            assert stage.usable() == {"a": False}
            assert stage.backend("a").health_message == "its name does not resolve"
            for address in ("192.0.2.1", "192.0.2.2"):
                found[:] = [address]
                await stage.balancer.parts.name_refresher.round()
                (spec,) = stage.engine.snapshot.pools[0].backends
                assert (spec.address, spec.usable) == ((address, 80), True)
            published = len(stage.engine.snapshots)
            await stage.balancer.parts.name_refresher.round()
            found.clear()
            await stage.balancer.parts.name_refresher.round()
            assert len(stage.engine.snapshots) == published

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
        return [
            record.message
            for record in caplog.records
            if "panics" in record.message or "panic is over" in record.message
        ]

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
            assert told()[1:] == ["pool app: panic is over, only healthy backends are used"]
            stage.balancer.set_backend("app", A, state=AdminState.MAINT)
            assert stage.usable() == {A: False, B: True, C: False}
            assert len(told()) == 3

    run(main())


def have(stage: Stage, **connections: int) -> None:
    """The backends of the first pool have so many connections."""
    slots = {backend.name: backend.slot for backend in stage.engine.snapshot.pools[0].backends}
    stage.engine.summary |= {slots[name]: BackendSummary(connections=count) for name, count in connections.items()}


def test_rebalancing_moves_nothing_between_tiers_and_zones() -> None:
    """Backends of a reserve have no connections, and should not."""

    async def main() -> None:
        async with staged() as stage:
            pool = {"rebalance": {"rate": 1000}}
            zones: dict[str, Any] = {"z": []}
            places = [{}, {}, {"tier": 1}, {"zone": "z"}]
            backends = [{"name": f"b{number}", "address": A} | place for number, place in enumerate(places)]
            await stage.apply(config(*backends[:1], *backends[2:], pool=pool, zones=zones))
            await stage.apply(config(*backends, pool=pool, zones=zones))
            have(stage, b0=40, b3=10)
            await stage.balancer.parts.rebalancer.round()
            ((slot, count, _),) = stage.engine.closed_idle
            assert (slot, count) == (stage.engine.snapshot.pools[0].backends[0].slot, 20)
            have(stage, b0=20, b1=20)
            await stage.balancer.parts.rebalancer.round()
            assert len(stage.engine.closed_idle) == 1

    run(main())


@pytest.mark.parametrize(
    ("pool", "closed"),
    [({"balance": "least_connections"}, [20]), ({"balance": "maglev"}, [])],
)
def test_a_pool_that_stays_uneven_is_rebalanced_though_nothing_changed(
    pool: dict[str, Any], closed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """But not where the client decides about the backend."""
    monkeypatch.setattr("l4lb.balancer.rebalancer.WATCH_INTERVAL", 0.0)

    async def main() -> None:
        clock = asyncio.get_running_loop().time
        async with staged() as stage:
            await stage.apply(config(A, B, pool={"rebalance": {"rate": 1000}} | pool))
            have(stage, **{A: 40, B: 0})
            rebalancer = stage.balancer.parts.rebalancer
            await rebalancer.round()
            await rebalancer.round()
            assert stage.engine.closed_idle == []
            later = clock() + LASTING
            monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: later)
            await rebalancer.round()
            assert [count for _, count, _ in stage.engine.closed_idle] == closed

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
