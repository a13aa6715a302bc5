"""How late the loop is shows in a histogram: what holds it, and what keeps the interpreter on another thread."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time

import pytest

from l4lb.observe.loop_lag import BOUNDS, INTERVAL, LoopLag
from tests.helpers.loops import eventually, run


def late(lag: LoopLag, seconds: float) -> int:
    """Samples that were later than this."""
    return sum(lag.histogram.counts[BOUNDS.index(seconds) + 1 :])


async def sampled(hold: float, thread_hold: int = 0) -> LoopLag:
    lag = LoopLag()
    task = asyncio.ensure_future(lag.run())
    await eventually(lambda: sum(lag.histogram.counts) >= 2)
    if hold:
        time.sleep(hold)  # noqa: ASYNC251 - this is what is to be seen
    if thread_hold:
        # One match keeps the interpreter until it is done.
        await asyncio.to_thread(re.match, "(?:a|aa)+b", "a" * thread_hold)
    seen = sum(lag.histogram.counts)
    await eventually(lambda: sum(lag.histogram.counts) >= seen + 2)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return lag


def test_what_holds_the_loop_is_seen() -> None:
    lag = run(sampled(hold=0.5 + INTERVAL))
    assert late(lag, 0.25) >= 1
    assert lag.histogram.sum >= 0.5


@pytest.mark.slow
def test_what_keeps_the_interpreter_on_another_thread_is_seen() -> None:
    begun = time.perf_counter()
    length = 20
    while time.perf_counter() - begun < 0.4:
        begun = time.perf_counter()
        length += 1
        re.match("(?:a|aa)+b", "a" * length)
    lag = run(sampled(hold=0, thread_hold=length))
    assert late(lag, 0.1) >= 1
