"""Signals of a running balancer. Those that would end a process without handlers are held until it has some."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
from collections.abc import Callable, Iterator, Mapping
from types import FrameType

from l4lb.startup import HELD as HELD
from l4lb.startup import STOP as STOP


def hold_signals() -> None:
    """Let early signals wait for their handlers. Called before the first thread starts."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD)


def handle_signals(handlers: Mapping[signal.Signals, Callable[[], object]]) -> None:
    """Have these called on the running loop, and let through those of them that were held.

    Handlers of the loop's own would end with it, a little before the process does, see `ignore_signals`.
    """
    loop = asyncio.get_running_loop()
    for number, handler in handlers.items():
        signal.signal(number, functools.partial(_pass_on, loop, handler))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD & handlers.keys())


def _pass_on(
    loop: asyncio.AbstractEventLoop, handler: Callable[[], object], _number: int, _frame: FrameType | None
) -> None:
    loop.call_soon_threadsafe(handler)


def ignore_signals() -> None:
    """The process is about to end: a late signal must not kill it."""
    for number in HELD | STOP:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def holding_signals() -> Iterator[None]:
    """A process that is started in the block begins with these signals blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
