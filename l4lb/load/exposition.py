"""What is read of a Prometheus exposition: a few gauges among thousands of lines.

A parser of its own, because the library's makes objects of every line, 95 ms for the 3,000 of a model server that is
asked each second, and because it refuses texts that some servers do write. Here a text is searched for the wanted names
alone, in a hundredth of the time; what else is in it, and in what shape, does not matter.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from l4lb.config.fields.series import LABELS, Series, read_labels

LoadSignal = Literal["queue", "running", "kv", "gpu", "cpu", "memory"]
"""What a backend may say of its load. The first two are numbers of requests, the others shares of what there is."""

Signal = LoadSignal | Literal["working", "done"]
"""And of its progress: requests that it works on, and what it has done so far."""

SIGNALS: tuple[LoadSignal, ...] = get_args(LoadSignal)
COUNTS: frozenset[Signal] = frozenset({"queue", "running", "working"})
SUMS = COUNTS | {"done"}

Readings = Mapping[Signal, float]
"""The signals that were there and made sense. One that is missing is unknown, not zero."""

SERIES_MAX = 10_000
"""Lines of one exposition that begin with a wanted name."""

COUNT_MAX = 1e6
SHARE_MAX = 2.0
"""No server has more requests, or is fuller, than this: exporters write such numbers for what they cannot read."""

LINE_MAX = 64 * 1024
"""Characters of one line behind its name, and the labels on it. Longer lines are passed over."""

_REST_OF_LINE = re.compile(rf"(?:_total)?+(?:[ \t]*+({LABELS}))?+[ \t]++(\S{{1,64}}+)(?!\S)")
_BUCKET_LABELS = frozenset({"le", "quantile"})


class ExpositionError(ValueError):
    """There is nothing to be read here."""


Wanted = Mapping[Signal, Sequence[Series]]
"""For each signal its series, by the names that versions and servers have given it. The first that is there counts."""


def read(text: str, wanted: Wanted) -> dict[Signal, float]:
    """The wanted signals: numbers and counters summed over all engines, shares as the fullest of them has it.

    Where one of the series of a signal makes no sense, neither does the signal: the rest would be too small. It is an
    ExpositionError if not a single one of the wanted names is there.
    """
    if text.lstrip()[:1] == "<":
        raise ExpositionError("the answer is a page, not metrics")
    found = _find(text, frozenset(series.name for chain in wanted.values() for series in chain))
    readings: dict[Signal, float] = {}
    present = False
    for signal, chain in wanted.items():
        values = next((values for series in chain if (values := _values(found.get(series.name, ()), series))), ())
        present = present or bool(values)
        value = _combine(signal, values)
        if value is not None:
            readings[signal] = value
    if not present:
        raise ExpositionError("none of the wanted metrics is there")
    return readings


_Found = tuple[dict[str, str], float]


def _find(text: str, names: frozenset[str]) -> dict[str, list[_Found]]:
    text = f"\n{text}"
    found: dict[str, list[_Found]] = {}
    lines = 0
    for name in names:
        at, needle = -1, f"\n{name}"
        while (at := text.find(needle, at + 1)) >= 0:
            lines += 1
            if lines > SERIES_MAX:
                raise ExpositionError(f"there are more than {SERIES_MAX} series of the wanted metrics")
            begin = at + len(needle)
            line = _REST_OF_LINE.match(text, begin, begin + LINE_MAX)
            if line is not None and (labels := read_labels(line[1])) is not None:
                found.setdefault(name, []).append((labels, _number(line[2])))
    return found


def _number(text: str) -> float:
    try:
        return math.nan if "_" in text else float(text)
    except ValueError:
        return math.nan


def _values(found: Sequence[_Found], series: Series) -> list[float]:
    return [
        value / 100 if series.percent else value
        for labels, value in found
        # Some write the buckets of a histogram under its bare name.
        if not _BUCKET_LABELS & labels.keys() and all(labels.get(name) == wanted for name, wanted in series.labels)
    ]


def _combine(signal: Signal, values: Sequence[float]) -> float | None:
    most = math.inf if signal == "done" else COUNT_MAX if signal in COUNTS else SHARE_MAX
    if not values or not all(0 <= value <= most and value < math.inf for value in values):  # which NaN is not either
        return None
    return sum(values) if signal in SUMS else max(values)
