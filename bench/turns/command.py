"""The command `python -m bench turns`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import click

from bench.shared import options
from bench.shared.environment import describe
from bench.shared.places import default_cpus
from bench.shared.processes import BenchError
from bench.shared.tables import console, show, write_json
from bench.turns import report, trace, trial
from bench.turns.rows import ROWS

SECONDS = 15.0
WARM_SECONDS = 3.0
QUICK_SECONDS = 4.0
QUICK_ROWS = ["stream.http1", "short.http1", "stream.tls", "stream.h2"]
EPILOG = """\b
Examples:
  python -m bench turns --quick
  python -m bench turns --rows stream.http1,short.http1
  python -m bench turns --seeds 1-3 --warm 20 --jobs 2 --out bench/turns/results
  python -m bench turns --record tests/c/traces --seconds 4
"""


def _versions(rows: Sequence[str]) -> dict[str, str]:
    """The versions of the packages that these rows use. BenchError when one is not installed."""
    packages = dict.fromkeys(package for row in rows for package in ROWS[row].wire.packages)
    try:
        return {package: metadata.version(package) for package in packages}
    except metadata.PackageNotFoundError as error:
        raise BenchError(
            f"{error.name} is not installed; pip install 'l4lb[dev]' grpcio, or choose other --rows"
        ) from error


def _measure(row: str, seed: int, warm: float, seconds: float, cpu: int) -> report.Run:
    seen = trial.run(ROWS[row], seed, warm, seconds, cpu)
    run = report.run_of(row, seed, seen)
    error = run.metrics.get("pool_error", 0.0)
    failed = f", {len(seen.failures)} failed, first: {seen.failures[0]}" if seen.failures else ""
    click.echo(f"{row}, seed {seed}: busy {error:.1%} off{failed}", err=True)
    return run


def _record(row: str, seed: int, seconds: float, into: Path) -> None:
    conversations, by_port = trial.record(ROWS[row].small(), seed, seconds)
    into.mkdir(parents=True, exist_ok=True)
    path = into / f"{row}.trace"
    versions = ", ".join(f"{name} {version}" for name, version in _versions([row]).items())
    trace.write(path, [f"{row}, seed {seed}; {versions}"], conversations, by_port)
    click.echo(f"written to {path}", err=True)


@click.command(epilog=EPILOG)
@click.option(
    "--rows", callback=options.names(tuple(ROWS)), default=",".join(ROWS), metavar="A,B", help=f"Of {', '.join(ROWS)}."
)
@click.option(
    "--seeds", callback=options.seeds, default="1", show_default=True, metavar="N-M,N", help="Of the requests."
)
@click.option(
    "--seconds", type=click.FloatRange(min=1), default=SECONDS, show_default=True, help="Measured of each run."
)
@click.option(
    "--warm", type=click.FloatRange(min=1), default=WARM_SECONDS, show_default=True, help="Seconds to learn before."
)
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Runs side by side.")
@click.option("--quick", is_flag=True, help="Short runs of a few rows: to see that it works.")
@click.option("--out", type=click.Path(path_type=Path), help="Also write results.md and results.json there.")
@click.option(
    "--record", type=click.Path(path_type=Path), help="Measure nothing: write traces of what a plain relay sees there."
)
def main(
    rows: list[str],
    seeds: list[int],
    seconds: float,
    warm: float,
    jobs: int,
    quick: bool,
    out: Path | None,
    record: Path | None,
) -> None:
    """Put l4lb in front of real servers and compare its turns with the requests that the servers count.

    A run takes --warm, --seconds and three more: rows x seeds of them, divided by --jobs. It needs the packages
    of pip install 'l4lb[dev]', and grpcio for its row.
    """
    if quick:
        rows, seconds = QUICK_ROWS, QUICK_SECONDS
    balancer_cpu, _ = default_cpus()
    try:
        versions = _versions(rows)
        if record is not None:
            for row in rows:
                _record(row, seeds[0], seconds, record)
            return
        with ThreadPoolExecutor(jobs) as pool:
            work = itertools.product(rows, seeds)
            futures = [pool.submit(_measure, row, seed, warm, seconds, balancer_cpu) for row, seed in work]
            try:
                runs = [future.result() for future in futures]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    except BenchError as error:
        raise click.ClickException(str(error)) from error
    show([report.sheet(runs, spread=False)], console())
    if out is not None:
        environment = describe(versions, repeated=len(seeds), quick=quick, unit="seeds")
        environment["seconds"] = f"{seconds:g}, after {warm:g} to learn"
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "results.json", environment, "runs", runs)
        report.write_markdown(runs, environment, out / "results.md")
        click.echo(f"written to {out}", err=True)
