"""Text for people, the same in logs, tables and messages."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import islice

MESSAGE_MAX = 1024
"""Maximum length in characters of a message that may quote foreign text: in the status, the log and replies."""

QUOTED_MAX = 60
"""Characters of a value, or bytes of a peer, that a message shows."""


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


def quoted(value: object, most: int = QUOTED_MAX) -> str:
    """A value, or bytes of a peer, in quotes for a message: printable, short, and cheap even for a huge value."""
    if isinstance(value, bytes):
        # An escaped byte takes up to four characters.
        text, is_cut, most = repr(value[:most])[2:-1], len(value) > most, 2 * most
    else:
        text = value[: most + 1] if isinstance(value, str) else _beginning(value, most)
        text, is_cut = text if text.isprintable() else repr(text)[1:-1], False
    return f"'{text[:most]}…'" if is_cut or len(text) > most else f"'{text}'"


def _beginning(value: object, most: int, depth: int = 3) -> str:
    """The beginning of the value as text, without a look at all of a large or deep value."""
    if isinstance(value, str | bytes):
        return repr(value[: most + 1])
    if isinstance(value, bool):
        return str(value).lower()  # as in YAML and JSON
    if isinstance(value, int) and value.bit_length() > 4 * most:
        return "a very large number"
    if isinstance(value, Mapping):
        if depth == 0:
            return "{…}"
        items = islice(value.items(), most // 2)
        pairs = (f"{_beginning(key, most, 0)}: {_beginning(one, most, depth - 1)}" for key, one in items)
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_beginning(one, most, depth - 1) for one in value[: most // 2])}]" if depth else "[…]"
    return repr(value)


def reason(error: BaseException) -> str:
    """Why something failed, without the address, which the reader knows from the context."""
    if isinstance(error, OSError) and error.errno and not isinstance(error, TimeoutError):
        return os.strerror(error.errno)
    return clipped(str(error)) or type(error).__name__
