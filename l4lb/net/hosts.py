"""Reads /etc/hosts as the C library does, for names that the C library does not look up there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from ipaddress import ip_address

PATH = "/etc/hosts"

BYTES_MAX = 4 * 1024 * 1024
"""Lists of blocked names can be this large. The rest of a larger file is ignored."""


def addresses(name: str, path: str | None = None) -> list[str]:
    """The addresses of a name, in order. Empty if the name is not listed or the file cannot be read. Reads the file
    now."""
    wanted = name.removesuffix(".").lower()
    try:
        with open(path or PATH, encoding="utf-8", errors="replace") as file:
            text = file.read(BYTES_MAX)
    except OSError:
        return []
    return list(dict.fromkeys(address for address, names in _lines(text) if wanted in names))


def _lines(text: str) -> Iterator[tuple[str, list[str]]]:
    for line in text.splitlines():
        address, *names = line.partition("#")[0].lower().split() or [""]
        with contextlib.suppress(ValueError):
            yield str(ip_address(address)), names
