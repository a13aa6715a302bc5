"""Text for people, the same in logs, tables and messages."""

from __future__ import annotations

import os

MESSAGE_MAX = 1024
"""Maximum length in characters of a message that may quote foreign text: in the status, the log and replies."""

QUOTED_MAX = 60
"""Bytes from a peer that a message quotes."""


def plural(count: int, noun: str) -> str:
    """`1 connection`, `2 connections`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def short_duration(seconds: float) -> str:
    """The two largest units: `4.2s`, `3m 20s`, `2d 4h`."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    for unit, below, name, below_name in ((86400, 3600, "d", "h"), (3600, 60, "h", "m"), (60, 1, "m", "s")):
        if whole >= unit:
            return f"{whole // unit}{name} {whole % unit // below}{below_name}"
    raise AssertionError(seconds)


def clipped(text: str, most: int = MESSAGE_MAX) -> str:
    """A message in one line that can be shown anywhere: control characters are escaped, and long text is cut."""
    text = text if len(text) <= most else f"{text[: most - 1]}…"
    if not text.isprintable():
        text = "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def quoted(data: bytes, most: int = QUOTED_MAX) -> str:
    """Bytes from a peer as a short, printable quotation."""
    text = repr(data[:most])[2:-1]
    cut = len(data) > most or len(text) > 2 * most
    return f"'{text[: 2 * most]}'{'…' if cut else ''}"


def reason(error: BaseException) -> str:
    """Why something failed, without the address, which the reader knows from the context."""
    if isinstance(error, OSError) and error.errno and not isinstance(error, TimeoutError):
        return os.strerror(error.errno)
    return clipped(str(error)) or type(error).__name__
