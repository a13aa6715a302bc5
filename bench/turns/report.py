"""The numbers of a trial, and their table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.shared.spread import Spread, count, milliseconds, percent, signed_percent, spread_text
from bench.shared.tables import Sheet, markdown
from bench.turns.rows import ROWS, WORKS
from bench.turns.trial import Trial
from bench.turns.truth import Areas


@dataclass(frozen=True, slots=True)
class Run:
    """The numbers of a row with a seed, by name (see README.md). Shares are of 1."""

    row: str
    seed: int
    metrics: dict[str, float]


def run_of(row: str, seed: int, trial: Trial) -> Run:
    found = trial.findings
    metrics = {
        "requests": float(trial.requests),
        "turns": float(trial.turns),
        "connections": float(trial.connections),
        "failures": float(len(trial.failures)),
        "busy_at_end": float(trial.busy_at_end),
        **_areas("pool", found.pool),
    }
    if trial.requests:
        metrics["turns_error"] = trial.turns / trial.requests - 1
    if found.late_s is not None:
        metrics |= _areas("connection", found.sessions) | _areas("line", found.lines) | {"late_s": found.late_s}
    if found.late_s is not None and ROWS[row].streams == 1:
        metrics["handshakes"] = found.books.handshakes / max(1, trial.connections)
        metrics["split"] = found.books.split / max(1, found.books.requests)
        metrics["merged"] = found.books.merged / max(1, found.books.requests)
    return Run(row, seed, metrics)


def _areas(name: str, areas: Areas) -> dict[str, float]:
    if areas.truth == 0:
        return {}
    over, under = areas.over / areas.truth, areas.under / areas.truth
    return {
        f"{name}_error": over + under,
        f"{name}_bias": over - under,
        f"{name}_over": over,
        f"{name}_under": under,
    }


@dataclass(frozen=True, slots=True)
class Column:
    """`total` is the sum over the seeds instead of their median."""

    title: str
    metric: str
    form: Callable[[float], str]
    total: bool = False


COLUMNS = (
    Column("requests", "requests", count, total=True),
    Column("busy: error", "pool_error", percent),
    Column("bias", "pool_bias", signed_percent),
    Column("over", "connection_over", percent),
    Column("under", "connection_under", percent),
    Column("late ms", "late_s", milliseconds),
    Column("turns", "turns_error", signed_percent),
    Column("early turns", "handshakes", "{:.2f}".format),
    Column("split", "split", percent),
    Column("merged", "merged", percent),
    Column("in use", "line_error", percent),
    Column("failed", "failures", count, total=True),
)


def sheet(runs: Sequence[Run], *, spread: bool) -> Sheet:
    """`spread` adds the least and the greatest of the seeds where they differ."""
    names = dict.fromkeys(run.row for run in runs)
    rows = [
        [name, *(_cell([run for run in runs if run.row == name], column, spread=spread) for column in COLUMNS)]
        for name in names
    ]
    return Sheet("", ["", *(column.title for column in COLUMNS)], rows)


def _cell(runs: Sequence[Run], column: Column, *, spread: bool) -> str:
    values = [run.metrics[column.metric] for run in runs if column.metric in run.metrics]
    found = Spread.of(values)
    if found is None:
        return "-"
    if column.total:
        return column.form(sum(values))
    return spread_text(found, column.form, between=" to ") if spread else column.form(found.median)


def write_markdown(runs: Sequence[Run], environment: Mapping[str, str], path: Path) -> None:
    works = dict.fromkeys(ROWS[run.row].work_name for run in runs)
    lines = [
        "# Turns against requests",
        "",
        "Median [least to most] of the seeds; requests and failed are sums. What the columns mean is in ../README.md.",
        "",
        *(f"- {name}: {value}" for name, value in environment.items()),
        *(f"- {name}: {WORKS[name].summary}" for name in works),
        *markdown(sheet(runs, spread=True)),
    ]
    path.write_text("\n".join(lines) + "\n")
