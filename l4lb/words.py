"""Words for people, the same in logs, tables and messages."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """`1 connection`, `2 connections`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def lasting(seconds: float) -> str:
    """The two largest units: `4.2s`, `3m 20s`, `2d 4h`."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    for unit, below, name, below_name in ((86400, 3600, "d", "h"), (3600, 60, "h", "m"), (60, 1, "m", "s")):
        if whole >= unit:
            return f"{whole // unit}{name} {whole % unit // below}{below_name}"
    raise AssertionError(seconds)
