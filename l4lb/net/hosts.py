"""The file /etc/hosts, for names that the C library does not look up: their addresses, as it would read them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from ipaddress import ip_address

PATH = "/etc/hosts"

BYTES_MAX = 4 * 1024 * 1024
"""Lists of names to block are that large. The rest of a larger file is not read."""


def addresses(name: str, path: str | None = None) -> list[str]:
    """The addresses of a name, in order; none if it is not there, or the file cannot be read. Reads the file now."""
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
