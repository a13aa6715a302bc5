"""curl and wrk, for as long as a test wants them to send requests."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.clients.clients import PATIENCE
from tests.clients.messages import Ask
from tests.helpers.waiting import wait_until


class Curl:
    """One curl after another, each with many requests on one connection, for the length of the block."""

    EACH = 30

    def __init__(self, curl: str, origin: str, directory: Path) -> None:
        self.failures: list[str] = []
        self.runs = 0
        self._curl = curl
        self._origin, self._directory = origin, directory
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(2 * PATIENCE)
        assert not self._thread.is_alive()

    def wait_run(self) -> None:
        """Wait until a curl that starts from now on has ended."""
        wanted = self.runs + 2
        wait_until(lambda: self.failures or self.runs >= wanted, 2 * PATIENCE, lambda: self.runs)

    def _work(self) -> None:
        while not self._stop.is_set() and not self.failures:
            try:
                self._run()
            except (AssertionError, subprocess.SubprocessError) as error:
                self.failures.append(repr(error))
            self.runs += 1

    def _run(self) -> None:
        client = f"curl {self.runs}"
        asks = [self._ask(client, number) for number in range(1, self.EACH + 1)]
        command = [self._curl]
        for ask in asks:
            output = self._directory / f"curl.{ask.number}"
            command += ["--next"] * (ask.number > 1)
            command += ["--silent", "--show-error", "--fail", "--max-time", f"{PATIENCE:g}"]
            command += ["--output", str(output), "--write-out", "%{num_connects} "]
            if ask.body is not None:
                upload = self._directory / f"curl.{ask.number}.body"
                upload.write_bytes(ask.body)
                command += ["--data-binary", f"@{upload}"]
            command.append(self._origin + ask.target)
        done = subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE)
        assert done.returncode == 0, (client, done)
        connects = [int(word) for word in done.stdout.split()]
        assert connects == [1] + [0] * (self.EACH - 1), (client, connects)
        for ask in asks:
            ask.check(200, (self._directory / f"curl.{ask.number}").read_bytes())

    def _ask(self, client: str, number: int) -> Ask:
        if number % 10 == 0:
            return Ask(client, number, "POST", size=100_000)
        return Ask(client, number, path="/stream", size=20)


class Wrk:
    """wrk with some connections, for the length of the block; it runs for a while longer than any test needs.

    It opens one more, to see whether it can.
    """

    def __init__(self, wrk: str, origin: str, connections: int) -> None:
        self.connections = connections
        self.report = ""
        command = (wrk, "--threads", "1", "--connections", str(connections), "--duration", "300", "--timeout", "60")
        target = Ask("wrk", 0).target
        self._process = subprocess.Popen((*command, origin + target), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if kind is not None:
            self._process.kill()
        self._process.send_signal(signal.SIGINT)
        output, _ = self._process.communicate(timeout=PATIENCE)
        self.report = output.decode()

    @property
    def failed(self) -> bool:
        """Whether it tells of errors of sockets, or of a status that is not 200."""
        return "errors" in self.report or "Non-2xx" in self.report

    @property
    def requests(self) -> int:
        found = re.search(r"(\d+) requests in", self.report)
        assert found, self.report
        return int(found[1])
