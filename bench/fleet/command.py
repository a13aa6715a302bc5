"""The command `python -m bench fleet`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import click

from bench.fleet import ideal, plot, report, trial
from bench.fleet.plan import SCENARIOS, Scenario
from bench.fleet.subjects import subjects
from bench.fleet.subjects.base import Subject
from bench.fleet.subjects.vllm_router import beside_python
from bench.fleet.summary import Results, Run, knowledge, merged, metrics, shares
from bench.shared import options, plots
from bench.shared.environment import describe
from bench.shared.places import default_cpus
from bench.shared.processes import BenchError
from bench.shared.tables import console, show, write_json

RESULTS = Path(__file__).parent / "results"
SUBJECTS = (ideal.NAME, *subjects("haproxy", "nginx", "vllm-router"))
EPILOG = """\b
Examples:
  python -m bench fleet --quick
  python -m bench fleet --seeds 1-9 --jobs 3
  python -m bench fleet --seeds 7 --scenarios openai --subjects haproxy-http-leastconn,l4lb-http1-least-busy
"""


def _measure(scenario: Scenario, subject: Subject, seed: int, places: trial.Places) -> Run:
    click.echo(f"{scenario.name}, seed {seed}: {subject.name} ...", err=True)
    seen = trial.run(scenario, subject, seed, places)
    measured = metrics(scenario, seen.outcomes) | knowledge(scenario, seen)
    run = Run(scenario.name, subject.name, subject.family, seed, measured, shares(scenario, seen.outcomes))
    first_token = run.metrics.get("all.ttft_p99_s", 0.0)
    failed = run.metrics.get("all.failures", 0.0)
    click.echo(
        f"{scenario.name}, seed {seed}: {subject.name}: TTFT p99 {first_token:.2f} s, "
        f"goodput {run.metrics.get('all.goodput', 0.0):.0%}, {failed:.0f} failed",
        err=True,
    )
    return run


def _failed(future: Future[Run]) -> bool:
    """Wait for a run. A BenchError leaves the other runs alone; every other error ends the benchmark."""
    error = future.exception()
    if error is not None and not isinstance(error, BenchError):
        raise error
    return error is not None


def _compute(scenario: Scenario, seed: int) -> Run:
    """The run of the ideal balancer, which needs no measurement."""
    outcomes = ideal.outcomes(scenario, seed)
    return Run(scenario.name, ideal.NAME, ideal.NAME, seed, metrics(scenario, outcomes), shares(scenario, outcomes))


@click.command(epilog=EPILOG)
@options.binaries
@click.option(
    "--vllm-router",
    default=beside_python("vllm-router"),
    metavar="PATH",
    help="The vllm-router program; left out where it is not installed.",
)
@click.option("--seeds", callback=options.seeds, metavar="N-M,N", help="Of the workload: 1-5, or 1 with --quick.")
@click.option(
    "--subjects",
    "chosen",
    default=",".join(SUBJECTS),
    callback=options.names(SUBJECTS),
    metavar="A,B",
    help="What to compare.",
)
@click.option(
    "--scenarios",
    default="pooled,openai",
    show_default=True,
    callback=options.names(tuple(SCENARIOS)),
    metavar="A,B",
    help=f"Of {', '.join(SCENARIOS)}.",
)
@click.option(
    "--jobs",
    default=6,
    show_default=True,
    type=click.IntRange(min=1),
    help="Runs side by side; one takes a tenth of a CPU.",
)
@click.option("--quick", is_flag=True, help="Short runs of one scenario, to see that it works; its numbers say little.")
@click.option("--add", is_flag=True, help="Keep the other results that are in --out already.")
@options.out(RESULTS)
def main(
    haproxy: str,
    nginx: str,
    vllm_router: str,
    seeds: list[int] | None,
    chosen: list[str],
    scenarios: list[str],
    jobs: int,
    quick: bool,
    add: bool,
    out: Path,
) -> None:
    """Put balancers in front of simulated model servers, the same requests for all, and write tables and a plot.

    A run takes two and a half minutes: seeds x scenarios x subjects of them, divided by --jobs.
    """
    seeds = seeds or ([1] if quick else [1, 2, 3, 4, 5])
    plans = [SCENARIOS[name] for name in scenarios]
    if quick:
        plans = [plans[0].quick()]
    known = subjects(haproxy, nginx, vllm_router)
    try:
        balancers = _installed([known[name] for name in chosen if name in known])
        versions = {each.family: each.version() for each in balancers}
        environment = describe(versions, repeated=len(seeds), quick=quick, unit="seeds")
        runs = [_compute(plan, seed) for plan in plans for seed in seeds] if ideal.NAME in chosen else []
        measured, failures = _measure_all(plans, seeds, balancers, jobs)
    except BenchError as error:
        raise click.ClickException(str(error)) from error
    runs += measured
    if not runs:
        raise click.ClickException("\n".join(failures))
    if add and (out / "results.json").exists():
        runs = merged(report.read_json(out / "results.json"), runs)
    results = Results(runs)
    show(report.sheets(results), console())
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "results.json", environment, "runs", runs)
    report.write_markdown(results, environment, out / "results.md")
    plots.write(lambda: plot.draw(results), out / "results.svg")
    click.echo(f"written to {out}", err=True)
    if failures:
        raise click.ClickException("\n".join(failures))


def _installed(balancers: Sequence[Subject]) -> list[Subject]:
    """Without the optional ones that are missing, and says why each of these is left out."""
    found = []
    for each in balancers:
        try:
            each.version()
        except BenchError as error:
            if not each.optional:
                raise
            click.echo(f"{each.name} is left out: {error}", err=True)
        else:
            found.append(each)
    return found


def _measure_all(
    plans: Sequence[Scenario], seeds: Sequence[int], balancers: Sequence[Subject], jobs: int
) -> tuple[list[Run], list[str]]:
    """The runs, `jobs` at a time, and the errors of those that failed."""
    places = trial.Places(*default_cpus())
    with ThreadPoolExecutor(jobs) as pool:
        work = itertools.product(plans, seeds, balancers)
        futures = [pool.submit(_measure, plan, subject, seed, places) for plan, seed, subject in work]
        try:
            failures = [str(future.exception()) for future in futures if _failed(future)]
            return [future.result() for future in futures if not _failed(future)], failures
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
