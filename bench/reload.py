"""Reload a balancer with many backends again and again under new connections: none may fail. See bench/README.md."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
from compare import load
from compare.places import default_cpus, free_port
from compare.processes import BenchError, running
from compare.report import console
from compare.subjects import wait_until_ready
from rich.console import Console
from rich.table import Table

APPLY_SECONDS = 30.0
# Every reload leaves out another twentieth of the backends, and changes the weights of another tenth.
LEFT_OUT = 20
WEIGHTED = 10


@dataclass(frozen=True, slots=True)
class Fleet:
    """The balancer's configuration, in as many versions as one likes."""

    directory: Path
    port: int
    backends: list[str]
    health: bool

    @property
    def path(self) -> Path:
        return self.directory / "l4lb.yaml"

    @property
    def socket(self) -> Path:
        return self.directory / "admin.sock"

    def write(self, version: int) -> None:
        """Version 0 has all backends."""
        backends = "".join(
            f"      - {{address: {address}, weight: {2 if i % WEIGHTED == version % WEIGHTED else 1}}}\n"
            for i, address in enumerate(self.backends)
            if version == 0 or i % LEFT_OUT != version % LEFT_OUT
        )
        replacement = self.directory / "next.yaml"
        replacement.write_text(f"""\
process: {{workers: 1, max_connections: 6000, drain_timeout: 1s}}
admin: {{socket: {self.socket}}}
log: {{level: warning}}
listeners:
  front: {{bind: "127.0.0.1:{self.port}", pool: fleet}}
pools:
  fleet:
    balance: round_robin
    health: {{type: {"tcp" if self.health else "none"}}}
    backends:
{backends}""")
        replacement.replace(self.path)


class UnixConnection(http.client.HTTPConnection):
    """HTTP over the admin socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=APPLY_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _request(fleet: Fleet, method: str, path: str) -> bytes:
    connection = UnixConnection(fleet.socket)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status != http.HTTPStatus.OK:
        raise BenchError(f"{method} {path} failed with {response.status}: {body.decode(errors='replace')}")
    return body


def _loaded_at(fleet: Fleet) -> float | str:
    loaded_at: float | str = json.loads(_request(fleet, "GET", "/api/v1/status"))["config"]["loaded_at"]
    return loaded_at


def reload_by_request(fleet: Fleet, _pid: int) -> None:
    """Returns when the new configuration is in force."""
    _request(fleet, "POST", "/api/v1/reload")


def reload_by_signal(fleet: Fleet, pid: int) -> None:
    """Returns when the status tells of the new configuration; asking for it takes its time, too."""
    before = _loaded_at(fleet)
    os.kill(pid, signal.SIGHUP)
    deadline = time.monotonic() + APPLY_SECONDS
    while _loaded_at(fleet) == before:
        if time.monotonic() > deadline:
            raise BenchError(f"a reload by SIGHUP took longer than {APPLY_SECONDS:.0f} s")
        time.sleep(0.01)


@dataclass(frozen=True, slots=True)
class Phase:
    """What the clients saw, and how long each reload took, in seconds."""

    name: str
    outcome: load.Outcome
    reloads: list[float]


@dataclass(frozen=True, slots=True)
class Run:
    program: Path
    cpu: int
    load_cpu: int
    rate: int
    count: int
    pause: float

    def measure(self, fleet: Fleet, server_address: str) -> list[Phase]:
        fleet.write(0)
        log = fleet.directory / "l4lb.log"
        command = [sys.executable, "-m", "l4lb", "run", "-c", str(fleet.path)]
        with (
            load.server(self.program, server_address, cpu=self.load_cpu, directory=fleet.directory),
            running(command, cpu=self.cpu, log=log) as process,
        ):
            wait_until_ready("l4lb", process, ("127.0.0.1", fleet.port), log)
            steady = self._phase(fleet, "no reload", lambda: time.sleep(self.pause * self.count))
            phases = [Phase("no reload", steady, [])]
            for name, reload in (("POST", reload_by_request), ("SIGHUP", reload_by_signal)):
                times: list[float] = []
                outcome = self._phase(fleet, name, partial(self._reload, fleet, process.pid, reload, times))
                phases.append(Phase(name, outcome, times))
        return phases

    def _phase(self, fleet: Fleet, name: str, action: Callable[[], None]) -> load.Outcome:
        """The clients run until the action has ended."""
        click.echo(f"{name} ...", err=True)
        options = ("connect", "--rate", str(self.rate), "--connections", "512", "--seconds", "3600", "--until-told")
        address = f"127.0.0.1:{fleet.port}"
        with load.client(self.program, address, options, cpu=self.load_cpu, directory=fleet.directory) as client:
            client.wait_for("ready")
            client.go_on()
            action()
            client.go_on()
            client.wait_for("done")
            client.go_on()
            return client.outcome()

    def _reload(self, fleet: Fleet, pid: int, reload: Callable[[Fleet, int], None], times: list[float]) -> None:
        for version in range(1, self.count + 1):
            fleet.write(version)
            start = time.monotonic()
            reload(fleet, pid)
            times.append(time.monotonic() - start)
            time.sleep(self.pause)


def show(phases: list[Phase], to: Console) -> None:
    columns = (
        "",
        "connections",
        "failed",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "max µs",
        "reloads",
        "reload ms: p50",
        "max",
    )
    table = Table(*columns)
    for phase in phases:
        latency = phase.outcome.latency_us
        table.add_row(
            phase.name,
            f"{phase.outcome.operations:,}",
            str(phase.outcome.errors),
            *(f"{latency[point]:,.0f}" for point in ("p50", "p99", "p999", "max")),
            str(len(phase.reloads)),
            _milliseconds(phase.reloads, statistics.median),
            _milliseconds(phase.reloads, max),
        )
    to.print(table)


def _milliseconds(times: list[float], pick: Callable[[list[float]], float]) -> str:
    return f"{pick(times) * 1000:,.0f}" if times else ""


@click.command(epilog="\b\nExample:\n  python bench/reload.py --backends 1000 --reloads 50")
@click.option("--backends", default=1000, show_default=True, type=click.IntRange(1, 4000), help="In the pool.")
@click.option("--reloads", default=20, show_default=True, type=click.IntRange(min=1), help="Of each kind.")
@click.option("--pause", default=0.2, show_default=True, metavar="SECONDS", help="Between two reloads.")
@click.option("--rate", default=1000, show_default=True, type=click.IntRange(min=1), help="New connections a second.")
@click.option("--health", is_flag=True, help="With a TCP check of every backend.")
def main(backends: int, reloads: int, pause: float, rate: int, health: bool) -> None:
    """Reload l4lb under load, by request and by SIGHUP; exits with 1 when a connection failed."""
    cpu, load_cpu = default_cpus()
    server_port = free_port()
    addresses = [f"127.0.{1 + i // 256}.{i % 256}:{server_port}" for i in range(1, backends + 1)]
    try:
        with tempfile.TemporaryDirectory(prefix="l4lb-bench-") as directory:
            fleet = Fleet(Path(directory), free_port(), addresses, health)
            run = Run(load.build(), cpu, load_cpu, rate, reloads, pause)
            phases = run.measure(fleet, f"{addresses[0]}+{backends}")
    except BenchError as error:
        raise click.ClickException(str(error)) from error
    show(phases, console())
    failed = sum(phase.outcome.errors for phase in phases)
    if failed:
        first = next(phase.outcome.first_error for phase in phases if phase.outcome.errors)
        raise click.ClickException(f"{failed} connections failed; the first one: {first}")


if __name__ == "__main__":
    main()
