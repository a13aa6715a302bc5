"""Parts of a benchmark that run in processes of their own: functions at the other end of a pipe."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

from compare.processes import STOP_SECONDS, BenchError

ANSWER_SECONDS = 60.0
_CONTEXT = multiprocessing.get_context("spawn")


@contextmanager
def child(target: Callable[..., None], *arguments: object) -> Iterator[Connection]:
    """A process for the time of the block, and the pipe to it. The function gets the other end as its last argument."""
    ours, theirs = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=_work, args=(target, *arguments, theirs), daemon=True)
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


def receive(pipe: Connection, who: str) -> Any:
    """What `who` at the other end says next; BenchError when they say nothing for a minute, or have gone."""
    try:
        if pipe.poll(ANSWER_SECONDS):
            return pipe.recv()
    except (EOFError, OSError) as error:
        raise BenchError(f"{who} ended early; their error is above") from error
    raise BenchError(f"{who} say nothing for {ANSWER_SECONDS:.0f} s")


def _work(target: Callable[..., None], *arguments: object) -> None:
    """What a process does. When the other end of its pipe has gone, the run is over for another reason."""
    with suppress(EOFError, BrokenPipeError):
        target(*arguments)
