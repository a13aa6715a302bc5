"""Words for people, the same in logs, tables and messages."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """`1 connection`, `2 connections`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
