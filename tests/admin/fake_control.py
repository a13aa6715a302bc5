"""A control plane that only remembers what it was asked, and the values that tests describe a running l4lb with."""

from __future__ import annotations

import asyncio
import dataclasses
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path as FilePath

from l4lb.admin.server import AdminServer
from l4lb.engine import BACKEND_STATS, POOL_STATS, WORKER_STATS
from l4lb.engine.api import EventKind, Path, Phase, SessionRecord, SessionState
from l4lb.engine.statistics import (
    STATUS_CLASSES,
    BackendStatistics,
    Histogram,
    ListenerStatistics,
    PoolStatistics,
    StickyStatistics,
    WorkerStatistics,
)
from l4lb.errors import ControlError
from l4lb.status import (
    AdminState,
    AgentStatus,
    BackendStatus,
    ConfigStatus,
    DiscoveryStatus,
    EjectionStatus,
    FailoverStatus,
    HealthState,
    ListenerStatus,
    LoadStatus,
    Origin,
    PoolStatus,
    ReloadOutcome,
    Session,
    Settings,
    Status,
    UpgradeOutcome,
)
from tests.helpers.fake_engine import zeros

BOUNDS = tuple(us / 1e6 for us in (100, 250, 500, 1000, 10_000, 1_000_000, 300_000_000))


def histogram(*counts: int, total: float = 0.0) -> Histogram:
    """A histogram with these counts in its first buckets."""
    return Histogram(BOUNDS, counts + (0,) * (len(BOUNDS) + 1 - len(counts)), total)


def backend_statistics(**values: object) -> BackendStatistics:
    """Zero, but for `values`."""
    responses = dict.fromkeys(STATUS_CLASSES, 0)
    return BackendStatistics(**zeros(BACKEND_STATS, histogram(), **{"responses_total": responses} | values))


def backend_status(**values: object) -> BackendStatus:
    fields: dict[str, object] = {
        "address": "127.0.0.1:8001",
        "tier": 0,
        "zone": None,
        "state": AdminState.READY,
        "health": HealthState.UP,
        "health_message": "200 in 3 ms",
        "health_checks_total": {"success": 7, "failure": 1},
        "weight": 1,
        "effective_weight": 1,
        "statistics": backend_statistics(),
    }
    return BackendStatus(**(fields | values))  # type: ignore[arg-type]


def worker_statistics() -> WorkerStatistics:
    return WorkerStatistics(**zeros(WORKER_STATS))


def sticky_statistics() -> StickyStatistics:
    return StickyStatistics(entries=7, hits_total=6, misses_total=5, moved_total=4, passed_total=3)


def pool_status(
    backends: Mapping[str, BackendStatus],
    sticky: StickyStatistics | None = None,
    *,
    panic: bool = False,
    queued: int = 0,
    scale_to_zero: bool = False,
    protocol: str = "tcp",
) -> PoolStatus:
    closed = {("normal", "--"): 5, ("connect_failed", "SC"): 2}
    return PoolStatus(
        balance="round_robin",
        protocol=protocol,
        panic=panic,
        backends=backends,
        statistics=PoolStatistics(
            sticky=sticky,
            closed_total=closed,
            pinned_total={"upgrade": 3},
            **zeros(POOL_STATS, histogram(), queued=queued),
        ),
        scale_to_zero=scale_to_zero,
    )


def make_status(pools: Mapping[str, PoolStatus] | None = None, **values: object) -> Status:
    fields: dict[str, object] = {
        "version": "1.2.3",
        "pid": 4711,
        "uptime_seconds": 12.5,
        "stopping": False,
        "max_connections": 1000,
        "config": ConfigStatus(
            file="/etc/l4lb/l4lb.yaml",
            loaded_at=1_700_000_000.25,
            last_reload_ok=True,
            last_reload_at=1_700_000_001.5,
            last_error=None,
            restart_notes=("process.workers: 3 takes effect at the next start",),
        ),
        "listeners": {
            "front": ListenerStatus(
                bind=("127.0.0.1:8000",),
                pool="llama",
                statistics=ListenerStatistics(connections=3, connections_total=9, rejected_total={"denied": 2}),
                max_connections=20,
            )
        },
        "pools": {"llama": pool_status({"a": backend_status(), "unix:/run/b.sock": backend_status()})}
        if pools is None
        else pools,
        "workers": (worker_statistics(), worker_statistics()),
    }
    return Status(**(fields | values))  # type: ignore[arg-type]


def exhaustive_status() -> Status:
    """With everything that there may be, so that every metric has a sample."""
    source = DiscoveryStatus(
        source="dns", working=True, message="", age=1.5, endpoints=3, held=1, updates_total={"success": 1}
    )
    load = LoadStatus(
        utilisation=0.4, readings={}, age=0.25, stale=False, factor=0.6, message="", scrapes_total={"success": 7}
    )
    backend = backend_status(
        load=load,
        agent=AgentStatus(message="up", checks_total={"success": 3}),
        ejection=EjectionStatus(cause=None, left=None, ejections_total={"failures": 0}),
        max_connections=8,
        max_busy=4,
    )
    failover = FailoverStatus(current="tier 1", held=("tier 0",), message="failback is off")
    pool = dataclasses.replace(
        pool_status({"a": backend}, sticky_statistics(), protocol="http1"),
        discovery=source,
        failover=failover,
        queue_size=100,
        sticky_entries=1000,
    )
    return make_status({"llama": pool})


