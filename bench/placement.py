"""The command `python -m bench placement`: policies for each request, on the fleet of bench/fleet without sockets."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click

from bench.fleet.placement import Fleet, Limits
from bench.fleet.plan import SCENARIOS
from bench.fleet.policies import Policy
from bench.fleet.summary import percentile
from bench.shared import options
from bench.shared.spread import Spread, percent, spread_text
from bench.shared.tables import Sheet, console, markdown, show

RESULTS = Path(__file__).parent / "fleet" / "results" / "placement.md"
POINT = 0.99
EPILOG = """\b
Examples:
  python -m bench placement --seeds 1-3
  python -m bench placement --scenarios mixed --policies least-busy,learnt
"""

ONE = (  # 16 is the batch; cold-2-3: 2 requests until 3 responses
    Policy("least-busy"),
    Policy("limit-14", limit=14),
    Policy("limit-15", limit=15),
    Policy("limit-16", limit=16),
    Policy("limit-17", limit=17),
    Policy("limit-20", limit=20),
    Policy("learnt", learns="scraped"),
    Policy("learnt-alone", learns="scraped alone"),
    Policy("learnt-first-tokens", learns="first tokens"),
    Policy("cold-2-3", cold=2),
    Policy("limit-17-cold-1-3", limit=17, cold=1),
    Policy("limit-17-cold-2-1", limit=17, cold=2, responses=1),
    Policy("limit-17-cold-2-3", limit=17, cold=2),
    Policy("limit-17-cold-4-3", limit=17, cold=4),
    Policy("learnt-cold-2-3", learns="scraped", cold=2),
    Policy("known-speed", "known_speed"),
    Policy("learnt-speed", "learnt_speed"),
    Policy("hot-and-cold", "hot_cold"),
    Policy("hot-and-cold-limit-17", "hot_cold", limit=17),
)
TWO = (
    Policy("2-balancers-least-busy", balancers=2, than="2-balancers-least-busy"),
    Policy("2-balancers-limit-8", limit=8, balancers=2, than="2-balancers-least-busy"),
    Policy("2-balancers-limit-9", limit=9, balancers=2, than="2-balancers-least-busy"),
    Policy("2-balancers-limit-17", limit=17, balancers=2, than="2-balancers-least-busy"),
    Policy("2-balancers-learnt", learns="scraped", balancers=2, than="2-balancers-least-busy"),
    Policy("2-balancers-hot-and-cold", "hot_cold", balancers=2, than="2-balancers-least-busy"),
    Policy("2-balancers-learnt-speed", "learnt_speed", balancers=2, than="2-balancers-least-busy"),
)
POLICIES = {policy.name: policy for policy in (*ONE, *TWO)}


@dataclass(frozen=True, slots=True)
class Run:
    """The 99th percentile of the seconds to the first token, by window; a request without one counts as very late."""

    scenario: str
    policy: str
    seed: int
    late: Mapping[str, float]
    limits: Limits


def run(scenario: str, policy: str, seed: int) -> Run:
    plan = SCENARIOS[scenario]
    fleet = Fleet(plan, seed, POLICIES[policy])
    outcomes = fleet.run()
    late = {
        window.name: percentile(
            [
                1e3 if one.first_token is None else one.first_token
                for one in outcomes
                if window.begin <= one.at < window.end
            ],
            POINT,
        )
        for window in plan.windows
    }
    return Run(scenario, policy, seed, late, fleet.limits())


def sheets(runs: Sequence[Run]) -> Iterator[Sheet]:
    """A table for each scenario: seconds, ratios within a seed, and what became of limits that are learnt."""
    for scenario in dict.fromkeys(each.scenario for each in runs):
        of = {
            name: {each.seed: each for each in runs if (each.scenario, each.policy) == (scenario, name)}
            for name in dict.fromkeys(each.policy for each in runs)
        }
        windows = [window.name for window in SCENARIOS[scenario].windows]
        header = ("", "p99 s", *(f"{name}: ratio" for name in windows), "limit known", "below the batch", "at the end")
        yield Sheet(f"{scenario}: {SCENARIOS[scenario].summary}", header, [_row(name, of, windows) for name in of])


def _row(name: str, of: Mapping[str, Mapping[int, Run]], windows: Sequence[str]) -> list[str]:
    mine, other = of[name], of.get(POLICIES[name].than, {})
    cells = [name, spread_text(Spread.of([each.late[windows[0]] for each in mine.values()]))]
    for window in windows:
        ratios = [each.late[window] / other[seed].late[window] for seed, each in mine.items() if seed in other]
        cells.append(spread_text(Spread.of(ratios)))
    if POLICIES[name].learns is None:
        return [*cells, "-", "-", "-"]
    known, below = ([getattr(each.limits, what) for each in mine.values()] for what in ("known", "below"))
    ends = [limit for each in mine.values() for limit in each.limits.end]
    return [
        *cells,
        spread_text(Spread.of(known), percent),
        spread_text(Spread.of(below), percent),
        spread_text(Spread.of(ends), lambda limit: f"{limit:.0f}"),
    ]


@click.command(epilog=EPILOG)
@click.option("--seeds", callback=options.seeds, metavar="N-M,N", help="Of the workload: 1-10.")
@click.option(
    "--policies",
    "chosen",
    default=",".join(POLICIES),
    callback=options.names(tuple(POLICIES)),
    metavar="A,B",
    help="What to compare.",
)
@click.option(
    "--scenarios",
    default="pooled,mixed",
    show_default=True,
    callback=options.names(tuple(SCENARIOS)),
    metavar="A,B",
    help=f"Of {', '.join(SCENARIOS)}.",
)
@click.option("--jobs", default=2, show_default=True, type=click.IntRange(min=1), help="Processes.")
@click.option("--write", is_flag=True, help=f"Write the tables to {RESULTS.name}.")
def main(seeds: list[int] | None, chosen: list[str], scenarios: list[str], jobs: int, write: bool) -> None:
    """What is it worth to place each request, to hold it back, and to learn how many a replica takes? Computed, without
    sockets: half a second for each run."""
    seeds = seeds or list(range(1, 11))
    with ProcessPoolExecutor(jobs) as pool:
        runs = list(pool.map(run, *zip(*itertools.product(scenarios, chosen, seeds), strict=True)))
    tables = list(sheets(runs))
    show(tables, console())
    if write:
        lines = [line for table in tables for line in markdown(table)]
        seeded = f"{len(seeds)} seeds; median [least-most]. Ratios are to `least-busy` with the same seed"
        text = f"# Placing each request, without sockets\n\n{seeded}, with as many balancers.\n"
        RESULTS.write_text(text + "\n".join(lines) + "\n")
        click.echo(f"written to {RESULTS}", err=True)
