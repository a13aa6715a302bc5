"""`l4lb demo` as a user starts it, on loopback addresses that no one else uses."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from l4lb.demo import QUICKSTART
from tests.helpers.balancer import ROOT, child_environment
from tests.helpers.waiting import wait_until

END_DEADLINE = 60.0
START_DEADLINE = 40.0
HOST = f"127.77.{os.getpid() >> 8 & 255}.{os.getpid() & 255 or 1}"
"""A loopback address of this run alone, so that the ports of the quickstart are free."""


class DemoRun:
    """The command as a child process; its output is no terminal."""

    def __init__(self, directory: Path, *options: str, stdout: int | None = None) -> None:
        self.file = directory / "quickstart.yaml"
        self.file.write_text(QUICKSTART.read_text().replace("127.0.0.1", HOST))
        self._output = directory / "output"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "l4lb", "demo", "-c", str(self.file), *options],
                env=child_environment() | {"TMPDIR": str(directory)}, cwd=ROOT, stdin=subprocess.DEVNULL,
                stdout=output if stdout is None else stdout, stderr=output, start_new_session=True,
            )  # fmt: skip
        self._family: list[psutil.Process] = []

    @property
    def output(self) -> str:
        return self._output.read_text(errors="replace")

    def rows(self, backend: str) -> list[list[str]]:
        """The cells of this backend in each table so far."""
        lines = [line for line in self.output.splitlines() if line.split()[:1] == [backend]]
        return [re.split(r"\s{2,}", line.strip()) for line in lines]

    def wait_row(self, backend: str, accept: Callable[[list[str]], bool] = lambda _: True) -> list[str]:
        """The first row of the backend that is accepted."""
        return wait_until(lambda: self._find_row(backend, accept), START_DEADLINE, lambda: self.output) or []

    def _find_row(self, backend: str, accept: Callable[[list[str]], bool]) -> list[str] | None:
        row = next(filter(accept, self.rows(backend)), None)
        assert row or self.process.poll() is None, self.output
        return row

    def family(self) -> list[psutil.Process]:
        """The processes it has started; remembered for `assert_none_left`."""
        self._family = psutil.Process(self.process.pid).children(recursive=True)
        return self._family

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait_end(self) -> int:
        return self.process.wait(END_DEADLINE)

    def assert_none_left(self) -> None:
        assert self._family, "look at the family before the demo ends"
        wait_until(lambda: not [each for each in self._family if alive(each)], what=lambda: self._family)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(END_DEADLINE)
            self.process.kill()
            self.process.wait()


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def demo() -> Iterator[Callable[..., DemoRun]]:
    """Start the demo with these options."""
    runs: list[DemoRun] = []

    def start(*options: str, stdout: int | None = None) -> DemoRun:
        runs.append(DemoRun(Path(directory), *options, stdout=stdout))
        return runs[-1]

    # pytest's own directories have names too long for a unix socket.
    with tempfile.TemporaryDirectory(prefix="l4lb-test-") as directory:
        yield start
        for run in runs:
            run.close()
