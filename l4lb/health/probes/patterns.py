"""Regular expressions of checks: each must be found in a text, or with `!` in front must not be found."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import regex

from l4lb.base.text import quoted

PATTERN_TIMEOUT = 0.05
"""Seconds that a pattern may take: some take for ever on some texts."""


INLINE_TIMEOUT = 0.002
"""Seconds of that on the event loop."""


class TooSlow(Exception):
    """A pattern took too long. `str()` names it."""


async def objection(patterns: Iterable[str], data: bytes | str, what: str) -> str | None:
    """Why the data is not as it should be, None if it is. TooSlow if a pattern takes too long."""
    text = data if isinstance(data, str) else data.decode("utf-8", "replace")
    for pattern in patterns:
        unwanted = pattern.startswith("!")
        if await is_found(pattern.removeprefix("!"), text) is unwanted:
            verb = "matches" if unwanted else "does not match"
            return f"{what} {verb} {quoted(pattern.encode())}: {quoted(text.encode())}"
    return None


async def is_found(pattern: str, text: str) -> bool:
    """Whether the pattern matches somewhere in the text. TooSlow if it takes too long.

    A slow pattern continues on a thread, without holding the GIL.
    """
    try:
        return regex.search(pattern, text, timeout=INLINE_TIMEOUT) is not None
    except TimeoutError:
        pass
    try:
        return await asyncio.to_thread(_search, pattern, text)
    except TimeoutError:
        shown = quoted(pattern.encode())
        raise TooSlow(f"the pattern {shown} took longer than {PATTERN_TIMEOUT * 1000:g} ms") from None


def _search(pattern: str, text: str) -> bool:
    return regex.search(pattern, text, timeout=PATTERN_TIMEOUT, concurrent=True) is not None
