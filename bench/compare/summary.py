"""Medians of the measurements with their spread over the rounds, and ratios to HAProxy within a round. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from bench.compare.rounds import Measurement
from bench.shared.spread import Spread

BASE = "haproxy"


@dataclass(frozen=True, slots=True)
class Summary:
    """A metric of a subject in a scenario. `ratio` is the ratio to HAProxy, below 1 is less; None without HAProxy."""

    value: Spread
    ratio: Spread | None


class Results:
    """Measurements by scenario, subject and metric."""

    def __init__(self, measurements: Iterable[Measurement]) -> None:
        self._rounds: dict[tuple[str, str], dict[int, Measurement]] = {}
        for measurement in measurements:
            self._rounds.setdefault((measurement.scenario, measurement.subject), {})[measurement.round] = measurement

    @property
    def scenarios(self) -> list[str]:
        return list(dict.fromkeys(scenario for scenario, _ in self._rounds))

    @property
    def subjects(self) -> list[str]:
        return list(dict.fromkeys(subject for _, subject in self._rounds))

    def errors(self, scenario: str, subject: str) -> int:
        return sum(measurement.errors for measurement in self._rounds.get((scenario, subject), {}).values())

    def summary(self, scenario: str, subject: str, metric: str) -> Summary | None:
        """None where the subject has no such metric."""
        values = self._values(scenario, subject, metric)
        spread = Spread.of(list(values.values()))
        if spread is None:
            return None
        base = self._values(scenario, BASE, metric)
        ratios = [value / base[number] for number, value in values.items() if base.get(number, 0) > 0]
        return Summary(spread, Spread.of(ratios))

    def foreign_share(self) -> float:
        """The median share of the CPU time that other programs took."""
        shares = [m.metrics["foreign_share"] for rounds in self._rounds.values() for m in rounds.values()]
        return median(shares)

    def _values(self, scenario: str, subject: str, metric: str) -> dict[int, float]:
        rounds = self._rounds.get((scenario, subject), {})
        return {number: m.metrics[metric] for number, m in rounds.items() if metric in m.metrics}
