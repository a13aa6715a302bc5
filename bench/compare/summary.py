"""Medians of the measurements with their spread over the rounds, and ratios within a round. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from bench.compare.rounds import Measurement
from bench.compare.scenarios import HTTP, TCP
from bench.shared.spread import Spread

BASES = {TCP: "haproxy", HTTP: "haproxy-http"}
"""What others are compared with, by the protocol of the load."""
PLAIN = "l4lb-tcp"
"""What following HTTP is compared with, too."""


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

    def measured(self, scenario: str) -> list[str]:
        """The subjects of a scenario."""
        return [subject for subject in self.subjects if (scenario, subject) in self._rounds]

    def errors(self, scenario: str, subject: str) -> int:
        return sum(measurement.errors for measurement in self._rounds.get((scenario, subject), {}).values())

    def spread(self, scenario: str, subject: str, metric: str) -> Spread | None:
        """None where the subject has no such metric."""
        return Spread.of(list(self._values(scenario, subject, metric).values()))

    def ratio(self, scenario: str, subject: str, metric: str, base: str) -> Spread | None:
        """To another subject within a round, below 1 is less. None where either has no such metric."""
        own, others = self._values(scenario, subject, metric), self._values(scenario, base, metric)
        return Spread.of([value / others[number] for number, value in own.items() if others.get(number, 0) > 0])

    def foreign_share(self) -> float:
        """The median share of the CPU time that other programs took."""
        shares = [m.metrics["foreign_share"] for rounds in self._rounds.values() for m in rounds.values()]
        return median(shares)

    def _values(self, scenario: str, subject: str, metric: str) -> dict[int, float]:
        rounds = self._rounds.get((scenario, subject), {})
        return {number: m.metrics[metric] for number, m in rounds.items() if metric in m.metrics}
