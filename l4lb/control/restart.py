"""What a reload cannot change, said in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from l4lb.config import Config

_KEYS = (
    ("process", "workers"),
    ("process", "max_connections"),
    ("process", "max_pipes"),
    ("process", "user"),
    ("admin", "socket"),
    ("admin", "listen"),
)


def restart_notes(started_with: Config, wanted: Config) -> Iterator[str]:
    """A sentence for each key whose new value only counts after a restart."""
    for section, key in _KEYS:
        running = getattr(getattr(started_with, section), key)
        value = getattr(getattr(wanted, section), key)
        if value != running:
            yield f"{section}.{key}: {_shown(value)} takes effect at the next start; {_shown(running)} stays until then"


def _shown(value: object) -> str:
    return "unset" if value is None else str(value)
