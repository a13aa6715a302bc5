"""Signals that would end a process that has no handler yet. Held, they wait until it has."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

HELD = frozenset({signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2})


def hold_signals() -> None:
    """Let early signals wait for their handlers. Called before the first thread starts."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD)


def release_signals() -> None:
    """Handlers are there now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)


@contextlib.contextmanager
def holding_signals() -> Iterator[None]:
    """A process that is started in here begins with them held."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
