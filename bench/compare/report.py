"""The report: the same tables for the terminal and for Markdown, and everything measured as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from compare.rounds import Measurement
from compare.scenarios import BY_NAME, Scenario
from compare.summary import Results, Spread, Summary

FOREIGN_LIMIT = 0.15
PIPE_WIDTH = 150


@dataclass(frozen=True, slots=True)
class Column:
    title: str
    metric: str
    ratio: bool = False


COLUMNS = (
    Column("per second", "rate"),
    Column("balancer µs", "cpu_us"),
    Column("/ HAProxy", "cpu_us", ratio=True),
    Column("all processes µs", "processes_us"),
    Column("/ HAProxy", "processes_us", ratio=True),
    Column("system µs", "system_us"),
    Column("/ HAProxy", "system_us", ratio=True),
)
LATENCY_COLUMNS = (
    Column("p50 µs", "p50_us"),
    Column("p99 µs", "p99_us"),
    Column("p99.9 µs", "p999_us"),
    Column("p99 / HAProxy", "p99_us", ratio=True),
)
MEMORY_COLUMNS = (
    Column("RSS B", "rss_bytes"),
    Column("/ HAProxy", "rss_bytes", ratio=True),
    Column("PSS B", "pss_bytes"),
    Column("kernel B", "kernel_bytes"),
    Column("process RSS before, MiB", "base_rss_mib"),
    Column("CPU µs/s while idle", "idle_cpu_us_per_s"),
)


@dataclass(frozen=True, slots=True)
class Sheet:
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def sheets(results: Results) -> list[Sheet]:
    return [sheet for name in results.scenarios for sheet in _sheets_of(results, BY_NAME[name])]


def _sheets_of(results: Results, scenario: Scenario) -> list[Sheet]:
    title = f"{scenario.title}, per {scenario.operation}"
    made = [_sheet(results, scenario.name, f"{title}: CPU", COLUMNS)]
    if _has(results, scenario.name, "p50_us"):
        made.append(_sheet(results, scenario.name, f"{title}: latency", LATENCY_COLUMNS))
    if scenario.memory:
        made.append(_sheet(results, scenario.name, f"{title}: memory", MEMORY_COLUMNS))
    return made


def _has(results: Results, scenario: str, metric: str) -> bool:
    return any(results.summary(scenario, subject, metric) for subject in results.subjects)


def _sheet(results: Results, scenario: str, title: str, columns: Sequence[Column]) -> Sheet:
    rows = []
    for subject in results.subjects:
        cells = [_cell(results.summary(scenario, subject, column.metric), column) for column in columns]
        rows.append([subject, *cells, str(results.errors(scenario, subject))])
    return Sheet(title, ["", *(column.title for column in columns), "errors"], rows)


def _cell(summary: Summary | None, column: Column) -> str:
    if summary is None:
        return "-"
    return spread_text(summary.ratio, "{:.2f}".format) if column.ratio else spread_text(summary.value)


def number(value: float) -> str:
    """Three figures are as much as the rounds agree on."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def spread_text(spread: Spread | None, form: Callable[[float], str] = number) -> str:
    if spread is None:
        return "-"
    middle, least, most = form(spread.median), form(spread.least), form(spread.most)
    return middle if least == most else f"{middle} [{least}-{most}]"


def warning(results: Results) -> str | None:
    share = results.foreign_share()
    if share <= FOREIGN_LIMIT:
        return None
    return (
        f"{share:.0%} of the CPU time went to other programs: the machine was not quiet. "
        "Trust the ratios of CPU per operation, not rates, latencies and the system columns."
    )


def console() -> Console:
    """The terminal, or as wide as the tables need when there is none."""
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)


def show(results: Results, to: Console) -> None:
    for sheet in sheets(results):
        table = Table(title=sheet.title, title_justify="left")
        for i, title in enumerate(sheet.header):
            table.add_column(title, justify="left" if i == 0 else "right")
        for row in sheet.rows:
            table.add_row(*row)
        to.print(table)
    text = warning(results)
    if text is not None:
        to.print(text, style="yellow")


def write_markdown(results: Results, environment: Mapping[str, str], path: Path) -> None:
    lines = ["# Comparison", "", "Median [least-most] of the rounds; / HAProxy is the ratio within a round.", ""]
    lines += [f"- {name}: {value}" for name, value in environment.items()]
    text = warning(results)
    if text is not None:
        lines += ["", f"**{text}**"]
    for sheet in sheets(results):
        lines += ["", f"## {sheet.title}", "", _row(sheet.header), _row(["---", *["---:"] * (len(sheet.header) - 1)])]
        lines += [_row(row) for row in sheet.rows]
    path.write_text("\n".join(lines) + "\n")


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def write_json(measurements: Sequence[Measurement], environment: Mapping[str, str], path: Path) -> None:
    document = {"environment": dict(environment), "measurements": [asdict(m) for m in measurements]}
    path.write_text(json.dumps(document, indent=1) + "\n")
