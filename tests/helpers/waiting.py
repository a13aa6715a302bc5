"""Waiting for a condition: the only place in the tests that polls.

A test waits for something to become true, never for time to pass.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE = 10.0
"""Seconds after which anything a test waits for has failed. Generous: the machine may be busy."""

POLL = 0.005


def wait_until(predicate: Callable[[], T], deadline: float = DEADLINE, what: object = None) -> T:
    """The first true value of `predicate`; AssertionError with the last value (and `what`) after `deadline` seconds."""
    end = time.monotonic() + deadline
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > end:
            shown = what() if callable(what) else what
            raise AssertionError(f"still {value!r} after {deadline:g} s{f': {shown}' if shown is not None else ''}")
        time.sleep(POLL)


def settled(measure: Callable[[], T], quiet: float = 0.15, deadline: float = DEADLINE) -> T:
    """The value of `measure` once it has stayed the same for `quiet` seconds."""
    end = time.monotonic() + deadline
    value = measure()
    since = time.monotonic()
    while time.monotonic() - since < quiet:
        time.sleep(POLL)
        now = measure()
        if now != value:
            value, since = now, time.monotonic()
        if time.monotonic() > end:
            raise AssertionError(f"still changing after {deadline:g} s: {value!r}")
    return value


def observe(seconds: float) -> None:
    """Let real time pass, for the tests whose subject is what must *not* happen meanwhile (a spin, a leak)."""
    time.sleep(seconds)
