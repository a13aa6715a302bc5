"""Networks selected by database records: `country:DE`, `continent:EU`, `asn:64500`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_FORMS: Mapping[str, tuple[str, str]] = {
    "asn": (r"[1-9][0-9]{0,9}", "the number of an autonomous system, such as asn:64500"),
    "country": (r"[A-Z]{2}", "an ISO 3166 code in capitals, such as country:DE"),
    "continent": (r"AF|AN|AS|EU|NA|OC|SA", "one of AF, AN, AS, EU, NA, OC and SA"),
}


def _part(record: Mapping[str, Any], name: str, key: str) -> object:
    part = record.get(name)
    return part.get(key) if isinstance(part, dict) else None


_READ: Mapping[str, Callable[[Mapping[str, Any]], object]] = {
    "asn": lambda record: record.get("autonomous_system_number"),
    "country": lambda record: _part(record, "country", "iso_code"),
    "continent": lambda record: _part(record, "continent", "code"),
}
"""Narrowest first: the first kind that matches a network counts."""

PATTERN = "|".join(f"{kind}:({form})" for kind, (form, _) in _FORMS.items())


@dataclass(frozen=True, slots=True)
class Selector:
    kind: str
    value: str

    @classmethod
    def parse(cls, text: str) -> Selector:
        """ValueError says in one sentence what is wrong."""
        kind, _, value = text.partition(":")
        form, help_text = _FORMS[kind]
        if not re.fullmatch(form, value, re.ASCII):
            raise ValueError(f"{kind}: takes {help_text}")
        return cls(kind, value)

    def __str__(self) -> str:
        return f"{self.kind}:{self.value}"


def is_selector(text: str) -> bool:
    """Whether `text` is meant as a selector. The text of a network never has such a prefix."""
    return text.partition(":")[0] in _FORMS


class Chooser:
    """Finds the zone of a record and remembers which selectors have matched."""

    def __init__(self, zones: Iterable[tuple[Selector, int]]) -> None:
        wanted: dict[str, dict[str, int]] = {}
        for selector, zone in zones:
            wanted.setdefault(selector.kind, {})[selector.value] = zone
        self._wanted = [(kind, read, wanted[kind]) for kind, read in _READ.items() if kind in wanted]
        self._found: set[tuple[str, str]] = set()

    def zone(self, record: Mapping[str, Any]) -> int:
        """The zone of the narrowest selector that matches; 0 if none does."""
        zone = 0
        for kind, read, zones in self._wanted:
            value = str(read(record))
            if value in zones:
                self._found.add((kind, value))
                zone = zone or zones[value]
        return zone

    def idle(self) -> list[Selector]:
        """Selectors that no record has matched."""
        wanted = ((kind, value) for kind, _, zones in self._wanted for value in zones)
        return [Selector(kind, value) for kind, value in wanted if (kind, value) not in self._found]
