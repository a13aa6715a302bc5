"""Generated parts of pages: finding them, and putting new text between their marks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

_PART = re.compile(r"(?m)^(<!-- begin ([\w.]+) -->\n).*?^(<!-- end -->)$", re.DOTALL)


def filled(text: str, make: Callable[[str], str]) -> str:
    """The text of a page with each generated part made anew by its name."""
    return _PART.sub(lambda found: f"{found[1]}\n{make(found[2]).strip()}\n\n{found[3]}", text)


def names(text: str) -> list[str]:
    """The names of the generated parts of a page."""
    return [found[2] for found in _PART.finditer(text)]


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    head = list(header)
    lines = [f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in (head, *rows)]
    return "\n".join([lines[0], f"|{'---|' * len(head)}", *lines[1:]])
