"""Statistics of the data plane, under the names of the tables in `src_c/l4lb.h`.

Those tables are the only list of statistics: the engine reads structs by them, and the metrics, the API and the
reference are generated from them. The classes here declare only what the control plane itself uses.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, NamedTuple


class StatKind(enum.IntEnum):
    """`enum l4lb_stat_kind`."""

    GAUGE = 0
    COUNTER = 1
    HISTOGRAM = 2
    INTERNAL = 3
    """Read by the control plane, in neither metrics nor API."""


class Stat(NamedTuple):
    """A line of a table in `l4lb.h`. A name that ends in `_us` is a time in microseconds, 0 while unknown."""

    name: str
    kind: StatKind
    help: str

    @property
    def attribute(self) -> str:
        """The attribute of `Statistics` with its value. Times are in seconds there, None while unknown."""
        return self.name.removesuffix("_us")


@dataclass(frozen=True, slots=True)
class Histogram:
    """The count of each bucket (not cumulative; one more bucket than bounds), and the sum in seconds."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float


NO_HISTOGRAM = Histogram((), (0,), 0.0)

STATUS_CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx", "other")
"""Classes of status codes, in the order of `responses` of `struct l4lb_backend_stats`."""


class Statistics:
    """Values of one table, as attributes that do not change."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"statistics do not change; {name!r} cannot be set")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(self) == vars(other)

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({values})"


class BackendStatistics(Statistics):
    """L4LB_BACKEND_STATS, and the responses by class of their status where HTTP/1 is followed."""

    connections: int
    busy: int
    latency: float | None
    connections_total: int
    connect: Histogram
    first_byte: Histogram
    stream_gap: Histogram
    turn: Histogram
    received_bytes_total: int
    sent_bytes_total: int
    responses_total: dict[str, int]


class ListenerStatistics(Statistics):
    """L4LB_LISTENER_STATS, and the rejected clients by reason (L4LB_REJECT_TABLE)."""

    connections: int
    connections_total: int
    rejected_total: dict[str, int]

    def __init__(self, *, rejected_total: dict[str, int] | None = None, **values: int) -> None:
        super().__init__(rejected_total={} if rejected_total is None else rejected_total, **values)


class StickyStatistics(Statistics):
    """L4LB_STICKY_STATS, and `entries`: the clients remembered now."""

    entries: int


class PoolStatistics(Statistics):
    """L4LB_POOL_STATS, the closed sessions by (reason, termination code) (L4LB_CLOSE_TABLE), and the pinned ones by
    reason (L4LB_PIN_TABLE). `sticky` is None if the pool does not remember clients."""

    queued: int
    queue: Histogram
    sticky: StickyStatistics | None
    closed_total: dict[tuple[str, str], int]
    pinned_total: dict[str, int]


class WorkerStatistics(Statistics):
    """L4LB_WORKER_STATS."""

    sessions: int
    heartbeat_ns: int
