"""What sources find becomes what runs, whatever a reload or the data plane does meanwhile."""

from __future__ import annotations

import contextlib
import errno
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from l4lb.balancer import balancer, planner
from l4lb.config import Config
from l4lb.errors import StartError
from tests.helpers.build import config
from tests.helpers.loops import eventually, run
from tests.helpers.stage import Stage, staged

A, B, C = "127.0.0.1:9001", "127.0.0.1:9002", "127.0.0.1:9003"


class Finding:
    """A stage whose pool `app` finds its backends in a file."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        self.stage = stage
        self.path = folder / "targets.json"

    def write(self, *targets: str, **labels: str) -> None:
        self.path.with_suffix(".new").write_text(json.dumps([{"targets": targets, "labels": labels}]))
        self.path.with_suffix(".new").replace(self.path)

    def config(self, *backends: str, zones: dict[str, list[str]] | None = None, **pool: Any) -> Config:
        return config(*backends, pool={"discover": {"file": {"path": str(self.path)}}} | pool, zones=zones or {})

    async def wait_usable(self, *names: str) -> None:
        """Follow discovery until exactly these are in use."""
        while set(self.stage.usable()) != set(names):
            await self.stage.balancer.parts.rediscovery.round()


@contextlib.asynccontextmanager
async def finding(folder: Path) -> AsyncIterator[Finding]:
    async with staged() as stage:
        yield Finding(stage, folder)


def test_found_backends_come_and_go_beside_the_listed_ones(tmp_path: Path) -> None:
    async def main() -> None:
        async with finding(tmp_path) as found:
            found.write(A)
            await found.stage.apply(found.config(C))
            await found.wait_usable(A, C)
            slot = found.stage.engine.snapshot.pools[0].backends[1].slot
            found.write(A, B)
            await found.wait_usable(A, B, C)
            found.write(B)
            await found.wait_usable(B, C)
            await found.stage.balancer.parts.reclaimer.round()
            assert found.stage.engine.draining[slot] is True
            assert found.stage.balancer.pools()["app"].discovery is not None

    run(main())


def test_a_pool_whose_last_backend_its_source_takes_away_is_told_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with finding(tmp_path) as found:
            found.write(A)
            wanted = found.config()
            trusting = wanted.pools["app"].discover
            assert trusting is not None
            trusting = trusting.model_copy(update={"hold": 0.0})
            pool = wanted.pools["app"].model_copy(update={"discover": trusting})
            await found.stage.apply(wanted.model_copy(update={"pools": {"app": pool}}))
            await found.wait_usable(A)
            caplog.clear()
            found.write()
            await found.wait_usable()
            assert "pool app has no usable backend" in caplog.text

    run(main())


def test_a_reload_while_a_source_is_asked_takes_over_what_it_answers(tmp_path: Path) -> None:
    async def main() -> None:
        async with finding(tmp_path) as found:
            found.write(A)
            await found.stage.apply(config(C))
            plan = await found.stage.balancer.prepare(found.config())
            # The new source has answered already: that must not undo what was prepared.
            await found.stage.balancer.parts.rediscovery.round()
            assert set(found.stage.usable()) == {C}
            found.stage.balancer.apply(plan)
            assert set(found.stage.usable()) == {A}

    run(main())


def test_a_reload_that_is_rejected_leaves_no_source_behind(tmp_path: Path) -> None:
    async def main() -> None:
        async with finding(tmp_path) as found:
            found.write(A)
            await found.stage.apply(config(C))
            plan = await found.stage.balancer.prepare(found.config())
            found.stage.engine.publish_error = OSError(errno.ENOMEM, "Cannot allocate memory")
            with pytest.raises(StartError):
                found.stage.balancer.apply(plan)
            found.stage.balancer.discard()
            found.stage.engine.publish_error = None
            assert found.stage.balancer.pools()["app"].discovery is None
            assert set(found.stage.usable()) == {C}

    run(main())


def test_what_the_data_plane_refuses_is_tried_again_and_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(planner, "REDISCOVERY_RETRY", 0.01)

    async def main() -> None:
        async with finding(tmp_path) as found:
            found.write(A)
            await found.stage.apply(found.config())
            await found.wait_usable(A)
            slots = set(found.stage.engine.slots)
            found.stage.engine.slots_left = 0
            found.write(A, B)
            for _ in range(3):
                await found.stage.balancer.parts.rediscovery.round()
            assert (found.stage.engine.slots, set(found.stage.usable())) == (slots, {A})
            found.stage.engine.slots_left = 5
            await found.wait_usable(A, B)

    run(main())
    assert caplog.text.count("what was discovered is not in use: ") == 1


def test_weights_and_states_of_an_operator_outlive_changes_of_others(tmp_path: Path) -> None:
    async def main() -> None:
        async with finding(tmp_path) as found:
            found.write(A, weight="3")
            await found.stage.apply(found.config())
            await found.wait_usable(A)
            found.stage.balancer.set_backend("app", A, weight=7)
            found.write(A, B, weight="3")
            await found.wait_usable(A, B)
            assert (found.stage.backend(A).weight, found.stage.backend(B).weight) == (7, 3)
            found.write(A, B, C, weight="4")
            await found.wait_usable(A, B, C)
            assert found.stage.backend(A).weight == 4

    run(main())


def test_tiers_and_known_zones_of_a_source_reach_the_data_plane_and_outlive_other_changes(tmp_path: Path) -> None:
    async def main() -> None:
        async with finding(tmp_path) as found:

            def places() -> dict[str, tuple[int, int]]:
                backends = found.stage.engine.snapshot.pools[0].backends
                return {backend.name: (backend.tier, backend.zone) for backend in backends}

            zones = {"eu-1a": ["127.1.0.0/16"], "eu-1b": ["127.2.0.0/16"]}
            found.write(A, tier="2", zone="eu-1b")
            await found.stage.apply(found.config(zones=zones))
            await found.wait_usable(A)
            table = found.stage.engine.snapshot.zones
            assert (places(), table is None) == ({A: (2, 2)}, False)
            found.stage.balancer.set_backend("app", A, weight=7)
            found.write(A, B, zone="eu-1c")
            await found.wait_usable(A, B)
            assert places() == {A: (0, 0), B: (0, 0)}
            assert found.stage.engine.snapshot.zones is table
            assert found.stage.backend(A).weight == 7

    run(main())


def test_clients_are_held_until_sources_have_answered(tmp_path: Path) -> None:
    async def main() -> None:
        async with finding(tmp_path) as found:
            found.stage.balancer.hold()
            found.write(A)
            await found.stage.apply(found.config())
            assert found.stage.usable() == {}
            await found.stage.balancer.start_accepting()
            assert found.stage.usable() == {A: True}
            assert found.stage.engine.snapshot.listeners[0].fds

    run(main())


def test_clients_are_not_held_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balancer, "FIRST_CHECKS_TIMEOUT", 0.05)

    async def main() -> None:
        async with finding(tmp_path) as found:
            found.stage.balancer.hold()
            await found.stage.apply(found.config(C))
            await found.stage.balancer.start_accepting()
            assert set(found.stage.usable()) == {C}
            assert found.stage.engine.snapshot.listeners[0].fds

    run(main())


def test_backends_found_at_the_start_need_no_slow_start_and_later_ones_do(tmp_path: Path) -> None:
    async def main() -> None:
        async with finding(tmp_path) as found:
            found.stage.balancer.hold()
            found.write(A)
            await found.stage.apply(found.config(slow_start=3600))
            await found.stage.balancer.start_accepting()
            assert found.stage.backend(A).effective_weight == 1
            found.write(A, B)
            await found.wait_usable(A, B)
            assert found.stage.backend(A).effective_weight == 1
            assert found.stage.backend(B).effective_weight < 1

    run(main())


def test_discovery_goes_on_for_waiting_clients_during_a_stop(tmp_path: Path) -> None:
    async def main() -> None:
        async with finding(tmp_path) as found:
            found.write(A)
            await found.stage.apply(found.config())
            await found.wait_usable(A)
            await found.stage.balancer.stop_accepting()
            found.write(A, B)
            await found.wait_usable(A, B)
            await eventually(lambda: not found.stage.engine.snapshot.listeners[0].fds)
            with pytest.raises(StartError, match="stopping"):
                found.stage.balancer.apply(await found.stage.balancer.prepare(found.config(C)))

    run(main())


def test_what_was_found_is_not_lost_with_a_round_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(planner, "REDISCOVERY_RETRY", 0.01)
        async with finding(tmp_path) as found:
            found.write(A)
            await found.stage.apply(found.config())
            await found.wait_usable(A)
            slots = found.stage.engine.slots_left
            found.write(A, B)
            found.stage.engine.publish_error = RuntimeError("unforeseen")
            with pytest.raises(RuntimeError):
                await found.wait_usable(A, B)
            assert found.stage.engine.slots_left == slots
            found.stage.engine.publish_error = None
            await found.wait_usable(A, B)

    run(main())
