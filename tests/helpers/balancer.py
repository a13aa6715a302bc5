"""The real balancer as a child process, for the length of a `with` block.

Its listeners bind port 0 and its admin socket lies in a directory of its own, so any number may run side by side.
Leaving the block asks it to stop and fails the test unless it ends cleanly.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.helpers.peers import Address
from tests.helpers.waiting import DEADLINE, wait_until

Json = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
START_DEADLINE = 30.0
STOP_DEADLINE = 20.0
TROUBLE = ("Traceback (most recent call last)", "Fatal Python error", "Sanitizer", "runtime error:", "LB_BUG")

PLACEHOLDER = {
    "listeners": {"placeholder": {"bind": "127.0.0.1:0", "pool": "placeholder"}},
    "pools": {"placeholder": {"backends": [{"address": "127.0.0.1:9", "weight": 0}]}},
}
"""What runs before a test brings its own: a configuration has at least one listener."""


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Json:
    """`over` laid over `base`, mapping by mapping."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        result[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def parse_address(text: str) -> Address:
    if text.startswith("unix:"):
        return text.removeprefix("unix:")
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def child_environment() -> dict[str, str]:
    """The environment of a child that imports this checkout, free of what its parent's supervisor set."""
    env = {key: value for key, value in os.environ.items() if key not in ("NOTIFY_SOCKET", "LISTEN_FDS", "L4LB_SOCKET")}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), env.get("PYTHONPATH"))))
    env["PYTHONFAULTHANDLER"] = "1"
    return env


