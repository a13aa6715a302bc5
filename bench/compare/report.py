"""The tables of the comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.compare.scenarios import BY_NAME, HTTP, TCP, Scenario
from bench.compare.summary import BASES, PLAIN, Results
from bench.shared.spread import spread_text
from bench.shared.tables import Sheet, markdown

FOREIGN_LIMIT = 0.15


@dataclass(frozen=True, slots=True)
class Column:
    """With a base it has the ratio to it."""

    title: str
    metric: str
    base: str | None = None


def _costs(bases: Mapping[str, str]) -> list[Column]:
    """`bases` by the titles of their columns."""
    columns = [Column("per second", "rate")]
    for title, metric in (("balancer", "cpu_us"), ("all processes", "processes_us"), ("system", "system_us")):
        columns.append(Column(f"{title} µs", metric))
        columns += [Column(f"/ {name}", metric, base) for name, base in bases.items()]
    return columns


COSTS = {TCP: _costs({"HAProxy": BASES[TCP]}), HTTP: _costs({"HAProxy": BASES[HTTP], "l4lb-tcp": PLAIN})}
LATENCIES = (Column("p50 µs", "p50_us"), Column("p99 µs", "p99_us"), Column("p99.9 µs", "p999_us"))
MEMORY_COLUMNS = (
    Column("RSS B", "rss_bytes"),
    Column("/ HAProxy", "rss_bytes", BASES[TCP]),
    Column("PSS B", "pss_bytes"),
    Column("kernel B", "kernel_bytes"),
    Column("process RSS before, MiB", "base_rss_mib"),
    Column("CPU µs/s while idle", "idle_cpu_us_per_s"),
)


def sheets(results: Results) -> list[Sheet]:
    return [sheet for name in results.scenarios for sheet in _sheets_of(results, BY_NAME[name])]


def _sheets_of(results: Results, scenario: Scenario) -> list[Sheet]:
    title = f"{scenario.title}, per {scenario.operation}"
    made = [_sheet(results, scenario.name, f"{title}: CPU", COSTS[scenario.protocol])]
    if any(results.spread(scenario.name, subject, "p50_us") for subject in results.measured(scenario.name)):
        latencies = (*LATENCIES, Column("p99 / HAProxy", "p99_us", BASES[scenario.protocol]))
        made.append(_sheet(results, scenario.name, f"{title}: latency", latencies))
    if scenario.memory:
        made.append(_sheet(results, scenario.name, f"{title}: memory", MEMORY_COLUMNS))
    return made


def _sheet(results: Results, scenario: str, title: str, columns: Sequence[Column]) -> Sheet:
    rows = []
    for subject in results.measured(scenario):
        cells = [_cell(results, scenario, subject, column) for column in columns]
        rows.append([subject, *cells, str(results.errors(scenario, subject))])
    return Sheet(title, ["", *(column.title for column in columns), "errors"], rows)


def _cell(results: Results, scenario: str, subject: str, column: Column) -> str:
    if column.base is None:
        return spread_text(results.spread(scenario, subject, column.metric))
    return spread_text(results.ratio(scenario, subject, column.metric, column.base), "{:.2f}".format)


def warning(results: Results) -> str | None:
    share = results.foreign_share()
    if share <= FOREIGN_LIMIT:
        return None
    return (
        f"Other programs took {share:.0%} of the CPU time: the machine was not quiet. "
        "Trust the ratios of CPU per operation, not rates, latencies and the system columns."
    )


def write_markdown(results: Results, environment: Mapping[str, str], path: Path) -> None:
    lines = [
        "# Comparison",
        "",
        "Median [least-most] of the rounds. / HAProxy is the ratio within a round: to HAProxy's TCP mode, or with HTTP "
        "loads to its HTTP mode.",
        "",
    ]
    lines += [f"- {name}: {value}" for name, value in environment.items()]
    text = warning(results)
    if text is not None:
        lines += ["", f"**{text}**"]
    for sheet in sheets(results):
        lines += markdown(sheet)
    path.write_text("\n".join(lines) + "\n")
