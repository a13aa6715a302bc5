"""The command `python -m bench health`: CPU time of health checks, the delay of the event loop, and their pace.

A server in a process of its own replies on as many addresses of 127.0.0.0/8 as there are backends. The scheduler and
the probes are the product's, alone on the product's event loop. Checks have no jitter, so a check that does not start
whole intervals after the one before is late.
"""

from __future__ import annotations

import asyncio
import math
import socket
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass
from multiprocessing.connection import Connection
from unittest import mock

import click
import uvloop

from bench.shared import options
from bench.shared.children import child, receive
from bench.shared.processes import BenchError
from bench.shared.tables import Sheet, console, show
from l4lb.config.model import Health
from l4lb.health import scheduler as module
from l4lb.health.probes import NO_SUBJECT, Result, Subject, probe
from l4lb.health.scheduler import Check, Scheduler
from l4lb.net.target import Target
from l4lb.status import HealthState

CONCURRENT_CHECKS = 1024
WARM_UP_SECONDS = 3.0
LAG_SAMPLE_SECONDS = 0.005
"""The time between two measurements of the loop's delay."""
RESPONSES = {"tcp": b"", "http": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "send_expect": b"+PONG\r\n"}
HEADER = (
    "type",
    "backends",
    "checks/s",
    "due/s",
    "failed",
    "CPU",
    "CPU µs a check",
    "loop delay ms: median",
    "p99",
    "max",
    "drift ms: median",
    "max",
)
EPILOG = """\b
Examples:
  python -m bench health
  python -m bench health --backends 200 --seconds 2 --types tcp
"""


class Responder(asyncio.Protocol):
    def __init__(self, response: bytes) -> None:
        self.response = response

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.response:
            self.transport.write(self.response)  # type: ignore[attr-defined]


def serve(response: bytes, pipe: Connection) -> None:
    """A process: sends its port, and serves until the pipe closes."""

    async def main() -> None:
        sock = socket.create_server(("0.0.0.0", 0), backlog=4096)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Responder(response), sock=sock)
        pipe.send(sock.getsockname()[1])
        await loop.run_in_executor(None, pipe.recv)
        server.close()

    uvloop.run(main())


@dataclass(frozen=True, slots=True)
class Load:
    backends: int
    interval: float
    seconds: float

    def settings(self, kind: str) -> Health:
        more = {"script": {"send": "PING\r\n", "expect": "+PONG"}} if kind == "send_expect" else {}
        return Health.model_validate({"type": kind, "interval": self.interval, "timeout": 1.0, "jitter": 0.0} | more)

    def targets(self, port: int) -> list[Target]:
        return [
            Target(socket.AF_INET, (f"127.{1 + n // 65536}.{n // 256 % 256}.{n % 256}", port))
            for n in range(1, self.backends + 1)
        ]


async def measure(kind: str, port: int, load: Load) -> list[str]:
    """The cells of a row, as in HEADER."""
    loop = asyncio.get_running_loop()
    starts: defaultdict[Target, list[float]] = defaultdict(list)
    failed, began = 0, math.inf

    async def recorded(target: Target, health: Health, subject: Subject = NO_SUBJECT) -> Result:
        nonlocal failed
        starts[target].append(loop.time())
        result = await probe(target, health, subject)
        failed += not result.ok and loop.time() >= began
        return result

    scheduler: Scheduler[Target] = Scheduler(lambda key, state, message: None, concurrency=CONCURRENT_CHECKS)
    health = load.settings(kind)
    with mock.patch.object(module, "probe", recorded):
        scheduler.apply({target: Check(target, health, HealthState.PENDING) for target in load.targets(port)})
        await asyncio.sleep(WARM_UP_SECONDS + load.interval)
        began, cpu = loop.time(), time.process_time()
        starts.clear()
        lags = await _loop_delays(began + load.seconds)
        elapsed, cpu = loop.time() - began, time.process_time() - cpu
        await scheduler.close()
    done = sum(map(len, starts.values()))
    drifts = [_drift(times, load.interval) for times in starts.values()]
    return [
        kind,
        f"{load.backends:,}",
        f"{done / elapsed:,.0f}",
        f"{load.backends / load.interval:,.0f}",
        str(failed),
        f"{cpu / elapsed:.1%}",
        f"{1e6 * cpu / done:.0f}",
        *(f"{1e3 * lag:.2f}" for lag in (lags[len(lags) // 2], lags[len(lags) * 99 // 100], lags[-1])),
        f"{1e3 * statistics.median(drifts):.1f}",
        f"{1e3 * max(drifts):.1f}",
    ]


async def _loop_delays(until: float) -> list[float]:
    """By how much a short sleep takes longer than it should, ascending."""
    loop, lags = asyncio.get_running_loop(), []
    while loop.time() < until:
        before = loop.time()
        await asyncio.sleep(LAG_SAMPLE_SECONDS)
        lags.append(loop.time() - before - LAG_SAMPLE_SECONDS)
    return sorted(lags)


def _drift(starts: list[float], interval: float) -> float:
    """How far the last check of a backend is from whole intervals after the first."""
    return abs(((starts[-1] - starts[0]) / interval + 0.5) % 1 - 0.5) * interval


@click.command(epilog=EPILOG)
@click.option("--backends", default=2000, show_default=True, type=click.IntRange(min=1))
@click.option("--interval", default=1.0, show_default=True, type=float, help="Seconds between checks of a backend.")
@click.option("--seconds", default=10.0, show_default=True, type=float, help="How long each type is measured.")
@click.option(
    "--types",
    default=",".join(RESPONSES),
    show_default=True,
    callback=options.names(tuple(RESPONSES)),
    metavar="A,B",
    help="Types of checks.",
)
def main(backends: int, interval: float, seconds: float, types: list[str]) -> None:
    """Check thousands of backends: CPU time, delay of the event loop, and whether checks keep their pace."""
    load = Load(backends, interval, seconds)
    rows = []
    try:
        for kind in types:
            click.echo(f"{kind} ...", err=True)
            with child(serve, RESPONSES[kind]) as server:
                port: int = receive(server, "the server")
                rows.append(uvloop.run(measure(kind, port, load)))
                server.send("stop")
    except BenchError as error:
        raise click.ClickException(str(error)) from error
    show([Sheet("", HEADER, rows)], console())
