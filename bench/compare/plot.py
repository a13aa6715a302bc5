"""The plot of the comparison: ratios to HAProxy in the mode of the load, with the least and the greatest of the rounds
as whiskers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.compare.scenarios import BY_NAME
from bench.compare.summary import BASES, Results
from bench.shared.spread import Spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = {
    "direct": "#9e9e9e",
    "l4lb": "#1f77b4",
    "haproxy": "#d95f02",
    "haproxy-splice": "#e7ab02",
    "nginx": "#2e8b57",
    "l4lb-tcp": "#1f77b4",
    "l4lb-http1": "#6baed6",
    "haproxy-http": "#a63603",
    "nginx-http": "#66c2a4",
}
WIDTH = 0.2


@dataclass(frozen=True, slots=True)
class Panel:
    title: str
    metric: str


PANELS = (
    Panel("CPU of the balancer per operation", "cpu_us"),
    Panel("CPU of balancer, generator and server per operation", "processes_us"),
    Panel("CPU of the whole system per operation, other programs included", "system_us"),
    Panel("99th percentile of latency", "p99_us"),
    Panel("resident memory per idle connection", "rss_bytes"),
)


def draw(results: Results) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    panels = [panel for panel in PANELS if _bars(results, panel)]
    figure = Figure(figsize=(13, 2.8 * len(panels)), layout="constrained")
    for i, panel in enumerate(panels):
        axes = figure.add_subplot(len(panels), 1, i + 1)
        bars = _bars(results, panel)
        scenarios = list(dict.fromkeys(scenario for scenario, _, _ in bars))
        for place, scenario in enumerate(scenarios):
            own = [(subject, ratio) for of, subject, ratio in bars if of == scenario]
            for rank, (subject, ratio) in enumerate(own):
                whiskers = [[ratio.median - ratio.least], [ratio.most - ratio.median]]
                at = place + (rank - (len(own) - 1) / 2) * WIDTH
                axes.bar(at, ratio.median, WIDTH, yerr=whiskers, capsize=2, color=COLORS[subject])
        axes.axhline(1, color="black", linewidth=0.8)
        axes.set_xticks(range(len(scenarios)), scenarios)
        axes.set_ylabel("ratio to HAProxy")
        axes.set_title(panel.title, loc="left", fontsize=10)
        axes.set_xlim(-0.5, max(len(scenarios), 3) - 0.5)
    handles = [Patch(color=COLORS[subject], label=subject) for subject in results.subjects]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))
    return figure


def _bars(results: Results, panel: Panel) -> list[tuple[str, str, Spread]]:
    bars = []
    for scenario in results.scenarios:
        for subject in results.subjects:
            ratio = results.ratio(scenario, subject, panel.metric, BASES[BY_NAME[scenario].protocol])
            if ratio is not None:
                bars.append((scenario, subject, ratio))
    return bars