class Balancer:
    """`python -m l4lb run` with `config` laid over defaults that suit tests; `raw` is YAML text used as it is."""

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        raw: str | None = None,
        env: Mapping[str, str] | None = None,
        prefix: tuple[str, ...] = (),
        stdout: int | None = None,
    ) -> None:
        self._cleanup = contextlib.ExitStack()
        self.directory = Path(self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="l4lb-test-")))
        self.file = self.directory / "l4lb.yaml"
        self.socket_path = self.directory / "admin.sock"
        self.access_path = self.directory / "access.log"
        self.log_path = self.directory / "log"
        self.env = child_environment() | dict(env or {})
        self.prefix = prefix
        self.command = [sys.executable, "-m", "l4lb"]
        self.stdout = stdout
        self.notified: list[str] = []
        self._notify = self._cleanup.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        self._notify.bind(str(self.directory / "notify"))
        # A balancer that is no longer root uses them too.
        self.directory.chmod(0o777)
        (self.directory / "notify").chmod(0o777)
        self.process: subprocess.Popen[bytes] | None = None
        self.replaced: list[subprocess.Popen[bytes]] = []
        if raw is not None:
            self.file.write_text(raw)
        else:
            self.write(config or {})

    @property
    def base(self) -> Json:
        return {
            "process": {"workers": 2, "drain_timeout": "300ms"},
            "admin": {"socket": str(self.socket_path)},
            "log": {"level": "info", "access": {"to": str(self.access_path), "format": "json", "events": ["close"]}},
        }

    # -- life ----------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            if kind is None:
                self.stop()
        finally:
            self.close()

    def spawn(self, stderr: int | None = None) -> None:
        """Start the process without waiting for anything. Its log goes to `stderr`, if that is given."""
        env = self.env | {"NOTIFY_SOCKET": str(self.directory / "notify")}
        command = [*self.prefix, *self.command, "run", "-c", str(self.file)]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                env=env,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log if self.stdout is None else self.stdout,
                stderr=log if stderr is None else stderr,
                start_new_session=True,
            )

    def start(self) -> None:
        """Start the process and wait for READY=1."""
        self.spawn()
        self.wait_notified("READY=1", START_DEADLINE)

    def wait_notified(self, word: str, deadline: float = DEADLINE) -> None:
        """Wait for a service notification that has not been waited for yet; AssertionError if the process ends."""
        with contextlib.closing(_pidfd(self.popen.pid)) as ended:
            while word not in self.notified:
                ready, _, _ = select.select([self._notify, ended], [], [], deadline)
                assert ready, f"no {word} within {deadline:g} s; log:\n{self.log}"
                assert self._notify in ready, f"the process ended with {self.popen.wait()}; log:\n{self.log}"
                self.notified += self._notify.recv(4096).decode().splitlines()
        del self.notified[: self.notified.index(word) + 1]

    def forget_notified(self) -> None:
        """Take the service notifications that are there, so that only later ones are waited for."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._notify.recv(4096, socket.MSG_DONTWAIT)
        self.notified.clear()

    def said(self, word: str) -> bool:
        """Whether there is such a service notification already, without waiting."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.notified += self._notify.recv(4096, socket.MSG_DONTWAIT).decode().splitlines()
        return word in self.notified

    def hear(self) -> None:
        """Take the service notifications that have come: a queue without room keeps a thread waiting."""
        while select.select([self._notify], [], [], 0)[0]:
            self.notified += self._notify.recv(4096).decode().splitlines()

    def stop(self) -> None:
        """Ask for a clean stop; AssertionError when it is not clean."""
        if self.popen.poll() is None:
            self.signal(signal.SIGTERM)
        self.wait_exit()

    def wait_exit(self, code: int = 0, deadline: float = STOP_DEADLINE) -> None:
        """Wait for the process to end with `code`, having reported no trouble."""
        try:
            status = self.popen.wait(deadline)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {deadline:g} s; log:\n{self.log}") from None
        assert status == code, f"exit status {status}; log:\n{self.log}"
        assert not any(word in self.log for word in TROUBLE), self.log

    def close(self) -> None:
        """End the process at once, if it still runs, and remove its directory. Idempotent."""
        for process in (self.process, *self.replaced):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        self._cleanup.close()

    @property
    def popen(self) -> subprocess.Popen[bytes]:
        assert self.process is not None, "not started"
        return self.process

    @property
    def pid(self) -> int:
        """The process that carries the workers (a prefix command may have started it)."""
        return int(self.status()["pid"]) if self.prefix else self.popen.pid

    def signal(self, number: int) -> None:
        os.kill(self.popen.pid, number)

    # -- configuration -------------------------------------------------------------------------------------------

    def write(self, config: Mapping[str, Any]) -> None:
        """Replace the file, as an editor would: whole or not at all."""
        temporary = self.file.with_suffix(".new")
        base = self.base if "listeners" in config else self.base | PLACEHOLDER
        temporary.write_text(yaml.safe_dump(merge(base, config), sort_keys=False))
        temporary.replace(self.file)

    def reload(self, config: Mapping[str, Any] | None = None) -> None:
        """Reload (a new file, if given) and fail unless it was applied."""
        if config is not None:
            self.write(config)
        status, body = self.request("POST", "/api/v1/reload")
        assert status == 200, body

    # -- what it says --------------------------------------------------------------------------------------------

    def request(self, method: str, path: str, body: object = None, deadline: float = DEADLINE) -> tuple[int, Json]:
        """One HTTP request to the admin socket."""
        status, data = self.fetch(method, path, body, deadline)
        return status, json.loads(data) if data.strip() else {}

    def fetch(self, method: str, path: str, body: object = None, deadline: float = DEADLINE) -> tuple[int, bytes]:
        with contextlib.closing(UnixConnection(str(self.socket_path), deadline)) as connection:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"} if data else {})
            response = connection.getresponse()
            return response.status, response.read()

    def status(self) -> Json:
        status, body = self.request("GET", "/api/v1/status")
        assert status == 200, body
        return body

    def address(self, listener: str, bind: int = 0) -> Address:
        """Where the listener really accepts."""
        return parse_address(self.status()["listeners"][listener]["bind"][bind])

    def sessions(self) -> list[Json]:
        status, body = self.request("GET", "/api/v1/sessions")
        assert status == 200, body
        found: list[Json] = body["sessions"]
        return found

    def session_count(self) -> int:
        return sum(worker["sessions"] for worker in self.status()["workers"])

    def workers_total(self, key: str) -> int:
        """A worker statistic, summed."""
        return sum(int(worker[key]) for worker in self.status()["workers"])

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples called `name` that have these labels."""
        status, text = self.fetch("GET", "/metrics")
        assert status == 200
        return sum(
            sample.value
            for family in text_string_to_metric_families(text.decode())
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def wait_log(self, words: str) -> None:
        wait_until(lambda: words in self.log, what=lambda: f"{words!r} in the log:\n{self.log}")

    def access_lines(self) -> Iterator[str]:
        """The complete lines of the access log, whatever their format."""
        if self.access_path.exists():
            for line in self.access_path.read_text().splitlines(keepends=True):
                if line.endswith("\n"):
                    yield line.removesuffix("\n")

    def access(self) -> Iterator[Json]:
        return map(json.loads, self.access_lines())


class _pidfd:  # noqa: N801 - reads as the call it wraps
    """A descriptor that becomes readable when the process ends."""

    def __init__(self, pid: int) -> None:
        self._fd = os.pidfd_open(pid)

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        os.close(self._fd)
