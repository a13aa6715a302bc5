"""What the admin server, the metrics and the tests may ask of the running control plane.

`Daemon` (`l4lb.process.daemon`) satisfies `Control`. Every method runs on the event loop.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from l4lb.engine.api import SessionRecord
from l4lb.engine.statistics import (
    NO_HISTOGRAM,
    BackendStatistics,
    Histogram,
    ListenerStatistics,
    PoolStatistics,
    WorkerStatistics,
)

Settings: TypeAlias = Mapping[str, Any]
"""Keys of a backend and their values, as in the file."""


class AdminState(enum.StrEnum):
    """What the operator wants of a backend."""

    READY = "ready"
    DRAIN = "drain"
    MAINT = "maint"


class HealthState(enum.StrEnum):
    """What the checks say of a backend; `none` when there are no checks."""

    UP = "up"
    DOWN = "down"
    PENDING = "pending"
    NONE = "none"


class Origin(enum.StrEnum):
    """What a backend comes from: the configuration file, a change at run time, or the source of its pool."""

    FILE = "file"
    API = "api"
    DISCOVERY = "discovery"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadStatus:
    """What a backend said of its load. `utilisation` is 1 when something is used up; `age` is seconds. Both are None
    when it never said anything. `factor` is what load and slow start make of the weight."""

    utilisation: float | None
    readings: Mapping[str, float]
    age: float | None
    stale: bool
    factor: float
    message: str
    scrapes_total: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStatus:
    """What the agent of a backend said last, or why it said nothing."""

    message: str
    checks_total: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class EjectionStatus:
    """Whether clients' connections have led to an ejection: its cause, and the seconds left of it; else None."""

    cause: str | None
    left: float | None
    ejections_total: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendStatus:
    """`effective_weight` is what balancing uses now: 0 when the backend takes no new session, less than `weight` and
    perhaps no whole number while load, an agent or slow start hold it back. `flaps` is how often in a row it went down
    soon after it came up, as far as that counts. `cold_left` are the responses until it is no longer cold. `stalled`
    says that its work stands still. `max_connections` and `max_busy` are the limits in force, as its agent has them;
    None without one. `max_busy_message` says why a limit that is learnt is what it is.
    `changed` are the keys that were given other values at run time than the file has. A `health_message` that quotes
    a program or a script is an `output`: not for every client."""

    address: str
    tier: int
    zone: str | None
    state: AdminState
    health: HealthState
    health_message: str
    health_checks_total: Mapping[str, int]
    weight: int
    effective_weight: float
    statistics: BackendStatistics
    load: LoadStatus | None = None
    agent: AgentStatus | None = None
    ejection: EjectionStatus | None = None
    flaps: int = 0
    cold_left: int = 0
    stalled: bool = False
    max_connections: int | None = None
    max_busy: int | None = None
    max_busy_message: str | None = None
    origin: Origin = Origin.FILE
    changed: Sequence[str] = ()
    output: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FailoverStatus:
    """Of a pool with tiers, or an order of backends: which one is `current`, None if none is usable, and why. `held`
    are better backends that are usable and not used, as the pool does not go back to them yet."""

    current: str | None
    held: Sequence[str]
    message: str


