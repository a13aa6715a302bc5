"""The command `python -m bench reload`: reloads of a large configuration under load. It shows what they cost, and fails
when a client notices one."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import click

from bench.shared import balancers, load
from bench.shared.admin import call_once
from bench.shared.places import default_cpus, free_port
from bench.shared.processes import BenchError
from bench.shared.tables import Sheet, console, show

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
CLIENTS = ("", "connections", "failed", "p50 µs", "p99 µs", "max µs", "chunks", "p50 µs", "p99 µs", "max µs")
RELOADS = ("", "reloads", "ms: p50", "max", "control CPU ms: p50", "max", "longest wait for a response, ms")
EPILOG = """\b
Examples:
  python -m bench reload --reloads 50
  python -m bench reload --listeners 1000 --pools 400 --backends 10000
"""


@dataclass(frozen=True, slots=True)
class Fleet:
    """The balancer's configuration, in any number of versions. Clients use the first listener."""

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
        return balancers.admin_socket(self.directory)

    def write(self, version: int) -> None:
        """Version 0 has all backends."""
        replacement = self.directory / "next.yaml"
        with replacement.open("w") as file:
            file.write(f"""\
{balancers.l4lb_preamble(self.directory)}\
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


def reload_by_request(fleet: Fleet, _pid: int) -> None:
    """Return when the new configuration is active."""
    call_once(fleet.socket, "POST", "/api/v1/reload")


class Signaller:
    """Reloads by SIGHUP, and receives the outcome as a service manager does."""

    def __init__(self, socket_path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(socket_path))
        self._socket.settimeout(APPLY_SECONDS)

    def __call__(self, _fleet: Fleet, pid: int) -> None:
        """Return when the new configuration is active."""
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while self._socket.recv(4096):
                pass
        self._socket.settimeout(APPLY_SECONDS)
        os.kill(pid, signal.SIGHUP)
        while True:
            try:
                message = self._socket.recv(4096).decode()
            except TimeoutError as error:
                raise BenchError(f"a reload by SIGHUP took longer than {APPLY_SECONDS:.0f} s") from error
            if "rejected" in message:
                raise BenchError(message)
            if message.startswith("READY=1"):
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
    """How long the control plane takes to respond during the block, in seconds. It has one event loop, so the longest
    wait shows its longest pause."""
    waits: list[float] = []
    over = threading.Event()

    def poll() -> None:
        while not over.wait(POLL_SECONDS):
            start = time.monotonic()
            call_once(fleet.socket, "GET", "/healthz")
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
    """The results of the clients, seconds of each reload, and how long the control plane took to respond."""

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
        os.environ["NOTIFY_SOCKET"] = str(fleet.directory / "notify")
        command = balancers.l4lb_command(fleet.path)
        with (
            contextlib.closing(Signaller(fleet.directory / "notify")) as reload_by_signal,
            load.server(self.program, server_address, cpu=self.load_cpu, directory=fleet.directory),
            balancers.started("l4lb", command, cpu=self.cpu, port=fleet.port, directory=fleet.directory) as process,
        ):
            phases = [self._phase(fleet, "no reload", lambda _walls, _cpus: time.sleep(self.pause * self.count))]
            for name, reload in (("POST", reload_by_request), ("SIGHUP", reload_by_signal)):
                phases.append(self._phase(fleet, name, partial(self._reload, fleet, process.pid, reload)))
        return phases

    def _phase(self, fleet: Fleet, name: str, action: Callable[[list[float], list[float]], None]) -> Phase:
        """Clients run from the start of the action to its end."""
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
        """A running client."""
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


def sheets(phases: list[Phase]) -> list[Sheet]:
    clients, reloads = [], []
    for phase in phases:
        cells = [phase.name]
        for outcome in (phase.connects, phase.streams):
            cells.append(f"{outcome.operations:,}")
            if outcome is phase.connects:
                cells.append(str(outcome.errors))
            cells += [f"{outcome.latency_us[point]:,.0f}" for point in ("p50", "p99", "max")]
        clients.append(cells)
        times = [_milliseconds(times, pick) for times in (phase.walls, phase.cpus) for pick in (statistics.median, max)]
        reloads.append([phase.name, str(len(phase.walls)), *times, _milliseconds(phase.waits, max)])
    return [Sheet("", CLIENTS, clients), Sheet("", RELOADS, reloads)]


def _milliseconds(times: list[float], pick: Callable[[list[float]], float]) -> str:
    return f"{pick(times) * 1000:,.0f}" if times else ""


@click.command(epilog=EPILOG)
@click.option("--backends", default=1000, show_default=True, type=click.IntRange(1, 10_000), help="Of all pools.")
@click.option("--pools", default=1, show_default=True, type=click.IntRange(1, 10_000))
@click.option("--listeners", default=1, show_default=True, type=click.IntRange(1, 10_000))
@click.option("--reloads", default=20, show_default=True, type=click.IntRange(min=1), help="Of each kind.")
@click.option("--pause", default=0.2, show_default=True, metavar="SECONDS", help="Between two reloads.")
@click.option("--rate", default=1000, show_default=True, type=click.IntRange(min=1), help="New connections a second.")
@click.option("--health", is_flag=True, help="With a TCP check of every backend.")
def main(backends: int, pools: int, listeners: int, reloads: int, pause: float, rate: int, health: bool) -> None:
    """Reload l4lb under load, by request and by SIGHUP; exit with 1 when a connection fails."""
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
    show(sheets(phases), console())
    faults = [outcome for phase in phases for outcome in (phase.connects, phase.streams) if outcome.errors]
    if faults:
        failed = sum(outcome.errors for outcome in faults)
        raise click.ClickException(f"{failed} connections failed; the first one: {faults[0].first_error}")
