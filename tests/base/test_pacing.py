"""Loops that ask again do so at a bounded rate, whatever ended the round before."""

from __future__ import annotations

import ast
import itertools
import types
from pathlib import Path

import pytest

import l4lb
from l4lb.base import pacing
from l4lb.base.pacing import every, rounds
from tests.helpers.loops import run

PACKAGE = Path(l4lb.__file__).parent


class Clock:
    """Time that only passes in a sleep, or when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.slept: list[float] = []
        loop = types.SimpleNamespace(time=lambda: self.now)
        stand_in = types.SimpleNamespace(get_running_loop=lambda: loop, sleep=self._sleep)
        monkeypatch.setattr(pacing, "asyncio", stand_in)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def begins(clock: Clock, durations: list[float], least: float = 0.5, most: float = 30.0) -> list[float]:
    """The times from one begin to the next of rounds that last so long."""

    async def main() -> list[float]:
        times = []
        left = iter([*durations, 0.0])
        async for _ in rounds(least, most, (1.0, 1.0)):
            times.append(clock.now)
            if len(times) > len(durations):
                break
            clock.now += next(left)
        return [after - before for before, after in itertools.pairwise(times)]

    return run(main())


def test_rounds_that_end_at_once_come_ever_later(monkeypatch: pytest.MonkeyPatch) -> None:
    assert begins(Clock(monkeypatch), [0.0] * 9) == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_a_round_that_lasted_is_followed_at_once_and_forgets_those_before(monkeypatch: pytest.MonkeyPatch) -> None:
    assert begins(Clock(monkeypatch), [0.0, 0.0, 0.0, 60.0, 0.0]) == [0.5, 1, 2, 60, 0.5]


def test_an_interval_is_kept_however_long_a_round_is(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    assert begins(clock, [0.0, 3.0, 9.0, 12.0], 10.0, 10.0) == [10, 10, 10, 12]

    async def main() -> None:
        count = 0
        async for _ in every(10.0, 0.1):
            if (count := count + 1) > 50:
                return

    clock.slept.clear()
    run(main())
    assert 9 <= min(clock.slept) < max(clock.slept) <= 11


@pytest.mark.parametrize("path", ["dns", "etcd", "file", "http", "kubernetes"])
def test_no_source_has_a_loop_of_its_own(path: str) -> None:
    """What asks again is paced by construction."""
    tree = ast.parse((PACKAGE / f"discovery/{path}.py").read_text())
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.While)]
    assert "rounds(" in ast.unparse(tree) or "every(" in ast.unparse(tree)
