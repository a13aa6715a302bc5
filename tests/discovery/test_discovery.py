"""Sources come and go with the configuration, and what is known outlives a change of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from l4lb.config import Config
from l4lb.discovery import discovery as module
from l4lb.discovery.discovery import Discovery
from tests.helpers.loops import eventually, run

A, B = "10.0.0.1:80", "10.0.0.2:80"


def config(**discover: Any) -> Config:
    """A pool of each name, discovered so."""
    pools = {name: {"discover": settings} if settings else {"backends": []} for name, settings in discover.items()}
    return Config.model_validate(
        {"listeners": {"web": {"bind": "127.0.0.1:0", "pool": next(iter(pools))}}, "pools": pools}
    )


class Stage:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.changes = 0
        self.discovery = Discovery(self._changed)

    def _changed(self) -> None:
        self.changes += 1

    def file(self, name: str, *targets: str, **more: Any) -> dict[str, Any]:
        path = self.folder / f"{name}.json"
        path.with_suffix(".new").write_text(json.dumps([{"targets": targets}]))
        path.with_suffix(".new").replace(path)
        return {"file": {"path": str(path)}} | more

    def found(self, config: Config) -> dict[str, list[str]]:
        return {pool: [one.name for one in found] for pool, found in self.discovery.found(config).items()}


def followers() -> set[asyncio.Task[Any]]:
    """The tasks that watch a source."""
    return {task for task in asyncio.all_tasks() if task.get_name().startswith("discovery ")}


@contextlib.asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[Stage]:
    stage = Stage(folder)
    try:
        yield stage
    finally:
        await stage.discovery.close()


def test_each_pool_has_its_own(tmp_path: Path) -> None:
    async def main() -> None:
        async with staged(tmp_path) as stage:
            both = config(a=stage.file("a", A), b=stage.file("b", B), c=None)
            stage.discovery.apply(both)
            assert stage.discovery.waiting
            await eventually(lambda: not stage.discovery.waiting)
            assert stage.found(both) == {"a": [A], "b": [B]}
            assert stage.changes == 2
            assert stage.discovery.status("c", 0.0) is None
            status = stage.discovery.status("a", 0.0)
            assert status is not None
            assert (status.source, status.endpoints) == ("file", 1)

    run(main())


def test_a_source_that_did_not_change_goes_on_undisturbed(tmp_path: Path) -> None:
    async def main() -> None:
        async with staged(tmp_path) as stage:
            wanted = config(a=stage.file("a", A))
            stage.discovery.apply(wanted)
            await eventually(lambda: not stage.discovery.waiting)
            tasks = followers()
            again = config(a=stage.file("a", A), b=None)
            await stage.discovery.prepare(again)
            stage.discovery.apply(again)
            assert stage.found(again) == {"a": [A]}
            assert not stage.discovery.waiting
            assert followers() == tasks
            assert stage.changes == 1

    run(main())


def test_a_source_that_is_prepared_has_answered_when_it_is_taken_over(tmp_path: Path) -> None:
    async def main() -> None:
        async with staged(tmp_path) as stage:
            before = config(a=None)
            stage.discovery.apply(before)
            wanted = config(a=stage.file("a", A))
            await stage.discovery.prepare(wanted)
            assert stage.found(wanted) == {"a": [A]}
            assert stage.found(before) == {}
            stage.discovery.apply(wanted)
            assert stage.found(wanted) == {"a": [A]}
            stage.file("a", A, B)
            await eventually(lambda: stage.found(wanted) == {"a": [A, B]})

    run(main())


def test_what_is_known_stays_until_another_source_has_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_ANSWER_TIMEOUT", 0.05)

    async def main() -> None:
        async with staged(tmp_path) as stage:
            first = config(a=stage.file("a", A))
            stage.discovery.apply(first)
            await eventually(lambda: not stage.discovery.waiting)
            other = config(a={"file": {"path": str(tmp_path / "b.json")}})
            await stage.discovery.prepare(other)
            assert stage.found(other) == {"a": [A]}
            stage.discovery.apply(other)
            assert stage.found(other) == {"a": [A]}
            stage.file("b", B)
            await eventually(lambda: stage.found(other) == {"a": [B]})

    run(main())


def test_what_was_prepared_in_vain_is_let_go(tmp_path: Path) -> None:
    async def main() -> None:
        async with staged(tmp_path) as stage:
            first = config(a=stage.file("a", A))
            stage.discovery.apply(first)
            await eventually(lambda: not stage.discovery.waiting)
            tasks = followers()
            for _ in range(3):
                await stage.discovery.prepare(config(a=stage.file("b", B)))
            assert stage.found(first) == {"a": [A]}
            stage.discovery.discard()
            await eventually(lambda: followers() == tasks)
            assert stage.found(first) == {"a": [A]}

    run(main())


def test_a_pool_that_goes_takes_its_source_along(tmp_path: Path) -> None:
    async def main() -> None:
        async with staged(tmp_path) as stage:
            stage.discovery.apply(config(a=stage.file("a", A), b=None))
            stage.discovery.apply(config(b=None))
            await eventually(lambda: not followers())
            assert stage.discovery.status("a", 0.0) is None

    run(main())
