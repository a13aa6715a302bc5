"""The command `python -m bench micro`: lookup tables, address lists and the publication of snapshots."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from statistics import median

import click

from bench.shared.processes import ROOT
from bench.shared.tables import Sheet, console, show
from l4lb.engine import NativeEngine
from l4lb.engine.api import (
    BackendSpec,
    Balance,
    EngineOptions,
    ListenerSpec,
    NetworkTable,
    PoolSpec,
    SlotKind,
    Snapshot,
)
from l4lb.engine.packing import pack_networks

PREFIXES = 100_000
RECLAIM_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Row:
    what: str
    value: float
    unit: str


def pure_modules() -> list[Row]:
    """The C modules without an engine."""
    build = ROOT / "build" / "bench"
    subprocess.run(["make", "--quiet", "-C", str(Path(__file__).parent), f"BUILD={build}"], check=True)
    output = subprocess.run([str(build / "pure")], capture_output=True, text=True, check=True).stdout
    rows = (line.split("|") for line in output.splitlines())
    return [Row(what, float(value), unit) for what, value, unit in rows]


class Publisher:
    """A running engine that takes snapshots, and the slots that they name."""

    def __init__(self, engine: NativeEngine) -> None:
        self._engine = engine
        self._pool = engine.take_slot(SlotKind.POOL)
        self._listener = engine.take_slot(SlotKind.LISTENER)
        self._backends: list[int] = []

    def pool(self, count: int, balance: Balance, first_weight: int = 1) -> PoolSpec:
        while len(self._backends) < count:
            self._backends.append(self._engine.take_slot(SlotKind.BACKEND))
        backends = [
            BackendSpec(
                slot=slot,
                name=f"b{i}",
                family=socket.AF_INET,
                address=(f"10.{i >> 8}.{i & 255}.1", 8000),
                weight=first_weight if i == 0 else 1,
            )
            for i, slot in enumerate(self._backends[:count])
        ]
        return PoolSpec(slot=self._pool, balance=balance, backends=backends)

    def compile(self, networks: Sequence[IPv4Network]) -> NetworkTable:
        return self._engine.compile_networks(pack_networks(networks))

    def listener(self, fd: int, allow: NetworkTable) -> ListenerSpec:
        return ListenerSpec(slot=self._listener, pool=0, fds=((fd,),), allow=allow)

    def time_changes(self, repeats: int, variants: Sequence[Snapshot]) -> float:
        """Median milliseconds of a publication. The variants alternate, because the engine may keep what is unchanged,
        and a reload does not wait for that."""
        times = []
        for number in range(repeats):
            start = time.perf_counter()
            self._engine.publish(variants[number % len(variants)])
            times.append((time.perf_counter() - start) * 1000)
            self._reclaim()
        return median(times)

    def clear(self) -> None:
        """Release all listening sockets."""
        self._engine.publish(Snapshot())
        self._reclaim()

    def _reclaim(self) -> None:
        """Wait until the workers have left the snapshots before the newest."""
        deadline = time.monotonic() + RECLAIM_SECONDS
        while self._engine.reclaim() != 0:
            if time.monotonic() > deadline:
                raise click.ClickException("the workers did not release a retired snapshot")
            time.sleep(0.001)


@contextmanager
def _publisher() -> Iterator[Publisher]:
    engine = NativeEngine(EngineOptions(workers=1))
    engine.start()
    try:
        yield Publisher(engine)
    finally:
        engine.stop()
        engine.close()


def publications(repeats: int) -> list[Row]:
    """Snapshots through the engine: conversion, checks, tables and the swap."""
    with _publisher() as publisher:
        rows = _pools(publisher, repeats)
        with socket.create_server(("127.0.0.1", 0)) as sock:
            sock.setblocking(False)
            rows += _networks(publisher, sock.fileno(), repeats)
            publisher.clear()
    return rows


def _pools(publisher: Publisher, repeats: int) -> list[Row]:
    rows = []
    for count in (1_000, 10_000):
        for balance in (Balance.ROUND_ROBIN, Balance.LEAST_CONNECTIONS, Balance.MAGLEV):
            variants = [Snapshot(pools=(publisher.pool(count, balance, weight),)) for weight in (1, 2)]
            spent = publisher.time_changes(repeats, variants)
            rows.append(Row(f"publish, {count:,} backends, {balance.name.lower()}, one weight changed", spent, "ms"))
    return rows


def _networks(publisher: Publisher, fd: int, repeats: int) -> list[Row]:
    pools = (publisher.pool(1, Balance.ROUND_ROBIN),)
    # Every other /28, so that no two make one range.
    networks = [IPv4Network(((10 << 24) + 32 * i, 28)) for i in range(PREFIXES + 1)]
    start = time.perf_counter()
    lists = (publisher.compile(networks[1:]), publisher.compile(networks[:-1]))
    compiling = (time.perf_counter() - start) * 1000 / len(lists)
    variants = [Snapshot(listeners=(publisher.listener(fd, allow),), pools=pools) for allow in lists]
    changed = publisher.time_changes(repeats, variants)
    same = publisher.time_changes(repeats, variants[:1])
    what = f"publish, listener with {PREFIXES:,} allowed networks"
    return [
        Row(f"compile {PREFIXES:,} networks for the engine", compiling, "ms"),
        Row(f"{what}, one changed", changed, "ms"),
        Row(f"{what}, none changed", same, "ms"),
    ]


@click.command(epilog="\b\nExample:\n  python -m bench micro --repeats 20")
@click.option("--repeats", default=5, show_default=True, type=click.IntRange(min=1), help="Publications of each kind.")
@click.option("--cpu", type=int, default=None, help="Stay on this CPU.")
def main(repeats: int, cpu: int | None) -> None:
    """Time how long lookup tables take to build and snapshots to publish; medians."""
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    rows = [[row.what, f"{row.value:,.2f}", row.unit] for row in [*pure_modules(), *publications(repeats)]]
    show([Sheet("", ["what", "time", "unit"], rows)], console())
