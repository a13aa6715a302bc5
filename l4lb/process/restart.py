"""Sentences about settings that a reload cannot change."""

from __future__ import annotations

from collections.abc import Iterator

from l4lb.config import Config

_SECTIONS = ("process", "admin")
"""Sections whose keys need a restart, except for these:"""

_RELOADABLE = frozenset({"process.drain_timeout"})


def restart_required(started_with: Config, wanted: Config) -> Iterator[str]:
    """A sentence for each key whose new value takes effect only after a restart."""
    for section in _SECTIONS:
        before, after = getattr(started_with, section), getattr(wanted, section)
        for key in type(before).model_fields:
            running, value = _shown(getattr(before, key)), _shown(getattr(after, key))
            if value != running and f"{section}.{key}" not in _RELOADABLE:
                yield f"{section}.{key}: {value} takes effect at the next start; {running} stays until then"


def _shown(value: object) -> str:
    return "unset" if value is None else str(value)
