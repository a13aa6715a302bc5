"""The native load generator in bench/load: compiling it, its server, and a client that runs step by step."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.shared.processes import BenchError, last_lines, pinned, running, stop

STEP_SECONDS = 90.0
_SOURCE = Path(__file__).resolve().parents[1] / "load"
_BUILD = _SOURCE.parents[1] / "build" / "bench"


def build() -> Path:
    """The program; make compiles it where it is older than its sources."""
    for tool in ("make", "cc"):
        if shutil.which(tool) is None:
            raise BenchError(f"'{tool}' is missing: the load generator is compiled from C; install make and a compiler")
    command = ["make", "-C", str(_SOURCE), f"BUILD={_BUILD}"]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise BenchError(f"the load generator does not compile:\n{made.stderr}")
    return _BUILD / "load"


@contextmanager
def server(program: Path, address: str, *, cpu: int, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    log = directory / "server.log"
    with running([str(program), "serve", address], cpu=cpu, log=log) as process:
        deadline = time.monotonic() + STEP_SECONDS
        while "listening" not in log.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchError(f"the server of the load generator did not start:\n{last_lines(log)}")
            time.sleep(0.01)
        yield process


@dataclass(frozen=True, slots=True)
class Outcome:
    """The report of a client. Latencies are microseconds by percentile: p50, p90, p99, p999, max."""

    operations: int
    errors: int
    first_error: str
    seconds: float
    latency_us: dict[str, float]


class Client:
    """A client that stops at "ready" (all connections are set up) and at "done" (no operation is under way), and
    continues when `go_on` says so."""

    def __init__(self, process: subprocess.Popen[bytes], errors: Path) -> None:
        self._process = process
        self._errors = errors
        self._pending = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_for(self, step: str) -> None:
        line = self._line()
        if line != step:
            raise BenchError(f"the load generator said '{line}' instead of '{step}'")

    def go_on(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def outcome(self) -> Outcome:
        values: dict[str, Any] = json.loads(self._line())
        return Outcome(
            operations=values["operations"],
            errors=values["errors"],
            first_error=values["first_error"],
            seconds=values["seconds"],
            latency_us=values.get("latency_us", {}),
        )

    def _line(self) -> str:
        """The next line of output. BenchError when it takes longer than STEP_SECONDS."""
        assert self._process.stdout is not None
        output = self._process.stdout.fileno()
        deadline = time.monotonic() + STEP_SECONDS
        while b"\n" not in self._pending:
            readable, _, _ = select.select([output], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(output, 4096) if readable else b""
            if not data:
                reason = "ended" if readable else f"was silent for {STEP_SECONDS:.0f} s"
                raise BenchError(f"the load generator {reason}: {last_lines(self._errors)}")
            self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        return line.decode()


@contextmanager
def client(program: Path, address: str, arguments: Sequence[str], *, cpu: int, directory: Path) -> Iterator[Client]:
    """A client for the time of the block. `arguments` begins with the name of the load."""
    load, *options = arguments
    errors = directory / f"{load}.log"
    with errors.open("wb") as log:
        process = subprocess.Popen(
            [str(program), load, address, *options, "--steps"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            preexec_fn=pinned(cpu),
        )
    try:
        yield Client(process, errors)
    finally:
        stop(process)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
