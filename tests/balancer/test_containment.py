"""A fault stays in its pool: that pool keeps its last good settings, and the fault is logged, counted and shown."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from l4lb.balancer import compose, planner, publisher
from l4lb.config import Config
from l4lb.engine.api import PoolSpec
from l4lb.errors import StartError
from l4lb.state.containment import Containment, PoolFaults
from l4lb.state.state import PoolEntry
from l4lb.status import AdminState, PoolStatus
from tests.helpers.loops import eventually, run
from tests.helpers.stage import A, B, C, Stage, staged


class Two:
    """A stage with the pools `app` and `other`, each with a file of targets."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        self.stage = stage
        self.folder = folder

    def write(self, pool: str, *targets: str) -> None:
        path = self.folder / f"{pool}.json"
        path.with_suffix(".new").write_text(json.dumps([{"targets": targets}]))
        path.with_suffix(".new").replace(path)

    def config(self, **other: Any) -> Config:
        pools = {name: {"discover": {"file": {"path": f"{self.folder}/{name}.json"}}} for name in ("app", "other")}
        pools["other"] |= other
        return Config.model_validate({"listeners": {"web": {"bind": "127.0.0.1:0", "pool": "app"}}, "pools": pools})

    def spec(self, pool: str) -> PoolSpec:
        names = list(self.stage.balancer.pools())
        return self.stage.engine.snapshot.pools[names.index(pool)]

    def served(self, pool: str) -> set[str]:
        return {backend.name for backend in self.spec(pool).backends}

    def status(self, pool: str) -> PoolStatus:
        return self.stage.balancer.pools()[pool]

    async def wait_served(self, pool: str, *names: str) -> None:
        while self.served(pool) != set(names):
            await self.stage.balancer.parts.rediscovery.round()

    async def wait_fault(self, pool: str) -> None:
        while self.status(pool).fault.message is None:
            await self.stage.balancer.parts.rediscovery.round()


@contextlib.asynccontextmanager
async def two(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Two]:
    monkeypatch.setattr(planner, "REDISCOVERY_RETRY", 0.01)
    async with staged() as stage:
        pair = Two(stage, folder)
        pair.write("app", A)
        pair.write("other", A)
        await stage.apply(pair.config())
        await pair.wait_served("app", A)
        await pair.wait_served("other", A)
        yield pair


def test_a_pool_that_the_data_plane_refuses_keeps_what_it_had_and_others_move_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with two(tmp_path, monkeypatch) as pair:
            slots = len(pair.stage.engine.slots)
            pair.stage.engine.refuses = more_than_one(pair.spec("app").slot)
            pair.write("app", A, B)
            await pair.wait_fault("app")
            pair.write("other", A, B, C)
            await pair.wait_served("other", A, B, C)
            assert pair.served("app") == {A}
            assert len(pair.stage.engine.slots) == slots + 2
            assert (pair.status("other").fault.message, pair.status("other").fault.total) == (None, 0)
            assert "Invalid argument" in (pair.status("app").fault.message or "")
            assert pair.status("app").fault.total > 1
            # What happens to its backends is heard all the same.
            pair.stage.balancer.set_backend("app", A, state=AdminState.DRAIN)
            assert [backend.usable for backend in pair.spec("app").backends] == [False]
            pair.stage.engine.refuses = lambda _: False
            await pair.wait_served("app", A, B)
            assert pair.status("app").fault.message is None

    with caplog.at_level(logging.INFO):
        run(main())
    assert caplog.text.count("pool app: what was discovered is not in use: ") == 1
    assert "pool app is up to date again" in caplog.text


def more_than_one(slot: int) -> Callable[[PoolSpec], bool]:
    return lambda pool: pool.slot == slot and len(pool.backends) > 1


def test_a_pool_that_cannot_be_composed_does_not_stop_changes_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "PUBLISH_RETRY", 0.01)
    composing = compose._pool

    def broken(pool: PoolEntry, zones: Any) -> PoolSpec:
        if "app" in names and pool.slot == app:
            raise RuntimeError("unforeseen")
        return composing(pool, zones)

    names: set[str] = set()

    async def main() -> None:
        nonlocal app
        async with two(tmp_path, monkeypatch) as pair:
            app = pair.spec("app").slot
            monkeypatch.setattr(compose, "_pool", broken)
            names.add("app")
            pair.stage.balancer.set_backend("app", A, weight=7)
            pair.stage.balancer.set_backend("other", A, weight=9)
            assert [backend.weight for backend in pair.spec("other").backends] == [9]
            assert [backend.weight for backend in pair.spec("app").backends] == [1]
            assert pair.status("app").fault.message == "unforeseen"
            names.clear()
            await eventually(lambda: [backend.weight for backend in pair.spec("app").backends] == [7])
            assert pair.status("app").fault.message is None

    app = -1
    run(main())


def test_a_pool_that_finds_more_than_there_is_room_for_leaves_room_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with two(tmp_path, monkeypatch) as pair:
            pair.stage.engine.slots_left = 2
            pair.write("app", A, B, C, "127.0.0.1:9004")
            await pair.wait_fault("app")
            pair.write("other", A, B)
            await pair.wait_served("other", A, B)
            assert pair.served("app") == {A}

    run(main())


def test_a_reload_names_the_pool_that_the_file_has_changed_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with two(tmp_path, monkeypatch) as pair:
            pair.stage.engine.refuses = more_than_one(pair.spec("other").slot)
            with pytest.raises(StartError, match=r"pool other: .*Invalid argument"):
                await pair.stage.apply(pair.config(backends=[B]))
            pair.stage.balancer.discard()
            assert pair.served("other") == {A}
            # What the file does not change is no reason to refuse it.
            await pair.stage.apply(pair.config().model_copy())

    run(main())


def test_a_pool_that_is_new_starts_without_what_is_wrong_with_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "REDISCOVERY_RETRY", 0.01)

    async def main() -> None:
        async with staged() as stage:
            pair = Two(stage, tmp_path)
            pair.write("app", A)
            pair.write("other", A, B)
            stage.engine.slots_left = 5
            await stage.apply(pair.config(backends=[C]))
            await pair.wait_fault("other")
            await pair.wait_served("app", A)
            assert pair.served("other") == {C}

    run(main())


def test_faults_that_cannot_be_contained_are_raised_once_all_are_known() -> None:
    def action(kept: frozenset[str]) -> None:
        tried.append(kept)
        raise PoolFaults({"a": ValueError("one"), "b": ValueError("two")})

    tried: list[frozenset[str]] = []
    with pytest.raises(PoolFaults, match="pool a: one; pool b: two"):
        Containment("it fails").attempt(action, lambda name: name == "a")
    with pytest.raises(PoolFaults):
        Containment("it fails").attempt(action, lambda _: True)
    assert tried == [frozenset(), frozenset(), frozenset("ab")]


def test_a_message_of_many_faults_is_bounded() -> None:
    message = str(PoolFaults({str(number): ValueError("wrong") for number in range(10_000)}))
    assert len(message) < 200
    assert "9997 more pools" in message


def test_pools_that_are_gone_are_not_counted_for_ever() -> None:
    containment = Containment("it fails")

    def action(kept: frozenset[str]) -> None:
        if not kept:
            raise PoolFaults({"a": ValueError("one")})

    containment.attempt(action, lambda _: True)
    assert (containment.fault("a"), containment.faults_total["a"]) == ("one", 1)
    containment.forget({"b": None})
    assert "a" not in containment.faults_total
