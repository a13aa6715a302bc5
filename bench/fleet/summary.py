"""From what was seen to numbers: the metrics of a run, medians over seeds, ratios to the better rival. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from bench.fleet.client import Outcome
from bench.fleet.plan import Scenario
from bench.fleet.trial import Trial
from bench.fleet.truth import busy_error, turns_error
from bench.shared.spread import Spread

RIVALS = ("haproxy-http-leastconn", "nginx-http-least-conn")
"""What others are compared with: the better of them in each metric, with the same seed."""
SHARE_SECONDS = 5.0
FIRST_TOKEN_LIMIT = 1.0
GAP_LIMIT = 0.1
"""The service level: seconds to the first token, and between two tokens on average."""


@dataclass(frozen=True, slots=True)
class Run:
    """The metrics of a subject with a seed, by name (see README.md), in the units of the names.

    `share` is the added replica's share of the requests that arrived in each 5 s, over its share of the capacity.
    """

    scenario: str
    subject: str
    family: str
    seed: int
    metrics: dict[str, float]
    share: list[float] = field(default_factory=list)


def percentile(values: Sequence[float], point: float) -> float:
    """The least value that `point` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(point * len(ordered)))]


def meets_level(outcome: Outcome) -> bool:
    return (
        outcome.failure is None
        and outcome.first_token is not None
        and outcome.first_token <= FIRST_TOKEN_LIMIT
        and outcome.gap_mean <= GAP_LIMIT
    )


def metrics(scenario: Scenario, outcomes: Sequence[Outcome]) -> dict[str, float]:
    """What clients saw. A metric of a window is named after it, such as `stall.ttft_p99_s`."""
    found: dict[str, float] = {}
    for window in scenario.windows:
        chosen = [outcome for outcome in outcomes if window.begin <= outcome.at < window.end]
        if chosen:
            found |= {f"{window.name}.{name}": value for name, value in _of(chosen).items()}
    return found | _added(scenario, outcomes)


def knowledge(scenario: Scenario, trial: Trial) -> dict[str, float]:
    """How far the balancer knew what it was doing; nothing when it does not tell."""
    found: dict[str, float] = {}
    for window in scenario.windows:
        begin, end = trial.start + window.begin, trial.start + window.end
        error = busy_error([sample for sample in trial.samples if begin <= sample.at < end], trial.truths)
        if error is not None:
            found |= {f"{window.name}.busy_error": error.absolute, f"{window.name}.busy_bias": error.signed}
    turns = turns_error(trial.samples[-1], trial.truths) if trial.samples else None
    if turns is not None:
        found["turns_error"] = turns
    return found


def _of(outcomes: Sequence[Outcome]) -> dict[str, float]:
    first = [outcome.first_token for outcome in outcomes if outcome.first_token is not None]
    ends = [outcome.end for outcome in outcomes if outcome.failure is None and outcome.end is not None]
    gaps = [outcome.gap_mean for outcome in outcomes if outcome.failure is None]
    found = {
        "requests": float(len(outcomes)),
        "goodput": sum(map(meets_level, outcomes)) / len(outcomes),
        "failures": float(sum(outcome.failure is not None for outcome in outcomes)),
        "cut": float(sum(outcome.failure == "cut" for outcome in outcomes)),
        "reused": sum(outcome.reused for outcome in outcomes) / len(outcomes),
    }
    if first and ends:
        found |= {
            "ttft_p50_s": percentile(first, 0.5),
            "ttft_p99_s": percentile(first, 0.99),
            "e2e_p99_s": percentile(ends, 0.99),
            "gap_p99_s": percentile(gaps, 0.99),
        }
    return found


def _added(scenario: Scenario, outcomes: Sequence[Outcome]) -> dict[str, float]:
    line = scenario.timeline
    end = line.added + line.settle
    return {
        "added_share_5s": _share(scenario, outcomes, line.added, line.added + SHARE_SECONDS),
        "added_share_10s": _share(scenario, outcomes, line.added + SHARE_SECONDS, line.added + 2 * SHARE_SECONDS),
        "added_share": _share(scenario, outcomes, line.added, end),
        "added_share_last_third": _share(scenario, outcomes, end - line.settle / 3, end),
    }


def shares(scenario: Scenario, outcomes: Sequence[Outcome]) -> list[float]:
    """The added replica's share over its fair share, in each 5 s from its coming until the end."""
    begin, found = scenario.timeline.added, []
    while begin + SHARE_SECONDS <= scenario.timeline.end:
        found.append(_share(scenario, outcomes, begin, begin + SHARE_SECONDS))
        begin += SHARE_SECONDS
    return found


def _share(scenario: Scenario, outcomes: Sequence[Outcome], begin: float, end: float) -> float:
    capacities = scenario.capacities()
    served = [o.replica for o in outcomes if begin <= o.at < end and o.replica is not None]
    if not served:
        return 0.0
    return served.count(scenario.names[-1]) / len(served) / (capacities[-1] / sum(capacities))


def merged(old: Sequence[Run], new: Sequence[Run]) -> list[Run]:
    """The new ones in the place of the old ones of the same scenario, subject and seed, and else behind them."""
    runs = {(run.scenario, run.subject, run.seed): run for run in (*old, *new)}
    return list(runs.values())


class Results:
    """Runs by scenario, subject and seed."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self._runs = list(runs)

    @property
    def scenarios(self) -> list[str]:
        return list(dict.fromkeys(run.scenario for run in self._runs))

    def subjects(self, scenario: str) -> list[str]:
        return list(dict.fromkeys(run.subject for run in self._runs if run.scenario == scenario))

    def family(self, subject: str) -> str:
        return next(run.family for run in self._runs if run.subject == subject)

    def values(self, scenario: str, subject: str, metric: str) -> dict[int, float]:
        """By seed; without those that have no such metric."""
        return {
            run.seed: run.metrics[metric]
            for run in self._runs
            if run.scenario == scenario and run.subject == subject and metric in run.metrics
        }

    def spread(self, scenario: str, subject: str, metric: str) -> Spread | None:
        return Spread.of(list(self.values(scenario, subject, metric).values()))

    def total(self, scenario: str, subject: str, metric: str) -> float | None:
        values = self.values(scenario, subject, metric).values()
        return sum(values) if values else None

    def ratio(
        self, scenario: str, subject: str, metric: str, best: Callable[[Iterable[float]], float]
    ) -> Spread | None:
        """To the better of RIVALS with the same seed; `best` is min or max, as the metric has it."""
        own = self.values(scenario, subject, metric)
        rivals = [self.values(scenario, name, metric) for name in RIVALS]
        ratios = []
        for seed, value in own.items():
            base = [rival[seed] for rival in rivals if seed in rival]
            if base and best(base) > 0:
                ratios.append(value / best(base))
        return Spread.of(ratios)

    def share(self, scenario: str, subject: str) -> list[Spread]:
        """The added replica's share over time, see Run."""
        series = [run.share for run in self._runs if run.scenario == scenario and run.subject == subject]
        spreads = (Spread.of(values) for values in zip(*series, strict=True))
        return [spread for spread in spreads if spread is not None]
