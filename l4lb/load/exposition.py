"""Reads the wanted gauges and counters out of a Prometheus exposition.

prometheus_client is not used here: it makes objects of every line, 95 ms for the 3,000 lines of a model server that is
scraped each second, and it rejects texts that some servers write. This parser searches for the wanted names alone, in a
hundredth of the time, and ignores everything else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from l4lb.config.fields.series import LABELS, Series, read_labels

LoadSignal = Literal["queue", "running", "kv", "gpu", "cpu", "memory"]
"""What a backend may report about its load. The first two are numbers of requests, the others shares of a total."""

Signal = LoadSignal | Literal["working", "done"]
"""Signals of progress as well: requests in progress, and the work done so far."""

SIGNALS: tuple[LoadSignal, ...] = get_args(LoadSignal)
COUNTS: frozenset[Signal] = frozenset({"queue", "running", "working"})
SUMS = COUNTS | {"done"}

Readings = Mapping[Signal, float]
"""The signals that were present and valid. A missing signal is unknown, not zero."""

SERIES_MAX = 10_000
"""Maximum lines of one exposition that start with a wanted name."""

COUNT_MAX = 1e6
SHARE_MAX = 2.0
"""Larger values are invalid: exporters write such numbers for what they cannot read."""

LINE_MAX = 64 * 1024
"""Characters of a line after its name, and of the labels on it. Longer lines are ignored."""

_REST_OF_LINE = re.compile(rf"(?:_total)?+(?:[ \t]*+({LABELS}))?+[ \t]++(\S{{1,64}}+)(?!\S)")
_BUCKET_LABELS = frozenset({"le", "quantile"})


class ExpositionError(ValueError):
    """The text has none of the wanted metrics."""


Wanted = Mapping[Signal, Sequence[Series]]
"""For each signal its possible series, because versions and servers use different names. The first one present counts.
"""


def read(text: str, wanted: Wanted) -> dict[Signal, float]:
    """The wanted signals: numbers and counters summed over all engines, shares as the maximum over all engines.

    If any series of a signal is invalid, the signal is left out, because the sum would be too small. ExpositionError if
    no wanted name is present.
    """
    if text.lstrip()[:1] == "<":
        raise ExpositionError("the response is HTML, not metrics")
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
        raise ExpositionError("none of the wanted metrics is present")
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
        # Some exporters write histogram buckets under the bare name.
        if not _BUCKET_LABELS & labels.keys() and all(labels.get(name) == wanted for name, wanted in series.labels)
    ]


def _combine(signal: Signal, values: Sequence[float]) -> float | None:
    most = math.inf if signal == "done" else COUNT_MAX if signal in COUNTS else SHARE_MAX
    if not values or not all(0 <= value <= most and value < math.inf for value in values):  # also rejects NaN
        return None
    return sum(values) if signal in SUMS else max(values)
