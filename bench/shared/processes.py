"""Child processes of a benchmark: each starts pinned to one CPU and is always stopped."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

STOP_SECONDS = 10.0
ROOT = Path(__file__).resolve().parents[2]
"""The repository, in which `python -m l4lb` finds the package even where it is not installed."""


class BenchError(Exception):
    """Something a benchmark needs is missing or failed; the text says what to do."""


def pinned(cpu: int) -> Callable[[], None]:
    """A function for the child before exec: it stays on `cpu`, and may open as many files as the hard limit allows."""

    def prepare() -> None:
        os.sched_setaffinity(0, {cpu})
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    return prepare


@contextmanager
def running(command: Sequence[str], *, cpu: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process for the time of the block; its output goes to `log`."""
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, preexec_fn=pinned(cpu), cwd=ROOT
            )
        except OSError as error:
            raise BenchError(f"{command[0]} does not run: {error}") from error
    try:
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Send SIGTERM, and SIGKILL after STOP_SECONDS."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def last_lines(log: Path, count: int = 5) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-count:])