def make_session(session: int = 81_604_378_625, **values: object) -> Session:
    names = {key: values.pop(key) for key in ("listener", "pool", "backend") if key in values}
    fields: dict[str, object] = {
        "id": session,
        "event": EventKind.CLOSE,
        "listener": 0,
        "pool": 0,
        "backend": 0,
        "client": "192.0.2.7",
        "client_port": 40_001,
        "state": SessionState.RELAY,
        "close": ("normal", "--"),
        "path": Path.SPLICE,
        "retries": 0,
        "phase": Phase.QUIET,
        "pin": None,
        "status": None,
        "turns": 1,
        "moves": 0,
        "started": 1_700_000_000.25,
        "duration": 1.5,
        "queue": 0.0,
        "connect": 0.002,
        "first_byte": 0.25,
        "bytes_in": 120,
        "bytes_out": 4096,
        "idle": 0.5,
    }
    record = SessionRecord(**(fields | values))  # type: ignore[arg-type]
    return Session(record=record, **({"listener": "front", "pool": "llama", "backend": "a"} | names))  # type: ignore[arg-type]


class FakeControl:
    """Satisfies `Control`. `changes` holds the calls that change something."""

    def __init__(self, status: Status | None = None) -> None:
        self.current = make_status() if status is None else status
        self.live: list[Session] = [make_session()]
        self.outcome = ReloadOutcome(applied=True)
        self.upgraded = UpgradeOutcome(pid=4712, version="1.2.4")
        self.changes: list[tuple[object, ...]] = []
        self.failure: Exception | None = None
        self.connections_left: list[int] = []

    def status(self) -> Status:
        if self.failure is not None:
            raise self.failure
        if self.connections_left:
            self._set("llama", "a", statistics=backend_statistics(connections=self.connections_left.pop(0)))
        return self.current

    @property
    def pid(self) -> int:
        return self.current.pid

    def backend(self, pool: str, backend: str) -> BackendStatus:
        pools = self.status().pools
        if pool not in pools or backend not in pools[pool].backends:
            raise ControlError(f"there is no backend '{backend}' in pool '{pool}'", 404)
        return pools[pool].backends[backend]

    async def sessions(self) -> list[Session]:
        return self.live

    async def kill_session(self, session: int) -> None:
        self.changes.append(("kill", session))
        if all(item.record.id != session for item in self.live):
            raise ControlError(f"there is no session {session}", 404)

    async def kill_sessions(self, pool: str, backend: str) -> int:
        if pool not in self.current.pools or backend not in self.current.pools[pool].backends:
            raise ControlError(f"there is no backend '{backend}' in pool '{pool}'", 404)
        self.changes.append(("kill all", pool, backend))
        killed, self.connections_left = self.connections_left[:1], []
        self._set(pool, backend, statistics=backend_statistics())
        return sum(killed)

    def set_backend(
        self, pool: str, backend: str, *, state: AdminState | None = None, weight: int | None = None
    ) -> None:
        if pool not in self.current.pools or backend not in self.current.pools[pool].backends:
            raise ControlError(f"there is no backend '{backend}' in pool '{pool}'", 404)
        self.changes.append(("set", pool, backend, state, weight))
        self._set(
            pool,
            backend,
            **({} if state is None else {"state": state}) | ({} if weight is None else {"weight": weight}),
        )

    def written(self) -> Mapping[str, Sequence[Settings]]:
        return {
            pool: [{"name": name, "address": backend.address} for name, backend in status.backends.items()]
            for pool, status in self.current.pools.items()
        }

    async def add_backend(self, pool: str, settings: Settings) -> str:
        if pool not in self.current.pools:
            raise ControlError(f"there is no pool '{pool}'", 404)
        self.changes.append(("add", pool, dict(settings)))
        name = str(settings.get("name", settings["address"]))
        backends = {**self.current.pools[pool].backends, name: backend_status(origin=Origin.API)}
        pools = {**self.current.pools, pool: dataclasses.replace(self.current.pools[pool], backends=backends)}
        self.current = dataclasses.replace(self.current, pools=pools)
        return name

    async def change_backend(
        self, pool: str, backend: str, settings: Settings, *, state: AdminState | None = None, weight: int | None = None
    ) -> None:
        self.set_backend(pool, backend, state=state, weight=weight)
        self.changes[-1] = ("change", pool, backend, dict(settings), state, weight)

    async def remove_backend(self, pool: str, backend: str, *, force: bool = False) -> int:
        if pool not in self.current.pools or backend not in self.current.pools[pool].backends:
            raise ControlError(f"there is no backend '{backend}' in pool '{pool}'", 404)
        self.changes.append(("remove", pool, backend, force))
        return self.current.pools[pool].backends[backend].statistics.connections

    def _set(self, pool: str, backend: str, **values: object) -> None:
        backends = dict(self.current.pools[pool].backends)
        backends[backend] = dataclasses.replace(backends[backend], **values)  # type: ignore[arg-type]
        pools = {**self.current.pools, pool: dataclasses.replace(self.current.pools[pool], backends=backends)}
        self.current = dataclasses.replace(self.current, pools=pools)

    async def reload(self) -> ReloadOutcome:
        self.changes.append(("reload",))
        return self.outcome

    async def upgrade(self) -> UpgradeOutcome:
        if self.failure is not None:
            raise self.failure
        self.changes.append(("upgrade",))
        return self.upgraded


@contextmanager
def admin_in_thread(control: FakeControl) -> Iterator[str]:
    """A real AdminServer on a loop in a thread; the path of its socket."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(FilePath(folder, "admin.sock"))
        started = threading.Event()
        loop = asyncio.new_event_loop()
        stopping = asyncio.Event()

        async def serve() -> None:
            server = AdminServer(control, path, None)
            await server.start()
            started.set()
            await stopping.wait()
            await server.close()

        thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
        thread.start()
        try:
            assert started.wait(10), "the admin server did not start"
            yield path
        finally:
            loop.call_soon_threadsafe(stopping.set)
            thread.join(10)
            loop.close()
