"""One thread of a process that stands still while the others run on, as if it had run into an endless loop.

No signal does that, so a process of its own traces the thread (ptrace(2)) and stops it. Needs the right to trace.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TRACER = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
SEIZE, INTERRUPT, WALL = 0x4206, 0x4207, 0x40000000
thread = int(sys.argv[1])
for request in (SEIZE, INTERRUPT):
    if libc.ptrace(request, thread, None, None) < 0:
        sys.exit(os.strerror(ctypes.get_errno()))
os.waitpid(thread, WALL)
print("stopped", flush=True)
# A traced thread is only gone once its tracer has seen it go.
while True:
    _, status = os.waitpid(thread, WALL)
    if os.WIFEXITED(status) or os.WIFSIGNALED(status):
        break
"""


@contextlib.contextmanager
def stuck(pid: int, name: str) -> Iterator[None]:
    """The first thread of this name stands still in the block, or until it is killed."""
    tracer = subprocess.Popen(
        [sys.executable, "-c", TRACER, str(_thread(pid, name))],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert tracer.stdout is not None
        if tracer.stdout.readline() != "stopped\n":
            pytest.skip(f"a thread cannot be stopped here: {tracer.communicate()[1].strip()}")
        yield
    finally:
        tracer.kill()
        tracer.communicate()


def _thread(pid: int, name: str) -> int:
    for task in sorted(Path(f"/proc/{pid}/task").iterdir(), key=lambda task: int(task.name)):
        if task.joinpath("comm").read_text().strip() == name:
            return int(task.name)
    raise AssertionError(f"process {pid} has no thread {name}")
