"""Regular expressions of checks: each has to be found in a text, or with `!` in front must not be."""

from __future__ import annotations

from collections.abc import Iterable

import regex

from l4lb.words import quoted

PATTERN_TIMEOUT = 0.05
"""Seconds that a pattern may take: some take for ever on some texts."""


class TooSlow(Exception):
    """A pattern took too long. `str()` says which."""


def objection(patterns: Iterable[str], data: bytes | str, what: str) -> str | None:
    """Why the data are not as they should be, None if they are. TooSlow when that cannot be said in time."""
    text = data if isinstance(data, str) else data.decode("utf-8", "replace")
    for pattern in patterns:
        unwanted = pattern.startswith("!")
        if is_found(pattern.removeprefix("!"), text) is unwanted:
            verb = "matches" if unwanted else "does not match"
            return f"{what} {verb} {quoted(pattern.encode())}: {quoted(text.encode())}"
    return None


def is_found(pattern: str, text: str) -> bool:
    try:
        return regex.search(pattern, text, timeout=PATTERN_TIMEOUT) is not None
    except TimeoutError:
        shown = quoted(pattern.encode())
        raise TooSlow(f"the pattern {shown} took longer than {PATTERN_TIMEOUT * 1000:g} ms") from None
