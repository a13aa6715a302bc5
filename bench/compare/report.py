"""The tables of the comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.compare.scenarios import BY_NAME, Scenario
from bench.compare.summary import Results, Summary
from bench.shared.spread import spread_text
from bench.shared.tables import Sheet, markdown

FOREIGN_LIMIT = 0.15


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


def warning(results: Results) -> str | None:
    share = results.foreign_share()
    if share <= FOREIGN_LIMIT:
        return None
    return (
        f"Other programs took {share:.0%} of the CPU time: the machine was not quiet. "
        "Trust the ratios of CPU per operation, not rates, latencies and the system columns."
    )


def write_markdown(results: Results, environment: Mapping[str, str], path: Path) -> None:
    lines = ["# Comparison", "", "Median [least-most] of the rounds; / HAProxy is the ratio within a round.", ""]
    lines += [f"- {name}: {value}" for name, value in environment.items()]
    text = warning(results)
    if text is not None:
        lines += ["", f"**{text}**"]
    for sheet in sheets(results):
        lines += markdown(sheet)
    path.write_text("\n".join(lines) + "\n")
