"""The table of the demo: the balancer's numbers and the clients' for each backend."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from l4lb.admin.client import Json
from l4lb.demo.load import Served
from l4lb.terminal.tables import number, size

RATE_SECONDS = 3.0
"""Seconds over which rates are averaged: one refresh sees too few tokens."""

_STYLES = {"up": "green", "down": "bold red", "pending": "cyan", "drain": "yellow", "maint": "yellow"}
# Together they fit into a terminal of 80 columns. A name that ends in `>` is a column of numbers.
_COLUMNS = (
    *("backend", "pid>", "state", "health", "conns>", "total>"),
    *("bytes\nout>", "served>", "tokens\n/s>", "TTFT\np50>"),
)


class Rates:
    """Tokens per second by backend, from counts taken now and then."""

    def __init__(self) -> None:
        self._counts: deque[tuple[float, dict[str, int]]] = deque()

    def add(self, now: float, counts: dict[str, int]) -> None:
        self._counts.append((now, counts))
        while len(self._counts) > 2 and now - self._counts[1][0] >= RATE_SECONDS:
            self._counts.popleft()

    def of(self, name: str) -> float:
        if not self._counts:
            return 0.0
        (then, before), (now, after) = self._counts[0], self._counts[-1]
        return (after.get(name, 0) - before.get(name, 0)) / (now - then) if now > then else 0.0


@dataclass(frozen=True, slots=True)
class Row:
    """One backend: `status` is the balancer's view of it, `served` the clients'; `pid` is None once it has ended."""

    name: str
    pid: int | None
    status: Json
    served: Served
    tokens_per_second: float


def draw(rows: Iterable[Row], failed: int, hint: str) -> Group:
    """The table with its remarks. `failed` counts requests without a complete response."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in _COLUMNS:
        table.add_column(column.removesuffix(">"), justify="right" if column.endswith(">") else "left", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row))
    return Group(table, Text(f"requests that failed: {failed}\n{hint}"))


def _cells(row: Row) -> list[Text]:
    status = row.status
    median = row.served.first_token_median
    health, state = str(status["health"]), str(status["state"])
    return [
        Text(row.name),
        Text("ended", style="bold red") if row.pid is None else Text(str(row.pid)),
        Text(state, style=_STYLES.get(state, "")),
        Text(health, style=_STYLES.get(health, "")),
        Text(str(status["connections"])),
        Text(str(status["connections_total"])),
        Text(size(number(status, "bytes_out"))),
        Text(str(row.served.requests)),
        Text(f"{row.tokens_per_second:.0f}"),
        Text("-" if median is None else f"{median * 1000:.0f} ms"),
    ]
