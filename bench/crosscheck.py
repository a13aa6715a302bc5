"""The command `python -m bench crosscheck`: the comparison with wrk and iperf3 as load generators."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from bench.compare.subjects import Direct, HAProxy, L4lb, Nginx, Site, Started, Subject
from bench.shared import load, options
from bench.shared.balancers import GET
from bench.shared.cpu_time import Cost, Moment
from bench.shared.places import default_cpus, free_port
from bench.shared.processes import BenchError, pinned, running
from bench.shared.spread import Spread, spread_text
from bench.shared.tables import Sheet, console, show

SERVER = "127.0.1.1"
SETTLE_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Places:
    cpu: int
    load_cpu: int
    port: int
    server_port: int
    directory: Path
    seconds: int

    @property
    def server(self) -> str:
        return f"{SERVER}:{self.server_port}"


def _output(places: Places, command: list[str]) -> str:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=places.seconds + 30,
            preexec_fn=pinned(places.load_cpu),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"{command[0]} does not run: {error}") from error
    if done.returncode != 0:
        raise BenchError(f"{command[0]} failed: {done.stderr or done.stdout}")
    return done.stdout


def wrk(places: Places, address: str) -> float:
    """The number of HTTP requests on 64 connections that stay open."""
    output = _output(places, ["wrk", "-t1", "-c64", f"-d{places.seconds}", f"http://{address}/"])
    count = re.search(r"(\d+) requests in", output)
    if count is None or "Socket errors" in output:
        raise BenchError(f"wrk had errors:\n{output}")
    return float(count[1])


def iperf3(places: Places, address: str, *, reverse: bool) -> float:
    """The MiB that four streams received."""
    host, port = address.split(":")
    command = ["iperf3", "-c", host, "-p", port, "-P", "4", "-t", str(places.seconds), "-J"]
    result = json.loads(_output(places, command + ["-R"] * reverse))
    return float(result["end"]["sum_received"]["bytes"]) / (1 << 20)


@contextmanager
def _own_server(places: Places) -> Iterator[None]:
    program = load.build()
    with load.server(program, places.server, cpu=places.load_cpu, directory=places.directory):
        yield


@contextmanager
def _iperf3_server(places: Places) -> Iterator[None]:
    command = ["iperf3", "-s", "-B", SERVER, "-p", str(places.server_port)]
    with running(command, cpu=places.load_cpu, log=places.directory / "iperf3.log"):
        time.sleep(SETTLE_SECONDS)
        yield


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    operation: str
    server: Callable[[Places], AbstractContextManager[None]]
    run: Callable[[Places, str], float]


CHECKS = (
    Check("wrk, 64 connections", "request", _own_server, wrk),
    Check("iperf3, 4 streams down", "MiB", _iperf3_server, lambda places, to: iperf3(places, to, reverse=True)),
    Check("iperf3, 4 streams up", "MiB", _iperf3_server, lambda places, to: iperf3(places, to, reverse=False)),
)


def measure(places: Places, check: Check, subject: Subject) -> tuple[float, float | None]:
    """Operations a second, and the balancer's microseconds per operation."""
    greeting = GET if check.server is _own_server else None
    site = Site(places.directory, places.cpu, places.port, [places.server], greeting)
    with check.server(places), subject.started(site) as started:
        time.sleep(SETTLE_SECONDS)
        address = f"127.0.0.1:{places.port}" if started.pid is not None else places.server
        before = _moment(places, started)
        operations = check.run(places, address)
        cost = Cost.between(before, _moment(places, started))
    cpu = cost.subject / 1000 / operations if started.pid is not None else None
    return operations / places.seconds, cpu


def _moment(places: Places, started: Started) -> Moment:
    return Moment.now(started.pid, (), (places.cpu, places.load_cpu))


@click.command(epilog="\b\nExample:\n  python -m bench crosscheck --rounds 3 --seconds 2")
@options.binaries
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(min=1), help="How often all is repeated.")
@click.option("--seconds", default=2, show_default=True, type=click.IntRange(min=1), help="Of each measurement.")
def main(haproxy: str, nginx: str, rounds: int, seconds: int) -> None:
    """Compare with wrk and iperf3, and show the balancer's CPU time per operation."""
    subjects = (Direct(), L4lb(), HAProxy(haproxy), Nginx(nginx))
    rows = []
    try:
        for check in CHECKS:
            measured = _rounds(check, subjects, rounds, seconds)
            for name, values in measured.items():
                rates = Spread.of([rate for rate, _ in values])
                costs = Spread.of([cost for _, cost in values if cost is not None])
                rows.append([check.name, name, spread_text(rates), spread_text(costs), check.operation])
    except BenchError as error:
        raise click.ClickException(str(error)) from error
    show([Sheet("", ["load", "subject", "per second", "balancer CPU µs", "operation"], rows)], console())


def _rounds(
    check: Check, subjects: Sequence[Subject], rounds: int, seconds: int
) -> dict[str, list[tuple[float, float | None]]]:
    """The measurements of each subject, by its name."""
    cpu, load_cpu = default_cpus()
    measured: dict[str, list[tuple[float, float | None]]] = {subject.name: [] for subject in subjects}
    for number in range(1, rounds + 1):
        for subject in subjects:
            click.echo(f"round {number}/{rounds}: {check.name}: {subject.name}", err=True)
            with tempfile.TemporaryDirectory(prefix="l4lb-bench-") as directory:
                places = Places(cpu, load_cpu, free_port(), free_port(), Path(directory), seconds)
                measured[subject.name].append(measure(places, check, subject))
    return measured
