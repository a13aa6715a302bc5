"""What hundreds of reloads leave behind in the process: nothing."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from pathlib import Path

import pytest

from l4lb.balancer.balancer import Balancer
from l4lb.base.tasks import Supervisor
from l4lb.config import Config
from l4lb.engine import NativeEngine
from l4lb.engine.api import EngineOptions, SlotKind
from tests.health.certificates import authority
from tests.helpers.loops import eventually, run
from tests.helpers.peers import listen, spelled
from tests.helpers.weather import Weather

TURNS = 210
"""Twice: every rhythm of the weather fits into it."""

BLOCKS_A_TURN = 1.0
"""Pieces of Python's memory that may come and go by chance. A single object that is left holds several."""


class Engine(NativeEngine):
    """Knows which slots are taken."""

    slots: set[tuple[SlotKind, int]]

    def take_slot(self, kind: SlotKind) -> int:
        slot: int = super().take_slot(kind)
        self.slots.add((kind, slot))
        return slot

    def give_slot(self, kind: SlotKind, slot: int) -> bool:
        given: bool = super().give_slot(kind, slot)
        if given:
            self.slots.remove((kind, slot))
        return given


@pytest.mark.slow
def test_hundreds_of_changes_leave_nothing_of_themselves(tmp_path: Path) -> None:
    closed_ports = []
    for _ in range(4):
        with listen() as closed:
            closed_ports.append(spelled(closed.getsockname()))
    weather = Weather(tmp_path, closed_ports[:3], closed_ports[3], authority(tmp_path).file, closed_ports[0])

    async def main() -> None:
        engine = Engine(EngineOptions(workers=2, max_connections=100))
        engine.slots = set()
        engine.start()
        balancer = Balancer(engine, lambda _sessions: None)

        async def change(turn: int) -> None:
            wanted = weather.config(turn) | {"log": {}}
            balancer.apply(await balancer.prepare(Config.model_validate(wanted)))

        def held() -> tuple[object, ...]:
            tasks = sorted(task.get_name().partition(" ")[0] for task in asyncio.all_tasks())
            kinds = sorted(kind for kind, _ in engine.slots)
            return tasks, kinds, engine.reclaim(), len(os.listdir("/proc/self/fd"))

        await change(0)
        supervisor = Supervisor()
        balancer.start(supervisor)
        try:
            await eventually(lambda: engine.reclaim() == 0)
            before, blocks = held(), []
            for _ in range(2):
                for turn in range(TURNS):
                    await change(turn)
                await change(0)
                await eventually(lambda: held() == before)
                gc.collect()
                blocks.append(sys.getallocatedblocks())
            assert blocks[1] - blocks[0] < BLOCKS_A_TURN * TURNS
        finally:
            await supervisor.close()
            await balancer.close()

    run(main(), deadline=60)
