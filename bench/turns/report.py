"""From trials to tables: for the terminal and as Markdown, and all numbers as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from compare.report import number
from rich.console import Console
from rich.table import Table

from turns.rows import ROWS, WORKS
from turns.trial import Trial
from turns.truth import Areas


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


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _signed(share: float) -> str:
    return f"{share:+.1%}"


def _milliseconds(seconds: float) -> str:
    return number(seconds * 1000)


def _count(value: float) -> str:
    return f"{value:,.0f}"


COLUMNS = (
    Column("requests", "requests", _count, total=True),
    Column("busy: error", "pool_error", _percent),
    Column("bias", "pool_bias", _signed),
    Column("over", "connection_over", _percent),
    Column("under", "connection_under", _percent),
    Column("late ms", "late_s", _milliseconds),
    Column("turns", "turns_error", _signed),
    Column("early turns", "handshakes", "{:.2f}".format),
    Column("split", "split", _percent),
    Column("merged", "merged", _percent),
    Column("in use", "line_error", _percent),
    Column("failed", "failures", _count, total=True),
)


def table(runs: Sequence[Run], *, spread: bool) -> list[list[str]]:
    """Header and rows; `spread` adds the least and the greatest of the seeds where they differ."""
    names = dict.fromkeys(run.row for run in runs)
    rows = [
        [name, *(_cell([run for run in runs if run.row == name], column, spread=spread) for column in COLUMNS)]
        for name in names
    ]
    return [["", *(column.title for column in COLUMNS)], *rows]


def _cell(runs: Sequence[Run], column: Column, *, spread: bool) -> str:
    values = [run.metrics[column.metric] for run in runs if column.metric in run.metrics]
    if not values:
        return "-"
    if column.total:
        return column.form(sum(values))
    middle, least, most = (column.form(value) for value in (median(values), min(values), max(values)))
    return f"{middle} [{least} to {most}]" if spread and least != most else middle


def show(runs: Sequence[Run], to: Console) -> None:
    header, *rows = table(runs, spread=False)
    shown = Table()
    for i, title in enumerate(header):
        shown.add_column(title, justify="left" if i == 0 else "right", no_wrap=i == 0)
    for row in rows:
        shown.add_row(*row)
    to.print(shown)


def write_markdown(runs: Sequence[Run], environment: Mapping[str, str], path: Path) -> None:
    header, *rows = table(runs, spread=True)
    works = dict.fromkeys(ROWS[run.row].work_name for run in runs)
    lines = [
        "# Turns against requests",
        "",
        "Median [least to most] of the seeds; requests and failed are sums. What the columns mean is in ../README.md.",
        "",
        *(f"- {name}: {value}" for name, value in environment.items()),
        *(f"- {name}: {WORKS[name].summary}" for name in works),
        "",
        *(f"| {' | '.join(cells)} |" for cells in (header, ["---", *["---:"] * (len(header) - 1)], *rows)),
    ]
    path.write_text("\n".join(lines) + "\n")


def write_json(runs: Sequence[Run], environment: Mapping[str, str], path: Path) -> None:
    document = {"environment": dict(environment), "runs": [asdict(run) for run in runs]}
    path.write_text(json.dumps(document, indent=1) + "\n")
