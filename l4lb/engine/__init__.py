"""The data plane: `NativeEngine` forwards in C threads what `l4lb.engine.api` describes."""

from pathlib import Path

from l4lb.errors import NotBuiltError

try:
    from l4lb.engine._native import (
        BACKEND_STATS,
        LISTENER_STATS,
        POOL_STATS,
        STICKY_STATS,
        WORKER_STATS,
        NativeEngine,
    )
except ModuleNotFoundError as error:
    if error.name != "l4lb.engine._native":
        raise
    raise NotBuiltError(Path(__file__).parents[2]) from None

__all__ = ["BACKEND_STATS", "LISTENER_STATS", "POOL_STATS", "STICKY_STATS", "WORKER_STATS", "NativeEngine"]
