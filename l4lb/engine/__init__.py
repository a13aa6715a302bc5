"""The data plane: `NativeEngine` forwards in C threads what `l4lb.engine.api` describes."""

from pathlib import Path

from l4lb.errors import NotBuiltError

try:
    from l4lb.engine._native import NativeEngine
except ModuleNotFoundError as error:
    if error.name != "l4lb.engine._native":
        raise
    raise NotBuiltError(Path(__file__).parents[2]) from None

__all__ = ["NativeEngine"]
