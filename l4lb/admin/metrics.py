"""The metrics: from the control plane's `Status` to Prometheus text or OpenMetrics.

The lines are put together here, not by prometheus-client's encoder: 10,000 backends have 600,000 samples, and each
costs that encoder ten times as much. `process_*` comes from the library.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector

from l4lb.admin.views import is_up, whole
from l4lb.engine import BACKEND_STATS, LISTENER_STATS, POOL_STATS, STICKY_STATS, WORKER_STATS
from l4lb.engine.statistics import BackendStatistics, Histogram, Stat, Statistics, StatKind
from l4lb.status import AdminState, BackendStatus, Status

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

T = TypeVar("T")
Value: TypeAlias = tuple[str, Literal["counter", "gauge"], str, Callable[[T], float]]
"""The end of a metric's name, its kind, its help, and how to read it."""

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@dataclass(frozen=True, slots=True)
class Family:
    """A metric and its samples as finished lines. A counter's name is without `_total`."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    lines: list[str] = field(default_factory=list)

    def add(self, labels: str, value: float) -> None:
        suffix = "_total" if self.kind == "counter" else ""
        self.lines.append(f"{self.name}{suffix}{{{labels}}} {value}\n" if labels else f"{self.name}{suffix} {value}\n")

    def add_histogram(self, labels: str, histogram: Histogram) -> None:
        count = 0
        before, braced = (f"{labels},", f"{{{labels}}}") if labels else ("", "")
        for bound, in_bucket in zip((*histogram.bounds, "+Inf"), histogram.counts, strict=True):
            count += in_bucket
            self.lines.append(f'{self.name}_bucket{{{before}le="{bound}"}} {count}\n')
        self.lines.append(f"{self.name}_count{braced} {count}\n{self.name}_sum{braced} {histogram.sum}\n")


def label_text(**labels: str) -> str:
    """Labels as they stand between the braces of a sample."""
    return ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items())


def encode(families: Collection[Family], *, openmetrics: bool) -> bytes:
    """The exposition of the families in either format."""
    gauges = {family.name for family in families if family.kind == "gauge"}
    parts: list[str] = []
    for family in families:
        name, kind = family.name, str(family.kind)
        # OpenMetrics names a counter's family without `_total`. Where a gauge has that name (connections now and in
        # all), the counter's samples go under their own name, and the format cannot tell the type.
        if kind == "counter" and (not openmetrics or name in gauges):
            name, kind = f"{name}_total", "unknown" if openmetrics else kind
        parts.append(f"# HELP {name} {family.help}\n# TYPE {name} {kind}\n")
        parts += family.lines
    if openmetrics:
        parts.append("# EOF\n")
    return "".join(parts).encode()


def wants_openmetrics(accept: str) -> bool:
    """Whether an Accept header asks for OpenMetrics."""
    return any(part.split(";")[0].strip().lower() == "application/openmetrics-text" for part in accept.split(","))


def render(status: Status) -> Iterator[Family]:
    """Every metric of l4lb itself."""
    yield from _global_families(status)
    yield from _listener_families(status)
    yield from _backend_families(status)
    yield from _pool_families(status)
    yield from _discovery_families(status)
    workers = [(label_text(worker=str(index)), worker) for index, worker in enumerate(status.workers)]
    yield from _stat_families("l4lb_worker", WORKER_STATS, workers)
    yield from _limit_families(status)


def _global_families(status: Status) -> Iterator[Family]:
    yield _single("build_info", "gauge", "The running version.", 1, label_text(version=status.version))
    yield _single("stopping", "gauge", "1 while l4lb drains before it exits.", int(status.stopping))
    yield _single(
        "config_last_reload_successful",
        "gauge",
        "1 if the last reload was applied, 0 if it was rejected.",
        int(status.config.last_reload_ok),
    )
    yield _single(
        "config_last_reload_timestamp_seconds",
        "gauge",
        "Time of the last reload, applied or not.",
        status.config.last_reload_at,
    )
    upgrades = Family(
        "l4lb_upgrades",
        "counter",
        "Upgrades in place by result, those of earlier processes since the last restart included.",
    )
    upgrades.add(label_text(result="done"), status.upgrade.done_total)
    upgrades.add(label_text(result="failed"), status.upgrade.failed_total)
    yield upgrades
    yield _single(
        "access_log_dropped",
        "counter",
        "Access log lines lost because the output was too slow.",
        status.access_log_dropped_total,
    )
    text = "Unexpected errors in the control plane; the process log has their tracebacks."
    yield _single("control_errors", "counter", text, status.control_errors_total)
    lag = Family("l4lb_control_loop_lag_seconds", "histogram", "Delay of timers on the control plane's event loop.")
    lag.add_histogram("", status.loop_lag)
    yield lag
    yield _single(
        "log_dropped",
        "counter",
        "Process log lines lost because standard error was too slow.",
        status.log_dropped_total,
    )


def _single(name: str, kind: Literal["counter", "gauge"], text: str, value: float, labels: str = "") -> Family:
    family = Family(f"l4lb_{name}", kind, text)
    family.add(labels, value)
    return family


def _families(prefix: str, values: Iterable[Value[T]], labelled: Collection[tuple[str, T]]) -> Iterator[Family]:
    """A family for each of `values`, with a sample of each of those it can be read from."""
    for name, kind, text, read in values:
        family = Family(f"{prefix}_{name}", kind, text)
        for labels, source in labelled:
            family.add(labels, read(source))
        yield family


HTTP1_STATS = frozenset({"first_body", "moves_total", "reused_total", "resends_total", "detached_total"})
"""Statistics of messages that are followed. Only pools with `protocol: http1` have samples of them."""


def _followed(status: Status) -> list[str]:
    """The pools whose messages are followed."""
    return [name for name, pool in status.pools.items() if pool.protocol == "http1"]


def _stat_families(
    prefix: str,
    table: Iterable[Stat],
    labelled: Collection[tuple[str, Statistics]],
    followed: Collection[tuple[str, Statistics]] = (),
) -> Iterator[Family]:
    """A family for each statistic of a table of `l4lb.h`, with a sample of each of `labelled`; those of HTTP1_STATS
    with a sample of each of `followed`."""
    for stat in table:
        if stat.kind is StatKind.INTERNAL:
            continue
        is_time = stat.kind is StatKind.HISTOGRAM or stat.attribute != stat.name
        name = f"{prefix}_{stat.attribute.removesuffix('_total')}{'_seconds' if is_time else ''}"
        family = Family(name, _KINDS[stat.kind], stat.help)
        for labels, statistics in followed if stat.name in HTTP1_STATS else labelled:
            value = getattr(statistics, stat.attribute)
            if stat.kind is StatKind.HISTOGRAM:
                family.add_histogram(labels, value)
            else:
                family.add(labels, value or 0)
        yield family


_KINDS: dict[StatKind, Literal["counter", "gauge", "histogram"]] = {
    StatKind.GAUGE: "gauge",
    StatKind.COUNTER: "counter",
    StatKind.HISTOGRAM: "histogram",
}


def _listener_families(status: Status) -> Iterator[Family]:
    listeners = {label_text(listener=name): listener.statistics for name, listener in status.listeners.items()}
    yield from _stat_families("l4lb_listener", LISTENER_STATS, listeners.items())
    rejected = Family("l4lb_listener_rejected", "counter", "Clients turned away before they became a session.")
    for labels, statistics in listeners.items():
        for reason, count in statistics.rejected_total.items():
            rejected.add(f"{labels},{label_text(reason=reason)}", count)
    yield rejected


_BACKEND_VALUES: tuple[Value[BackendStatus], ...] = (
    (
        "ejected",
        "gauge",
        "1 while the backend is ejected by passive health, else 0. Only with passive.",
        lambda b: int(b.ejection is not None and b.ejection.cause is not None),
    ),
    (
        "flaps",
        "gauge",
        "Times in a row that the backend went down soon after it came up; 0 when steady.",
        lambda b: b.flaps,
    ),
    (
        "cold",
        "gauge",
        "1 while the backend is cold: it has just become usable, and has few turns until it has responded.",
        lambda b: int(b.cold_left > 0),
    ),
    (
        "stalled",
        "gauge",
        "1 while the backend makes no progress although requests are running, else 0.",
        lambda b: int(b.stalled),
    ),
    ("up", "gauge", "1 if health checks pass or there are none, else 0.", lambda b: int(is_up(b))),
    ("weight", "gauge", "Weight of the file, or as set at run time.", lambda b: b.weight),
    (
        "effective_weight",
        "gauge",
        "Weight in use now, with load, agent and slow start; 0 takes no new session.",
        lambda b: whole(b.effective_weight),
    ),
)


def _backend_families(status: Status) -> Iterator[Family]:
    by_pool = {
        pool_name: [(label_text(pool=pool_name, backend=name), backend) for name, backend in pool.backends.items()]
        for pool_name, pool in status.pools.items()
    }
    backends = [item for found in by_pool.values() for item in found]
    statistics = [(labels, backend.statistics) for labels, backend in backends]
    followed = [(labels, backend.statistics) for name in _followed(status) for labels, backend in by_pool[name]]
    yield from _stat_families("l4lb_backend", BACKEND_STATS, statistics, followed)
    yield _response_family(followed)
    yield from _families("l4lb_backend", _BACKEND_VALUES, backends)
    info = Family(
        "l4lb_backend_info", "gauge", "Always 1; the labels have tier and zone. The zone is empty without one."
    )
    state = Family("l4lb_backend_state", "gauge", "1 for the state that the operator wants, 0 for the others.")
    checks = Family(
        "l4lb_backend_health_checks",
        "counter",
        "Health checks by result: success, failure, inconclusive (busy with clients), hindered (this host failed).",
    )
    ejections = Family(
        "l4lb_backend_ejections",
        "counter",
        "Ejections by cause: failures, black_hole, server_errors. Only with passive.",
    )
    load = Family(
        "l4lb_backend_load",
        "gauge",
        "Utilisation of the scarcest resource; 1 is all of it. Absent until a first scrape succeeds.",
    )
    stale = Family(
        "l4lb_backend_load_stale", "gauge", "1 if the backend's load is old or missing, else 0. Only with load."
    )
    scrapes = Family("l4lb_backend_load_scrapes", "counter", "Scrapes of the load by result.")
    agents = Family("l4lb_backend_agent_checks", "counter", "Requests to the agent by result.")
    for labels, backend in backends:
        info.add(f"{labels},{label_text(tier=str(backend.tier), zone=backend.zone or '')}", 1)
        for wanted in AdminState:
            state.add(f'{labels},state="{wanted}"', int(backend.state is wanted))
        for result, count in backend.health_checks_total.items():
            checks.add(f"{labels},{label_text(result=result)}", count)
        if backend.ejection is not None:
            for cause, count in backend.ejection.ejections_total.items():
                ejections.add(f"{labels},{label_text(cause=cause)}", count)
        if backend.load is not None:
            if backend.load.utilisation is not None:
                load.add(labels, backend.load.utilisation)
            stale.add(labels, int(backend.load.stale))
            for result, count in backend.load.scrapes_total.items():
                scrapes.add(f"{labels},{label_text(result=result)}", count)
        if backend.agent is not None:
            for result, count in backend.agent.checks_total.items():
                agents.add(f"{labels},{label_text(result=result)}", count)
    yield from (info, state, checks, ejections, load, stale, scrapes, agents)


def _response_family(followed: Iterable[tuple[str, BackendStatistics]]) -> Family:
    family = Family(
        "l4lb_backend_responses",
        "counter",
        "Responses by class of their status; of 1xx, only 101. Only with protocol http1.",
    )
    for labels, statistics in followed:
        for code, count in statistics.responses_total.items():
            family.add(f"{labels},{label_text(code=code)}", count)
    return family


def _sticky_families(status: Status) -> Iterator[Family]:
    sticky = {label_text(pool=name): pool.statistics.sticky for name, pool in status.pools.items()}
    labelled = {labels: statistics for labels, statistics in sticky.items() if statistics is not None}
    entries = Family(
        "l4lb_pool_sticky_entries", "gauge", "Clients remembered. This and the other sticky metrics only with sticky."
    )
    for labels, statistics in labelled.items():
        entries.add(labels, statistics.entries)
    yield entries
    yield from _stat_families("l4lb_pool_sticky", STICKY_STATS, labelled.items())


def _pool_families(status: Status) -> Iterator[Family]:
    panic = Family("l4lb_pool_panic", "gauge", "1 while too few backends are usable and health is ignored.")
    held = Family(
        "l4lb_pool_held_backends",
        "gauge",
        "Better backends that are usable and held back by failback. Only with tiers or an order.",
    )
    withheld = Family(
        "l4lb_pool_ejections_withheld",
        "counter",
        "Backends that failed clients but were not ejected, because too many were.",
    )
    current = Family(
        "l4lb_pool_up_to_date",
        "gauge",
        "0 while the pool keeps what it had because something new in it cannot be used; the status says why.",
    )
    faults = Family("l4lb_pool_faults", "counter", "Attempts to use something new in the pool that failed.")
    closed = Family("l4lb_closed", "counter", "Sessions that ended, by reason and HAProxy termination code.")
    pinned = Family(
        "l4lb_pool_pinned",
        "counter",
        "Sessions that keep their backend for good, by reason. Only with protocol http1.",
    )
    for name, pool in status.pools.items():
        panic.add(label_text(pool=name), int(pool.panic))
        current.add(label_text(pool=name), int(pool.fault.message is None))
        faults.add(label_text(pool=name), pool.fault.total)
        if pool.failover is not None:
            held.add(label_text(pool=name), len(pool.failover.held))
        withheld.add(label_text(pool=name), pool.ejections_withheld_total)
        for (reason, code), count in pool.statistics.closed_total.items():
            closed.add(label_text(pool=name, reason=reason, code=code), count)
    followed = [(label_text(pool=name), status.pools[name].statistics) for name in _followed(status)]
    for labels, statistics in followed:
        for reason, count in statistics.pinned_total.items():
            pinned.add(f"{labels},{label_text(reason=reason)}", count)
    yield from (panic, current, faults, held, withheld, closed, pinned)
    pools = [(label_text(pool=name), pool.statistics) for name, pool in status.pools.items()]
    yield from _stat_families("l4lb_pool", POOL_STATS, pools, followed)
    yield from _sticky_families(status)


def _discovery_families(status: Status) -> Iterator[Family]:
    age = Family(
        "l4lb_discovery_age_seconds",
        "gauge",
        "Time since the source last answered, unchanged answers included. Absent before its first answer.",
    )
    working = Family("l4lb_discovery_working", "gauge", "1 while the source answers, 0 after it failed.")
    endpoints = Family(
        "l4lb_discovery_endpoints", "gauge", "Backends discovered and accepted, those kept for now included."
    )
    held = Family(
        "l4lb_discovery_held_endpoints", "gauge", "Accepted backends missing from the last answer and kept for now."
    )
    updates = Family("l4lb_discovery_updates", "counter", "Answers of the source by result: success, failure.")
    unusable = Family(
        "l4lb_discovery_unusable_endpoints",
        "gauge",
        "Entries of the last answer that cannot be backends, such as an address without a port.",
    )
    left_out = Family("l4lb_discovery_unusable", "counter", "Entries of all answers that cannot be backends.")
    for name, pool in status.pools.items():
        if (discovery := pool.discovery) is None:
            continue
        labels = label_text(pool=name, source=discovery.source)
        if discovery.age is not None:
            age.add(labels, discovery.age)
        working.add(labels, int(discovery.working))
        endpoints.add(labels, discovery.endpoints)
        held.add(labels, discovery.held)
        unusable.add(labels, discovery.unusable)
        left_out.add(labels, discovery.unusable_total)
        for result, count in discovery.updates_total.items():
            updates.add(f"{labels},{label_text(result=result)}", count)
    yield from (age, working, endpoints, held, unusable, left_out, updates)


def _limit_families(status: Status) -> Iterator[Family]:
    """The limits in force. What has none has no sample, so that no alert on a share of it can fire."""
    backends = [
        (label_text(pool=pool_name, backend=name), backend)
        for pool_name, pool in status.pools.items()
        for name, backend in pool.backends.items()
    ]
    pools = [(label_text(pool=name), pool) for name, pool in status.pools.items()]
    listeners = [(label_text(listener=name), listener) for name, listener in status.listeners.items()]
    text = "Sessions that the whole process may hold."
    yield _single("process_connections_limit", "gauge", text, status.max_connections)
    yield _limits(
        "listener_connections",
        "Client connections that the listener may have. A limit that is not set has no sample.",
        listeners,
        lambda item: item.max_connections,
    )
    yield _limits(
        "backend_connections",
        "Connections that the backend may have, an agent's limit included.",
        backends,
        lambda item: item.max_connections,
    )
    yield _limits(
        "backend_busy",
        "Turns in flight beyond which the backend gets no more.",
        backends,
        lambda item: item.max_busy,
    )
    yield _limits("pool_queue", "Clients that may wait in the queue.", pools, lambda item: item.queue_size)
    yield _limits("pool_sticky_entries", "Clients that may be remembered.", pools, lambda item: item.sticky_entries)


def _limits(name: str, text: str, labelled: Collection[tuple[str, T]], read: Callable[[T], int | None]) -> Family:
    family = Family(f"l4lb_{name}_limit", "gauge", text)
    for labels, source in labelled:
        if (limit := read(source)) is not None:
            family.add(labels, limit)
    return family


class ProcessMetrics:
    """`process_*`: memory, CPU time, open files and start time of this process."""

    def __init__(self) -> None:
        self._collector = ProcessCollector(registry=CollectorRegistry())

    def families(self) -> Iterator[Family]:
        """Read them now. Walks /proc, so call it from a thread that may take a moment."""
        for metric in self._collector.collect():
            kind: Literal["counter", "gauge"] = "counter" if metric.type == "counter" else "gauge"
            family = Family(metric.name, kind, metric.documentation)
            for sample in metric.samples:
                family.add(label_text(**sample.labels), sample.value)
            yield family
