"""The data plane: `NativeEngine` forwards in C threads what `l4lb.engine.api` describes."""

from l4lb.engine._native import NativeEngine

__all__ = ["NativeEngine"]
