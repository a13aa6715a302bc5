"""The measurement: in each round, every scenario with one subject after the other, so that drift hits all alike."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.compare.scenarios import HTTP, TCP, Scenario
from bench.compare.subjects import Site, Started, Subject
from bench.shared import load
from bench.shared.balancers import ECHO, GET
from bench.shared.cpu_time import Cost, Memory, Moment, memory, time_waits
from bench.shared.processes import BenchError

BACKENDS = 16
GREETINGS = {TCP: ECHO, HTTP: GET}
WARM_UPS = {
    TCP: ("exchange", "--connections", "64", "--seconds", "0.1"),
    HTTP: ("http", "--connections", "64", "--seconds", "0.1"),
}
BALANCER_METRICS = {"cpu_us", "rss_bytes", "pss_bytes", "base_rss_mib", "idle_cpu_us_per_s"}
TIME_WAIT_SECONDS = 70.0
TIME_WAIT_LIMIT = Path("/proc/sys/net/ipv4/tcp_max_tw_buckets")


@dataclass(frozen=True, slots=True)
class Bench:
    """What all measurements share. `cpu` is the subject's; generator and servers share `load_cpu`."""

    program: Path
    cpu: int
    load_cpu: int
    port: int
    server_port: int
    quick: bool

    @property
    def backends(self) -> list[str]:
        return [f"127.0.1.{i + 1}:{self.server_port}" for i in range(BACKENDS)]

    @property
    def cpus(self) -> set[int]:
        return {self.cpu, self.load_cpu}


@dataclass(frozen=True, slots=True)
class Measurement:
    """One scenario with one subject in one round: metrics by name (see bench/README.md), in the units of the names."""

    round: int
    scenario: str
    subject: str
    errors: int
    first_error: str
    metrics: dict[str, float]


def measure_all(
    bench: Bench,
    subjects: Sequence[Subject],
    scenarios: Sequence[Scenario],
    rounds: int,
    progress: Callable[[str], None],
) -> list[Measurement]:
    measurements = []
    with _directory() as directory, _server(bench, directory) as server:
        for number in range(1, rounds + 1):
            for scenario in scenarios:
                for subject in [each for each in subjects if scenario.protocol in each.protocols]:
                    progress(f"round {number}/{rounds}: {scenario.title}: {subject.name}")
                    measurements.append(_measure(bench, number, scenario, subject, server))
    return measurements


def _measure(bench: Bench, number: int, scenario: Scenario, subject: Subject, server: int) -> Measurement:
    """Each measurement has a fresh process, so that the memory of one scenario does not change the next."""
    if scenario.fills_ports:
        _wait_for_ports()
    with _directory() as directory:
        greeting = GREETINGS[scenario.protocol]
        site = Site(directory, bench.cpu, bench.port, bench.backends, greeting, scenario.streams)
        with subject.started(site) as started:
            _warm_up(bench, scenario, started, directory)
            outcome, metrics = _run(bench, scenario, started, server, directory)
    return Measurement(number, scenario.name, subject.name, outcome.errors, outcome.first_error, metrics)


def _run(
    bench: Bench, scenario: Scenario, started: Started, server: int, directory: Path
) -> tuple[load.Outcome, dict[str, float]]:
    arguments = scenario.quick if bench.quick else scenario.arguments
    with _client(bench, started, arguments, directory) as client:

        def now() -> Moment:
            return Moment.now(started.pid, [server, client.pid], bench.cpus)

        client.wait_for("ready")
        empty = memory(started.pid) if scenario.memory else None
        before = now()
        client.go_on()
        client.wait_for("done")
        after = now()
        time.sleep(scenario.hold_seconds)
        held = now()
        full = memory(started.pid) if scenario.memory else None
        client.go_on()
        outcome = client.outcome()
    if outcome.operations == 0:
        raise BenchError(
            f"{scenario.name}: all {outcome.errors} operations failed; the first error: {outcome.first_error}"
        )
    metrics = _metrics(outcome, Cost.between(before, after))
    if empty is not None and full is not None:
        metrics |= _memory_metrics(empty, full, outcome.operations)
        metrics["idle_cpu_us_per_s"] = Cost.between(after, held).subject / 1000 / scenario.hold_seconds
    if started.pid is None:
        metrics = {name: value for name, value in metrics.items() if name not in BALANCER_METRICS}
    return outcome, metrics


def _metrics(outcome: load.Outcome, cost: Cost) -> dict[str, float]:
    return {
        "rate": outcome.operations / outcome.seconds,
        "cpu_us": cost.subject / 1000 / outcome.operations,
        "processes_us": cost.processes / 1000 / outcome.operations,
        "system_us": cost.system / 1000 / outcome.operations,
        "foreign_share": max(0.0, 1 - cost.processes / cost.system) if cost.system > 0 else 0.0,
        **{f"{point}_us": value for point, value in outcome.latency_us.items()},
    }


def _memory_metrics(empty: Memory, full: Memory, connections: int) -> dict[str, float]:
    return {
        "rss_bytes": (full.rss - empty.rss) / connections,
        "pss_bytes": (full.pss - empty.pss) / connections,
        "kernel_bytes": (full.kernel - empty.kernel) / connections,
        "base_rss_mib": empty.rss / (1 << 20),
    }


def _warm_up(bench: Bench, scenario: Scenario, started: Started, directory: Path) -> None:
    with _client(bench, started, WARM_UPS[scenario.protocol], directory) as client:
        for step in ("ready", "done"):
            client.wait_for(step)
            client.go_on()
        client.outcome()


def _wait_for_ports() -> None:
    """Near its limit the kernel drops TIME_WAIT sockets at once, and connections become cheaper: wait before that."""
    limit = int(TIME_WAIT_LIMIT.read_text()) // 2
    deadline = time.monotonic() + TIME_WAIT_SECONDS
    while time_waits() > limit and time.monotonic() < deadline:
        time.sleep(0.5)


@contextmanager
def _client(bench: Bench, started: Started, arguments: Sequence[str], directory: Path) -> Iterator[load.Client]:
    with load.client(bench.program, started.address, arguments, cpu=bench.load_cpu, directory=directory) as client:
        yield client


@contextmanager
def _server(bench: Bench, directory: Path) -> Iterator[int]:
    address = f"{bench.backends[0]}+{BACKENDS}"
    with load.server(bench.program, address, cpu=bench.load_cpu, directory=directory) as process:
        yield process.pid


@contextmanager
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="l4lb-bench-") as path:
        yield Path(path)
