"""Compare l4lb with HAProxy, nginx and no balancer at all, in one run. See bench/README.md."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import click
from compare import load, plot, report
from compare.environment import describe
from compare.places import default_cpus, free_port
from compare.processes import BenchError
from compare.rounds import Bench, measure_all
from compare.scenarios import BY_NAME
from compare.subjects import Direct, HAProxy, HAProxySplicing, L4lb, Nginx, Subject
from compare.summary import Results

SUBJECTS = ("direct", "l4lb", "haproxy", "haproxy-splice", "nginx")
RESULTS = Path(__file__).parent / "results"
EPILOG = """\b
Examples:
  python bench/run.py
  python bench/run.py --quick --subjects l4lb,haproxy --scenarios exchange,idle
  python bench/run.py --haproxy ~/haproxy/haproxy --rounds 9
"""


def _choice(known: tuple[str, ...]) -> Callable[[click.Context, click.Parameter, str], tuple[str, ...]]:
    """Read a comma-separated choice of known names."""

    def read(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
        names = tuple(value.split(","))
        for name in names:
            if name not in known:
                raise click.BadParameter(f"'{name}' is unknown; choose from {', '.join(known)}")
        return names

    return read


def _cpus(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[int, int]:
    """The CPUs of the balancer and of the load: by default the first two that there are."""
    if value is None:
        return default_cpus()
    try:
        balancer, generator = (int(cpu) for cpu in value.split(","))
    except ValueError as error:
        raise click.BadParameter("give two CPU numbers, such as 0,1") from error
    available = os.sched_getaffinity(0)
    if not {balancer, generator} <= available:
        raise click.BadParameter(f"choose from {', '.join(str(cpu) for cpu in sorted(available))}")
    return balancer, generator


@click.command(epilog=EPILOG)
@click.option("--haproxy", default="haproxy", metavar="PATH", help="The HAProxy binary; default: the one on PATH.")
@click.option("--nginx", default="nginx", metavar="PATH", help="The nginx binary; default: the one on PATH.")
@click.option("--rounds", type=click.IntRange(min=1), help="How often all is repeated: 5, or once with --quick.")
@click.option(
    "--subjects", default=",".join(SUBJECTS), callback=_choice(SUBJECTS), metavar="A,B", help="What to compare."
)
@click.option(
    "--scenarios", default=",".join(BY_NAME), callback=_choice(tuple(BY_NAME)), metavar="A,B", help="What to measure."
)
@click.option("--quick", is_flag=True, help="Small loads: to see that it works, not who is faster.")
@click.option("--cpus", default=None, callback=_cpus, metavar="B,L", help="CPU of the balancer and of the load.")
@click.option("--out", default=RESULTS, type=click.Path(path_type=Path), help="Where the results go.")
def main(
    haproxy: str,
    nginx: str,
    rounds: int | None,
    subjects: tuple[str, ...],
    scenarios: tuple[str, ...],
    quick: bool,
    cpus: tuple[int, int],
    out: Path,
) -> None:
    """Compare l4lb with HAProxy, nginx and no balancer at all, and write a table and a plot."""
    makers: dict[str, Subject] = {
        "direct": Direct(),
        "l4lb": L4lb(),
        "haproxy": HAProxy(haproxy),
        "haproxy-splice": HAProxySplicing(haproxy),
        "nginx": Nginx(nginx),
    }
    chosen = [makers[name] for name in subjects]
    times = rounds or (1 if quick else 5)
    try:
        bench = Bench(load.build(), *cpus, free_port(), free_port(), quick)
        environment = describe({subject.name: subject.version() for subject in chosen}, rounds=times, quick=quick)
        measurements = measure_all(
            bench, chosen, [BY_NAME[name] for name in scenarios], times, lambda text: click.echo(text, err=True)
        )
    except BenchError as error:
        raise click.ClickException(str(error)) from error
    results = Results(measurements)
    report.show(results, report.console())
    out.mkdir(parents=True, exist_ok=True)
    report.write_json(measurements, environment, out / "results.json")
    report.write_markdown(results, environment, out / "results.md")
    if not plot.write(results, out / "results.svg"):
        click.echo("no plot: matplotlib is not installed (pip install 'l4lb[dev]')", err=True)
    click.echo(f"written to {out}", err=True)


if __name__ == "__main__":
    main()
