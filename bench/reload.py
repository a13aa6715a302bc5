"""Reload a large configuration again and again under load: what it costs, and that no client notices. See README.md."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
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
# Every tenth pool has a Maglev table, and every tenth listener a list of networks.
SPECIAL = 10
CHECKS_PER_SECOND = 500
STREAMS = 100
POLL_SECONDS = 0.02
WORKER = "l4lb-worker"


@dataclass(frozen=True, slots=True)
class Fleet:
    """The balancer's configuration, in as many versions as one likes. The first listener is for clients."""

    directory: Path
    port: int
    backends: list[str]
    listeners: int
    pools: int
    health: bool

    @property
    def path(self) -> Path:
        return self.directory / "l4lb.yaml"

    @property
    def socket(self) -> Path:
        return self.directory / "admin.sock"

    def write(self, version: int) -> None:
        """Version 0 has all backends."""
        replacement = self.directory / "next.yaml"
        with replacement.open("w") as file:
            file.write(f"""\
process: {{workers: 1, max_connections: 6000, drain_timeout: 1s}}
admin: {{socket: {self.socket}}}
log: {{level: warning}}
listeners:
""")
            file.writelines(self._listener(i) for i in range(self.listeners))
            file.write("pools:\n")
            for pool in range(self.pools):
                first, behind = (len(self.backends) * i // self.pools for i in (pool, pool + 1))
                file.write(self._pool(pool))
                file.writelines(self._backend(i, version) for i in range(first, behind))
        replacement.replace(self.path)

    def _listener(self, number: int) -> str:
        address = "127.0.0.1" if number == 0 else f"127.3.{number // 256}.{number % 256}"
        allow = "" if number % SPECIAL else "\n    allow: [127.0.0.0/8, 10.0.0.0/8]"
        return f"  l{number}:\n    bind: {address}:{self.port}\n    pool: p{number % self.pools}{allow}\n"

    def _pool(self, number: int) -> str:
        balance = "maglev" if number % SPECIAL == 1 else "round_robin"
        health = f"{{type: tcp, interval: {max(2, len(self.backends) // CHECKS_PER_SECOND)}s}}" if self.health else ""
        return f"  p{number}:\n    balance: {balance}\n    health: {health or '{type: none}'}\n    backends:\n"

    def _backend(self, number: int, version: int) -> str:
        if version != 0 and number % LEFT_OUT == version % LEFT_OUT:
            return ""
        weight = 2 if number % WEIGHTED == version % WEIGHTED else 1
        return f"      - {{address: {self.backends[number]}, weight: {weight}}}\n"


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


def reload_by_request(fleet: Fleet, _pid: int) -> None:
    """Returns when the new configuration is in force."""
    _request(fleet, "POST", "/api/v1/reload")


class Signaller:
    """Reloads by SIGHUP, and hears of the outcome as a service manager does."""

    def __init__(self, socket_path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(socket_path))
        self._socket.settimeout(APPLY_SECONDS)

    def __call__(self, _fleet: Fleet, pid: int) -> None:
        """Returns when the new configuration is in force."""
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while self._socket.recv(4096):
                pass
        self._socket.settimeout(APPLY_SECONDS)
        os.kill(pid, signal.SIGHUP)
        while True:
            try:
                said = self._socket.recv(4096).decode()
            except TimeoutError as error:
                raise BenchError(f"a reload by SIGHUP took longer than {APPLY_SECONDS:.0f} s") from error
            if "rejected" in said:
                raise BenchError(said)
            if said.startswith("READY=1"):
                return

    def close(self) -> None:
        self._socket.close()


def control_seconds(pid: int) -> float:
    """CPU time of all threads but the workers."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        if not (task / "comm").read_text().startswith(WORKER):
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


@contextmanager
def polling(fleet: Fleet) -> Iterator[list[float]]:
    """How long answers of the control plane take meanwhile: it has one loop, so its longest pause shows."""
    waits: list[float] = []
    over = threading.Event()

    def poll() -> None:
        while not over.wait(POLL_SECONDS):
            start = time.monotonic()
            _request(fleet, "GET", "/healthz")
            waits.append(time.monotonic() - start)

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield waits
    finally:
        over.set()
        thread.join()


@dataclass(frozen=True, slots=True)
class Phase:
    """What the clients saw, what each reload took, and how long the control plane let others wait, in seconds."""

    name: str
    connects: load.Outcome
    streams: load.Outcome
    waits: list[float]
    walls: list[float] = field(default_factory=list)
    cpus: list[float] = field(default_factory=list)


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
        os.environ["NOTIFY_SOCKET"] = str(fleet.directory / "notify")
        command = [sys.executable, "-m", "l4lb", "run", "-c", str(fleet.path)]
        with (
            contextlib.closing(Signaller(fleet.directory / "notify")) as reload_by_signal,
            load.server(self.program, server_address, cpu=self.load_cpu, directory=fleet.directory),
            running(command, cpu=self.cpu, log=log) as process,
        ):
            wait_until_ready("l4lb", process, ("127.0.0.1", fleet.port), log)
            phases = [self._phase(fleet, "no reload", lambda _walls, _cpus: time.sleep(self.pause * self.count))]
            for name, reload in (("POST", reload_by_request), ("SIGHUP", reload_by_signal)):
                phases.append(self._phase(fleet, name, partial(self._reload, fleet, process.pid, reload)))
        return phases

    def _phase(self, fleet: Fleet, name: str, action: Callable[[list[float], list[float]], None]) -> Phase:
        """The clients run until the action has ended."""
        click.echo(f"{name} ...", err=True)
        connect = ("connect", "--rate", str(self.rate), "--connections", "512")
        stream = ("stream", "--connections", str(STREAMS))
        with ExitStack() as stack:
            clients = [stack.enter_context(self._client(fleet, options)) for options in (connect, stream)]
            waits = stack.enter_context(polling(fleet))
            walls: list[float] = []
            cpus: list[float] = []
            action(walls, cpus)
            connects, streams = map(_end, clients)
        return Phase(name, connects, streams, waits, walls, cpus)

    @contextmanager
    def _client(self, fleet: Fleet, options: tuple[str, ...]) -> Iterator[load.Client]:
        """A client under way."""
        options = (*options, "--seconds", "3600", "--until-told")
        address = f"127.0.0.1:{fleet.port}"
        with load.client(self.program, address, options, cpu=self.load_cpu, directory=fleet.directory) as client:
            client.wait_for("ready")
            client.go_on()
            yield client

    def _reload(
        self, fleet: Fleet, pid: int, reload: Callable[[Fleet, int], None], walls: list[float], cpus: list[float]
    ) -> None:
        for version in range(1, self.count + 1):
            fleet.write(version)
            cpu, start = control_seconds(pid), time.monotonic()
            reload(fleet, pid)
            walls.append(time.monotonic() - start)
            cpus.append(control_seconds(pid) - cpu)
            time.sleep(self.pause)


def _end(client: load.Client) -> load.Outcome:
    client.go_on()
    client.wait_for("done")
    client.go_on()
    return client.outcome()


def show(phases: list[Phase], to: Console) -> None:
    clients = Table("", "connections", "failed", "p50 µs", "p99 µs", "max µs", "chunks", "p50 µs", "p99 µs", "max µs")
    reloads = Table("", "reloads", "ms: p50", "max", "control CPU ms: p50", "max", "longest wait for an answer, ms")
    for phase in phases:
        cells = [phase.name]
        for outcome in (phase.connects, phase.streams):
            cells.append(f"{outcome.operations:,}")
            if outcome is phase.connects:
                cells.append(str(outcome.errors))
            cells += [f"{outcome.latency_us[point]:,.0f}" for point in ("p50", "p99", "max")]
        clients.add_row(*cells)
        times = [_milliseconds(times, pick) for times in (phase.walls, phase.cpus) for pick in (statistics.median, max)]
        reloads.add_row(phase.name, str(len(phase.walls)), *times, _milliseconds(phase.waits, max))
    to.print(clients)
    to.print(reloads)


def _milliseconds(times: list[float], pick: Callable[[list[float]], float]) -> str:
    return f"{pick(times) * 1000:,.0f}" if times else ""


@click.command(
    epilog="\b\nExamples:\n  python bench/reload.py --reloads 50\n"
    "  python bench/reload.py --listeners 1000 --pools 400 --backends 10000"
)
@click.option("--backends", default=1000, show_default=True, type=click.IntRange(1, 10_000), help="Of all pools.")
@click.option("--pools", default=1, show_default=True, type=click.IntRange(1, 10_000))
@click.option("--listeners", default=1, show_default=True, type=click.IntRange(1, 10_000))
@click.option("--reloads", default=20, show_default=True, type=click.IntRange(min=1), help="Of each kind.")
@click.option("--pause", default=0.2, show_default=True, metavar="SECONDS", help="Between two reloads.")
@click.option("--rate", default=1000, show_default=True, type=click.IntRange(min=1), help="New connections a second.")
@click.option("--health", is_flag=True, help="With a TCP check of every backend.")
def main(backends: int, pools: int, listeners: int, reloads: int, pause: float, rate: int, health: bool) -> None:
    """Reload l4lb under load, by request and by SIGHUP; exits with 1 when a client saw a fault."""
    cpu, load_cpu = default_cpus()
    server_port = free_port()
    addresses = [f"127.0.{1 + i // 256}.{i % 256}:{server_port}" for i in range(1, backends + 1)]
    try:
        with tempfile.TemporaryDirectory(prefix="l4lb-bench-") as directory:
            fleet = Fleet(Path(directory), free_port(), addresses, listeners, min(pools, backends), health)
            run = Run(load.build(), cpu, load_cpu, rate, reloads, pause)
            phases = run.measure(fleet, f"{addresses[0]}+{backends}")
    except BenchError as error:
        raise click.ClickException(str(error)) from error
    show(phases, console())
    faults = [outcome for phase in phases for outcome in (phase.connects, phase.streams) if outcome.errors]
    if faults:
        failed = sum(outcome.errors for outcome in faults)
        raise click.ClickException(f"{failed} connections failed; the first one: {faults[0].first_error}")


if __name__ == "__main__":
    main()