@dataclass(frozen=True, slots=True)
class PoolFaultStatus:
    """Why a pool goes on with what it had, because something new of it cannot be used; None if it is up to date.
    `total` counts how often that was tried in vain."""

    message: str | None = None
    total: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryStatus:
    """How a source of backends does. `age` is the seconds since it last said what there is, None if it never did.

    `held` of the `endpoints` are missing in its last answer, which is not believed yet. `unusable` is how many its last
    answer has beside them that cannot be used, `unusable_total` those of all answers. `updates_total` counts answers by
    `success` and `failure`.
    """

    source: str
    working: bool
    message: str
    age: float | None
    endpoints: int
    held: int
    updates_total: Mapping[str, int]
    unusable: int = 0
    unusable_total: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStatus:
    """`panic` while so few backends are usable that their health is ignored. `scale_to_zero`: it is no fault if
    none is. `ejections_withheld_total` counts backends that should have been ejected, but too many were. `queue_size`
    and `sticky_entries` are how many clients may wait, and be remembered; None where none do. `removed` are backends of
    the file that were removed at run time."""

    balance: str
    protocol: str
    panic: bool
    backends: Mapping[str, BackendStatus]
    statistics: PoolStatistics
    scale_to_zero: bool = False
    ejections_withheld_total: int = 0
    discovery: DiscoveryStatus | None = None
    queue_size: int | None = None
    sticky_entries: int | None = None
    failover: FailoverStatus | None = None
    removed: Sequence[str] = ()
    fault: PoolFaultStatus = PoolFaultStatus()


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerStatus:
    """`bind` holds the addresses really bound: port 0 shows as the port the kernel chose. The `lost` ones are unix
    sockets that no client reaches, because their file is gone or another's. `max_connections` is None without a limit.
    """

    bind: Sequence[str]
    pool: str
    statistics: ListenerStatistics
    max_connections: int | None = None
    lost: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigStatus:
    """Times are seconds since the epoch. `restart_notes` say what of the file only counts after a restart."""

    file: str
    loaded_at: float
    last_reload_ok: bool
    last_reload_at: float
    last_error: str | None
    restart_notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ShutdownStatus:
    """How far a stop is. `age` is the seconds since it began, `left` those until the rest is closed, None if that may
    take for ever; `busy` counts the sessions in a turn."""

    age: float
    left: float | None
    sessions: int
    busy: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeStatus:
    """Upgrades in place, those of predecessors included. `last_error` says why the last one failed; None if none has
    failed since one succeeded."""

    under_way: bool = False
    done_total: int = 0
    failed_total: int = 0
    last_error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """`max_connections` is what the whole process may hold, whatever its listeners may. It has `started` when clients
    are let in, after the first checks."""

    version: str
    pid: int
    uptime_seconds: float
    stopping: bool
    max_connections: int
    config: ConfigStatus
    listeners: Mapping[str, ListenerStatus]
    pools: Mapping[str, PoolStatus]
    workers: Sequence[WorkerStatistics]
    access_log_dropped_total: int = 0
    log_dropped_total: int = 0
    control_errors_total: int = 0
    loop_lag: Histogram = NO_HISTOGRAM
    shutdown: ShutdownStatus | None = None
    upgrade: UpgradeStatus = UpgradeStatus()
    started: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A live session with the names its slots stand for."""

    record: SessionRecord
    listener: str
    pool: str
    backend: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadOutcome:
    """`problems` are the sentences of a rejected reload; `notes` what was applied only in part (needs a restart)."""

    applied: bool
    problems: Sequence[str] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeOutcome:
    """`reason` says why the upgrade failed and nothing has changed; None if `pid`, which runs `version`, serves now."""

    reason: str | None = None
    pid: int | None = None
    version: str | None = None


class Control(Protocol):
    @property
    def pid(self) -> int:
        """The process that counts the sessions."""

    def status(self) -> Status:
        """Everything, read now."""

    def backend(self, pool: str, backend: str) -> BackendStatus:
        """One backend, read now. ControlError(404) for an unknown one."""

    async def sessions(self) -> list[Session]:
        """Every live session."""

    async def kill_session(self, session: int) -> None:
        """Close one session. ControlError(404) when it is gone."""

    async def kill_sessions(self, pool: str, backend: str) -> int:
        """Close every session of a backend; how many. ControlError(404) for an unknown one."""

    def set_backend(
        self, pool: str, backend: str, *, state: AdminState | None = None, weight: int | None = None
    ) -> None:
        """Change a backend at run time. ControlError(404) for an unknown one, (400) for a bad weight."""

    def written(self) -> Mapping[str, Sequence[Settings]]:
        """The backends of each pool as a file would have them, those of its source apart."""

    async def add_backend(self, pool: str, settings: Settings) -> str:
        """Add a backend with these keys of the file; its name. ControlError(404) for an unknown pool, (400) for bad
        keys, (409) for what cannot be beside the rest."""

    async def change_backend(
        self, pool: str, backend: str, settings: Settings, *, state: AdminState | None = None, weight: int | None = None
    ) -> None:
        """Give a backend other settings, and perhaps another state or weight: all of it or nothing. ControlError as
        `add_backend`, and (409) for one that a source has found."""

    async def remove_backend(self, pool: str, backend: str, *, force: bool = False) -> int:
        """Remove a backend. Its sessions go on as when the file no longer has it; with `force` they are closed. How
        many it had. ControlError as `change_backend`."""

    async def reload(self) -> ReloadOutcome:
        """Reload the file as SIGHUP does, and say how it went."""

    async def upgrade(self) -> UpgradeOutcome:
        """Hand over to a new process as SIGUSR2 does, and say how it went. ControlError(409) if it cannot begin now."""
