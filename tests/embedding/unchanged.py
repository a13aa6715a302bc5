"""A program: nothing that belongs to the whole process is another thing while balancers run in it, and after that.

Run as `python -m tests.embedding.unchanged asyncio|uvloop DIRECTORY`. Before its first look it imports no l4lb.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import locale
import logging
import os
import resource
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

LIBRARY_SIGNALS = 0b11 << 31
"""32 and 33, which the C library takes for itself with the first thread of a process (nptl(7))."""


def process_wide() -> dict[str, object]:
    """The state that all code of a process shares."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    ours = logging.getLogger("l4lb")
    return {
        "handlers": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "signals": {key: int(status[key], 16) & ~LIBRARY_SIGNALS for key in ("SigBlk", "SigIgn", "SigCgt")},
        "wakeup": signal.set_wakeup_fd(signal.set_wakeup_fd(-1)),
        "limits": {
            name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")
        },
        "umask": status["Umask"],
        "ids": os.getresuid() + os.getresgid(),
        "directory": os.getcwd(),
        "environment": dict(os.environ),
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
        "cpus": os.sched_getaffinity(0),
        "root log": (logging.root.level, logging.root.handlers[:], logging.root.manager.disable),
        "our log": (ours.level, ours.handlers[:], ours.propagate, ours.disabled),
        "log classes": (logging.getLoggerClass(), logging.getLogRecordFactory(), logging.lastResort),
        "hooks": (sys.excepthook, sys.unraisablehook, threading.excepthook, sys.displayhook),
        "traces": (sys.gettrace(), sys.getprofile(), threading.gettrace(), threading.getprofile()),
        "warnings": (warnings.filters[:1], warnings.showwarning),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "policy": type(asyncio.get_event_loop_policy()),
        "stack": threading.stack_size(),
        "timeout": socket.getdefaulttimeout(),
        "switches": (sys.getswitchinterval(), sys.getrecursionlimit(), gc.get_threshold(), gc.isenabled()),
        "locale": locale.setlocale(locale.LC_ALL),
        "path": sys.path[:],
    }


def changed(before: dict[str, object]) -> list[str]:
    now = process_wide()
    return [f"{key}: {before[key]!r}, now {now[key]!r}" for key in before if now[key] != before[key]]


SWITCHES: tuple[tuple[ModuleType, str], ...] = (
    (gc, "disable"),
    (gc, "freeze"),
    (logging, "basicConfig"),
    (logging, "captureWarnings"),
    (os, "umask"),
    (os, "chdir"),
    (os, "putenv"),
    (resource, "setrlimit"),
    (signal, "signal"),
    (signal, "set_wakeup_fd"),
    (asyncio, "set_event_loop_policy"),
)
"""A balancer on its own thread must never call these, not even for a moment."""


@contextlib.contextmanager
def forbidden() -> Iterator[list[str]]:
    """The names of those that were used."""
    used: list[str] = []
    with contextlib.ExitStack() as stack:
        for module, name in SWITCHES:
            real = getattr(module, name)

            def noted(*arguments: object, name: str = name, real: Callable[..., object] = real) -> object:
                used.append(name)
                return real(*arguments)

            setattr(module, name, noted)
            stack.callback(setattr, module, name, real)
        yield used


def main(loop: str, directory: str) -> None:
    before = process_wide()

    import l4lb

    given = {
        "admin": {"socket": f"{directory}/admin.sock", "listen": "127.0.0.1:0"},
        "log": {"level": "debug", "access": {"to": "/dev/null"}},
        "listeners": {"web": {"bind": "127.0.0.1:0", "pool": "app"}},
        "pools": {"app": {"backends": ["127.0.0.1:9"], "health": {"type": "exec", "command": ["true"]}}},
    }
    with forbidden() as used, l4lb.Balancer(given) as lb:
        lb.reload()
        lb.status()
        lb.metrics()
        lb.close(0.1)
    found = [f"it used {name}" for name in used]
    with l4lb.Balancer(given) as lb:
        lb.reload()
        found += [f"while it runs, {line}" for line in changed(before)]
    found += [f"after it, {line}" for line in changed(before)]

    async def on_a_loop() -> list[str]:
        inside = process_wide()
        async with l4lb.AsyncBalancer(given) as lb:
            await lb.reload()
            found = [f"while it runs on {loop}, {line}" for line in changed(inside)]
        return found + [f"after it on {loop}, {line}" for line in changed(inside)]

    if loop == "uvloop":
        import uvloop

        make_loop = uvloop.new_event_loop
    else:
        make_loop = asyncio.new_event_loop
    with asyncio.Runner(loop_factory=make_loop) as runner:
        found += runner.run(on_a_loop())
    if found:
        raise SystemExit("\n".join(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
