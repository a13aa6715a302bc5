"""The plot, for each scenario: first tokens, goodput, the added replica over time, and what balancers know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bench.fleet.summary import SHARE_SECONDS, Results
from bench.shared.spread import Spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WINDOWS = ("all", "steady", "grown", "stall")
SHADES = {"ideal": "Greys", "haproxy": "Oranges", "nginx": "Greens", "vllm-router": "Purples", "l4lb": "Blues"}


def draw(results: Results) -> Figure:
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    subjects = list(dict.fromkeys(s for scenario in results.scenarios for s in results.subjects(scenario)))
    colors: dict[str, Any] = {}
    for family, shade in SHADES.items():
        own = [subject for subject in subjects if results.family(subject) == family]
        for rank, subject in enumerate(own):
            colors[subject] = colormaps[shade](0.4 + 0.5 * (rank + 1) / len(own))
    scenarios = results.scenarios
    figure = Figure(figsize=(13, 7 * len(scenarios)), layout="constrained")
    for i, scenario in enumerate(scenarios):
        panels = [figure.add_subplot(2 * len(scenarios), 2, 4 * i + panel) for panel in (1, 2, 3, 4)]
        _windows(panels[0], results, scenario, colors, "ttft_p99_s", "p99 of the time to the first token, s")
        _windows(panels[1], results, scenario, colors, "goodput", "goodput: share of requests within the service level")
        _share(panels[2], results, scenario, colors)
        _errors(panels[3], results, scenario, colors)
    handles = [Patch(color=colors[subject], label=subject) for subject in subjects]
    figure.legend(handles=handles, loc="outside upper center", ncols=4)
    return figure


def _windows(axes: Axes, results: Results, scenario: str, colors: Mapping[str, Any], metric: str, title: str) -> None:
    _bars(axes, results, scenario, colors, {window: f"{window}.{metric}" for window in WINDOWS})
    axes.set_title(f"{scenario}: {title}", loc="left", fontsize=10)


def _errors(axes: Axes, results: Results, scenario: str, colors: Mapping[str, Any]) -> None:
    groups = {window: f"{window}.busy_error" for window in WINDOWS}
    _bars(axes, results, scenario, colors, groups)
    axes.set_title(f"{scenario}: error of what the balancer takes for requests in flight", loc="left", fontsize=10)


def _bars(
    axes: Axes,
    results: Results,
    scenario: str,
    colors: Mapping[str, Any],
    groups: Mapping[str, str],
) -> None:
    """Medians, with the least and the greatest of the seeds as whiskers."""
    subjects = results.subjects(scenario)
    width = 0.8 / len(subjects)
    for rank, subject in enumerate(subjects):
        for place, metric in enumerate(groups.values()):
            values = results.values(scenario, subject, metric).values()
            spread = Spread.of(list(values))
            if spread is None:
                continue
            whiskers = [[spread.median - spread.least], [spread.most - spread.median]]
            at = place + (rank - (len(subjects) - 1) / 2) * width
            axes.bar(at, spread.median, width, yerr=whiskers, capsize=2, color=colors[subject])
    axes.set_xticks(range(len(groups)), list(groups))


def _share(axes: Axes, results: Results, scenario: str, colors: Mapping[str, Any]) -> None:
    for subject in results.subjects(scenario):
        spreads = results.share(scenario, subject)
        times = [SHARE_SECONDS * (i + 0.5) for i in range(len(spreads))]
        axes.plot(times, [spread.median for spread in spreads], color=colors[subject])
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("seconds after the replica came")
    axes.set_title(f"{scenario}: requests of the added replica / its fair share", loc="left", fontsize=10)
