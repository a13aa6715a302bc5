"""The tables of the fleet."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.fleet.plan import SCENARIOS
from bench.fleet.summary import FIRST_TOKEN_LIMIT, GAP_LIMIT, RIVALS, Results, Run
from bench.shared.spread import Spread, count, milliseconds, number, percent, spread_text
from bench.shared.tables import Sheet, markdown

Best = Callable[[Iterable[float]], float]


@dataclass(frozen=True, slots=True)
class Column:
    """`best` makes it the ratio to the better rival; `total` the sum over the seeds instead of their median."""

    title: str
    metric: str
    form: Callable[[float], str] = number
    best: Best | None = None
    total: bool = False


def _ratio(title: str, metric: str, best: Best = min) -> Column:
    return Column(title, metric, "{:.2f}".format, best)


RATIOS = (
    _ratio("TTFT p50", "all.ttft_p50_s"),
    _ratio("TTFT p99", "all.ttft_p99_s"),
    _ratio("steady: p99", "steady.ttft_p99_s"),
    _ratio("grown: p99", "grown.ttft_p99_s"),
    _ratio("stall: p99", "stall.ttft_p99_s"),
    _ratio("goodput", "all.goodput", max),
    _ratio("grown: goodput", "grown.goodput", max),
    _ratio("stall: goodput", "stall.goodput", max),
)
MAIN = (
    Column("TTFT p50 ms", "all.ttft_p50_s", milliseconds),
    Column("TTFT p99 ms", "all.ttft_p99_s", milliseconds),
    Column("e2e p99 s", "all.e2e_p99_s"),
    Column("goodput", "all.goodput", percent),
    Column("requests", "all.requests", count, total=True),
    Column("failed", "all.failures", count, total=True),
    Column("cut", "all.cut", count, total=True),
)
WINDOWS = tuple(
    column
    for window in ("steady", "grown", "stall")
    for column in (
        Column(f"{window}: TTFT p99 ms", f"{window}.ttft_p99_s", milliseconds),
        Column(f"{window}: goodput", f"{window}.goodput", percent),
    )
)
ADDED = (
    Column("in 5 s", "added_share_5s", "{:.2f}".format),
    Column("in the next 5 s", "added_share_10s", "{:.2f}".format),
    Column("in 30 s", "added_share", "{:.2f}".format),
    Column("in the last 10 s of these", "added_share_last_third", "{:.2f}".format),
    _ratio("in 30 s / rival", "added_share", max),
)
COUNTED = (
    Column("requests on a pooled connection", "all.reused", percent),
    Column("load seen, steady: error", "steady.busy_error", percent),
    Column("bias", "steady.busy_bias", percent),
    Column("load seen, stall: error", "stall.busy_error", percent),
    Column("bias", "stall.busy_bias", percent),
    Column("turns / requests - 1", "turns_error", percent),
)


def sheets(results: Results) -> list[Sheet]:
    made = []
    for scenario in results.scenarios:
        made += [
            _sheet(results, scenario, f"{scenario}: ratios to the better rival", RATIOS),
            _sheet(results, scenario, f"{scenario}: what clients see", MAIN),
            _sheet(results, scenario, f"{scenario}: at 80 % load, after a replica came, around a stall", WINDOWS),
            _sheet(results, scenario, f"{scenario}: requests of the added replica / its fair share", ADDED),
            _sheet(results, scenario, f"{scenario}: what balancers know", COUNTED),
        ]
    return made


def _sheet(results: Results, scenario: str, title: str, columns: Sequence[Column]) -> Sheet:
    rows = [
        [subject, *(_cell(results, scenario, subject, column) for column in columns)]
        for subject in results.subjects(scenario)
    ]
    return Sheet(title, ["", *(column.title for column in columns)], rows)


def _cell(results: Results, scenario: str, subject: str, column: Column) -> str:
    if column.total:
        total = results.total(scenario, subject, column.metric)
        return "-" if total is None else column.form(total)
    spread: Spread | None
    if column.best is not None:
        spread = results.ratio(scenario, subject, column.metric, column.best)
    else:
        spread = results.spread(scenario, subject, column.metric)
    return spread_text(spread, column.form)


def write_markdown(results: Results, environment: Mapping[str, str], path: Path) -> None:
    lines = [
        "# Balancers in front of model servers",
        "",
        f"Median [least-most] of the seeds; failed and cut are the sums. Ratios are to the better of {RIVALS[0]} and "
        f"{RIVALS[1]} with the same seed, in that metric. Goodput: first token within {FIRST_TOKEN_LIMIT:g} s and "
        f"{GAP_LIMIT * 1000:g} ms between tokens on average.",
        "",
        *(f"- {name}: {value}" for name, value in environment.items()),
        *(f"- {name}: {SCENARIOS[name].summary}" for name in results.scenarios),
    ]
    for sheet in sheets(results):
        lines += markdown(sheet)
    path.write_text("\n".join(lines) + "\n")


def read_json(path: Path) -> list[Run]:
    """The runs in the results of an earlier call."""
    return [Run(**run) for run in json.loads(path.read_text())["runs"]]
