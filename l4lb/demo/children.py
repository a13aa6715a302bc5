"""Child processes that never outlive their parent, even if it is killed."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

PR_SET_PDEATHSIG = 1
LINES_KEPT = 100
PATIENCE = 2.0
"""Seconds for a child to end after the request."""


class Child:
    """A running process; `lines` are the last lines of its standard error; `heard` is set once no more will come."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: deque[str] = deque(maxlen=LINES_KEPT)
        self.lines_total = 0
        self.heard = asyncio.Event()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.returncode is None

    async def read_lines(self) -> None:
        """Fill `lines` until the process closes its standard error."""
        stream = self.process.stderr
        assert stream is not None
        while True:
            try:
                line = await stream.readline()
            except ValueError:  # longer than the reader's buffer; what follows is read on
                continue
            if not line:
                self.heard.set()
                return
            self.lines.append(line.decode(errors="replace").rstrip())
            self.lines_total += 1

    async def stop(self) -> None:
        """Ask the process to end, then to end at once, and then kill it."""
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await self.process.wait()
                    return


@contextlib.asynccontextmanager
async def child(
    module: str, *arguments: str, environ: Mapping[str, str], pass_fds: Sequence[int] = ()
) -> AsyncIterator[Child]:
    """`python -m module arguments` for the length of the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", module, *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=environ,
        pass_fds=pass_fds,
        # Ctrl-C goes to the whole process group of a terminal. Only the parent is to get it: it knows the right order.
        process_group=0,
        preexec_fn=_bind_to(os.getpid()),
    )
    started = Child(process)
    reader = asyncio.create_task(started.read_lines())
    try:
        yield started
    finally:
        await started.stop()
        reader.cancel()
        await asyncio.wait([reader])


def _bind_to(parent: int) -> Callable[[], None]:
    """Runs first in the new process: has the kernel kill it when its parent dies."""
    prctl = ctypes.CDLL(None).prctl

    def bind() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent died before this took effect
            os.kill(os.getpid(), signal.SIGKILL)

    return bind
