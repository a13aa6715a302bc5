"""Parts of a benchmark that run in processes of their own: functions at the other end of a pipe."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

from bench.shared.processes import STOP_SECONDS, BenchError

MESSAGE_SECONDS = 60.0
_CONTEXT = multiprocessing.get_context("spawn")


@contextmanager
def child(target: Callable[..., None], *arguments: object) -> Iterator[Connection]:
    """Run `target` in a process for the time of the block. Its last argument is the other end of the pipe."""
    ours, theirs = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=_run, args=(target, *arguments, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join(STOP_SECONDS if process.exitcode is None else 0)
        if process.is_alive():
            process.kill()
            process.join()


def receive(pipe: Connection, sender: str) -> Any:
    """The next message of the process at the other end. BenchError when it ended, or sends nothing for a minute."""
    try:
        if pipe.poll(MESSAGE_SECONDS):
            return pipe.recv()
    except (EOFError, OSError) as error:
        raise BenchError(f"the process of {sender} ended early; its error is printed above") from error
    raise BenchError(f"the process of {sender} sent nothing for {MESSAGE_SECONDS:.0f} s")


def _run(target: Callable[..., None], *arguments: object) -> None:
    """A closed pipe means that the benchmark ended for another reason, which it reports itself."""
    with suppress(EOFError, BrokenPipeError):
        target(*arguments)
