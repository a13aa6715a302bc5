"""exec: a program tells by its exit status whether a backend is healthy.

It runs as the user that l4lb runs as, in its own session and process group, with no open descriptors but its output;
the first line is kept. When it exits or times out, the whole group is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
from collections.abc import Iterator

from l4lb.base.text import quoted
from l4lb.config.model import Health
from l4lb.health.probes.base import Outcome, Result, Subject, failure, success
from l4lb.net.target import Target

CONCURRENCY = 16
"""Programs that run at once, in all pools: each is a process."""

OUTPUT_MAX = 4096
"""Bytes of output that are kept; the rest is discarded."""

PIPE_BYTES = 65536
"""Capacity of a pipe."""

END_DEADLINE = 1.0
"""Seconds in which a killed process ends, unless the kernel holds it."""

_OURS = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


async def run(target: Target, health: Health, subject: Subject) -> Result:
    host, port = _place(target)
    words = [_filled(word, host, port) for word in health.command or ()]
    output = bytearray()
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        # The program's end of the pipe blocks, as programs expect.
        os.set_blocking(writer, True)
        try:
            # Not by the loop: a child of uvloop inherits descriptors that this process inherited.
            process = subprocess.Popen(  # noqa: ASYNC220 - returns once the program runs
                words,
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                env=environment(host, port, health, subject),
                start_new_session=True,
            )
        except OSError as error:
            outcome = Outcome.HINDERED if error.errno in _OURS else Outcome.FAILURE
            return Result(outcome, f"cannot run {words[0]}: {os.strerror(error.errno or 0)}")
        with _reading(reader, output):
            try:
                await _ended(process.pid)
            finally:
                await _end(process)
        _read(reader, output)
        return _judge(process.returncode, bytes(output))
    finally:
        os.close(reader)
        os.close(writer)


async def _ended(pid: int) -> None:
    """Wait until the child has ended, without reaping it."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    pidfd = os.pidfd_open(pid)
    try:
        loop.add_reader(pidfd, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(pidfd)
    finally:
        os.close(pidfd)


async def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the rest of the group and reap the program."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(END_DEADLINE):
            await _ended(process.pid)
    # A process that the kernel holds for longer is reaped when the next program starts.
    process.poll()


@contextlib.contextmanager
def _reading(reader: int, output: bytearray) -> Iterator[None]:
    """Read the output while it arrives, so that the program never waits for space in the pipe."""
    loop = asyncio.get_running_loop()
    loop.add_reader(reader, _read, reader, output)
    try:
        yield
    finally:
        loop.remove_reader(reader)


def _read(reader: int, output: bytearray) -> None:
    # One read per notification: a program that writes faster than this reads would otherwise hold the loop.
    with contextlib.suppress(BlockingIOError):
        output += os.read(reader, PIPE_BYTES)[: OUTPUT_MAX - len(output)]


def _judge(status: int | None, output: bytes) -> Result:
    lines = output.strip().splitlines()
    said = f": {quoted(lines[0])}" if lines else ""
    if status == 0:
        return success(f"exit status 0{said}")
    if status is None or status < 0:
        return failure(f"killed by signal {-(status or 0)}{said}")
    return failure(f"exit status {status}{said}")


def _place(target: Target) -> tuple[str, str]:
    if isinstance(target.address, str):
        return target.address.replace("\0", "@"), "0"
    return str(target.host), str(target.address[1])


def _filled(word: str, host: str, port: str) -> str:
    return word.replace("{host}", host).replace("{port}", port)


def environment(host: str, port: str, health: Health, subject: Subject) -> dict[str, str]:
    """The environment of the program. The names of HAProxy's external checks are included, for scripts that were
    written for it (HAProxy configuration manual, external-check command)."""
    return {
        "PATH": PATH,
        "LC_ALL": "C.UTF-8",
        "L4LB_POOL": subject.pool,
        "L4LB_BACKEND": subject.backend,
        "L4LB_ADDRESS": host,
        "L4LB_PORT": port,
        "HAPROXY_PROXY_NAME": subject.pool,
        "HAPROXY_SERVER_NAME": subject.backend,
        "HAPROXY_SERVER_ADDR": host,
        "HAPROXY_SERVER_PORT": port,
        **dict(health.environment),
    }
