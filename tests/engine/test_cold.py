"""A backend that has just become usable is cold until it has given some responses."""

from __future__ import annotations

from contextlib import closing

import pytest

from l4lb.engine import NativeEngine
from l4lb.engine.api import EngineOptions, SlotKind


def test_a_cold_backend_says_how_many_responses_are_left() -> None:
    with closing(NativeEngine(EngineOptions())) as engine:
        cold, warm = (engine.take_slot(SlotKind.BACKEND) for _ in range(2))
        engine.set_cold([cold], 3)
        assert [summary.cold_left for summary in engine.summaries([cold, warm])] == [3, 0]
        engine.set_cold([cold], 0)
        assert engine.summaries([cold])[0].cold_left == 0


def test_a_slot_that_is_not_taken_cannot_be_cold() -> None:
    with closing(NativeEngine(EngineOptions())) as engine:
        slot = engine.take_slot(SlotKind.BACKEND)
        with pytest.raises(OSError, match="Invalid argument"):
            engine.set_cold([slot, slot + 1], 3)
        assert engine.summaries([slot])[0].cold_left == 0
