"""What a process sets right before it imports anything that takes time: descriptors, signals, the file mode mask.

A parent may leave standard streams closed, signals blocked or ignored, and bits of the file mode mask set. `begin`
puts all of that into the state that the rest of l4lb relies on. It runs first, so it imports next to nothing.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

STOP = frozenset({signal.SIGTERM, signal.SIGINT})
HELD = frozenset({signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2})
"""Signals of `l4lb run` that stay pending while it starts: it acts on them as soon as it has handlers for them."""

_EARLY_STOP = {"run": STOP, "agent": STOP, "demo": frozenset({signal.SIGTERM})}
"""Signals that end a long-running command cleanly while it has nothing to clean up. `demo` handles Ctrl-C itself."""

_MEANT_BY_THE_PARENT = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGQUIT})
"""What `nohup` and shells without job control ignore on purpose."""

_IGNORED_BY_PYTHON = frozenset({signal.SIGPIPE, signal.SIGXFSZ})

_OWNER = 0o700


def begin(arguments: Sequence[str]) -> None:
    """Prepare this process for the command line `arguments`. Called before the first thread starts."""
    _open_standard_streams()
    _set_signals(arguments[0] if arguments else "")
    # Logs and sockets are opened again later, so their owner must have access to them.
    os.umask(os.umask(0o077) & ~_OWNER)


def _open_standard_streams() -> None:
    """Have descriptors 0 to 2 open: otherwise a socket would get one of these numbers, and log lines would go there."""
    for descriptor, name, flags in ((0, "stdin", os.O_RDONLY), (1, "stdout", os.O_WRONLY), (2, "stderr", os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, flags)  # the lowest free number, as all below it are open
            os.set_inheritable(null, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, "r" if name == "stdin" else "w", closefd=False))  # noqa: SIM115


def _set_signals(command: str) -> None:
    for number in _EARLY_STOP.get(command, ()):
        signal.signal(number, _end)
    for number in signal.valid_signals() - _IGNORED_BY_PYTHON - _MEANT_BY_THE_PARENT:
        # Without this, children of this process could be lost (SIGCHLD), and checks that it runs would inherit it.
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, HELD if command == "run" else ())


def _end(_number: int, _frame: object) -> None:
    # Not by an exception, which an import could swallow. Nothing is open yet that would have to be closed.
    os._exit(0)
