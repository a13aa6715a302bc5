"""What a running balancer says of itself: frozen dataclasses and enums, read-only for the program that gets them."""

from __future__ import annotations

from l4lb.engine.api import EventKind, Path, Phase, SessionRecord, SessionState
from l4lb.engine.statistics import (
    BackendStatistics,
    Histogram,
    ListenerStatistics,
    PoolStatistics,
    StickyStatistics,
    WorkerStatistics,
)
from l4lb.status import (
    AdminState,
    AgentStatus,
    BackendStatus,
    ConfigStatus,
    DiscoveryStatus,
    EjectionStatus,
    HealthState,
    ListenerStatus,
    LoadStatus,
    PoolStatus,
    Session,
    ShutdownStatus,
    Status,
)

__all__ = [
    "AdminState",
    "AgentStatus",
    "BackendStatistics",
    "BackendStatus",
    "ConfigStatus",
    "DiscoveryStatus",
    "EjectionStatus",
    "EventKind",
    "HealthState",
    "Histogram",
    "ListenerStatistics",
    "ListenerStatus",
    "LoadStatus",
    "Path",
    "Phase",
    "PoolStatistics",
    "PoolStatus",
    "Session",
    "SessionRecord",
    "SessionState",
    "ShutdownStatus",
    "Status",
    "StickyStatistics",
    "WorkerStatistics",
]
