"""Balancers and policies in front of simulated model servers, over TCP. See bench/fleet/README.md."""

from __future__ import annotations

import itertools
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import click
from compare.environment import describe
from compare.options import names
from compare.options import seeds as read_seeds
from compare.places import default_cpus
from compare.processes import BenchError
from compare.report import console
from fleet import ideal, plot, report, trial
from fleet.plan import SCENARIOS, Scenario
from fleet.subjects import Subject, subjects
from fleet.summary import Results, Run, knowledge, merged, metrics, shares

RESULTS = Path(__file__).parent / "fleet" / "results"
SUBJECTS = (ideal.NAME, *subjects("haproxy", "nginx"))
EPILOG = """\b
Examples:
  python bench/fleet.py --quick
  python bench/fleet.py --seeds 1-9 --jobs 3
  python bench/fleet.py --seeds 7 --scenarios openai --subjects haproxy-leastconn,l4lb-least-busy
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
    """Waits for it. A subject that fails is no reason to lose the others; anything else is."""
    error = future.exception()
    if error is not None and not isinstance(error, BenchError):
        raise error
    return error is not None


def _compute(scenario: Scenario, seed: int) -> Run:
    """The row of what could be."""
    outcomes = ideal.outcomes(scenario, seed)
    return Run(scenario.name, ideal.NAME, ideal.NAME, seed, metrics(scenario, outcomes), shares(scenario, outcomes))


@click.command(epilog=EPILOG)
@click.option("--haproxy", default="haproxy", metavar="PATH", help="The HAProxy binary; default: the one on PATH.")
@click.option("--nginx", default="nginx", metavar="PATH", help="The nginx binary; default: the one on PATH.")
@click.option("--seeds", callback=read_seeds, metavar="N-M,N", help="Of the workload: 1-5, or 1 with --quick.")
@click.option(
    "--subjects",
    "chosen",
    default=",".join(SUBJECTS),
    callback=names(SUBJECTS),
    metavar="A,B",
    help="What to compare.",
)
@click.option(
    "--scenarios",
    default="pooled,openai",
    show_default=True,
    callback=names(tuple(SCENARIOS)),
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
@click.option("--quick", is_flag=True, help="Short runs of one scenario: to see that it works, not who is better.")
@click.option("--add", is_flag=True, help="Keep the other results that are in --out already.")
@click.option("--out", default=RESULTS, type=click.Path(path_type=Path), help="Where the results go.")
def main(
    haproxy: str,
    nginx: str,
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
    places = trial.Places(*default_cpus())
    seeds = seeds or ([1] if quick else [1, 2, 3, 4, 5])
    known = subjects(haproxy, nginx)
    plans = [SCENARIOS[name] for name in scenarios]
    if quick:
        plans = [plans[0].quick()]
    try:
        balancers = [known[name] for name in chosen if name in known]
        environment = describe({each.family: each.version() for each in balancers}, rounds=len(seeds), quick=quick)
        environment["seeds"] = environment.pop("rounds")
        runs = [] if ideal.NAME not in chosen else [_compute(plan, seed) for plan in plans for seed in seeds]
        work = list(itertools.product(plans, seeds, balancers))
        with ThreadPoolExecutor(jobs) as pool:
            futures = [pool.submit(_measure, plan, subject, seed, places) for plan, seed, subject in work]
            try:
                failures = [str(future.exception()) for future in futures if _failed(future)]
                runs += [future.result() for future in futures if not _failed(future)]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    except BenchError as error:
        raise click.ClickException(str(error)) from error
    if not runs:
        raise click.ClickException("\n".join(failures))
    if add and (out / "results.json").exists():
        runs = merged(report.read_json(out / "results.json"), runs)
    results = Results(runs)
    report.show(results, console())
    out.mkdir(parents=True, exist_ok=True)
    report.write_json(runs, environment, out / "results.json")
    report.write_markdown(results, environment, out / "results.md")
    if not plot.write(results, out / "results.svg"):
        click.echo("no plot: matplotlib is not installed (pip install 'l4lb[dev]')", err=True)
    click.echo(f"written to {out}", err=True)
    if failures:
        raise click.ClickException("\n".join(failures))


if __name__ == "__main__":
    main()
