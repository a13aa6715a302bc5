"""The command `python -m bench compare`."""

from __future__ import annotations

from pathlib import Path

import click

from bench.compare import plot, report
from bench.compare.rounds import Bench, measure_all
from bench.compare.scenarios import BY_NAME
from bench.compare.subjects import (
    Direct,
    HAProxy,
    HAProxyHttp,
    HAProxySplicing,
    L4lb,
    L4lbHttp1,
    L4lbTcp,
    Nginx,
    NginxHttp,
    Subject,
)
from bench.compare.summary import Results
from bench.shared import load, options, plots
from bench.shared.environment import describe
from bench.shared.places import free_port
from bench.shared.processes import BenchError
from bench.shared.tables import console, show, write_json

SUBJECTS = (
    *("direct", "l4lb", "haproxy", "haproxy-splice", "nginx"),
    *("l4lb-tcp", "l4lb-http1", "haproxy-http", "nginx-http"),
)
RESULTS = Path(__file__).parents[1] / "results"
EPILOG = """\b
Examples:
  python -m bench compare
  python -m bench compare --quick --subjects l4lb,haproxy --scenarios exchange,idle
  python -m bench compare --scenarios http-64b,http-1mib,http-stream
  python -m bench compare --haproxy ~/haproxy/haproxy --rounds 9
"""


@click.command(epilog=EPILOG)
@options.binaries
@click.option("--rounds", type=click.IntRange(min=1), help="How often everything is repeated: 5, or once with --quick.")
@click.option(
    "--subjects",
    default=",".join(SUBJECTS),
    callback=options.names(SUBJECTS),
    metavar="A,B",
    help=f"What to compare, of {', '.join(SUBJECTS)}.",
)
@click.option(
    "--scenarios",
    default=",".join(BY_NAME),
    callback=options.names(tuple(BY_NAME)),
    metavar="A,B",
    help=f"What to measure, of {', '.join(BY_NAME)}.",
)
@click.option("--quick", is_flag=True, help="Small loads, to see that it works; its numbers say little.")
@click.option(
    "--cpus", default=None, callback=options.cpus, metavar="B,L", help="CPUs of the balancer and of the load."
)
@options.out(RESULTS)
def main(
    haproxy: str,
    nginx: str,
    rounds: int | None,
    subjects: list[str],
    scenarios: list[str],
    quick: bool,
    cpus: tuple[int, int],
    out: Path,
) -> None:
    """Compare l4lb with HAProxy, nginx and no balancer at all, and write tables and a plot."""
    every: tuple[Subject, ...] = (
        *(Direct(), L4lb(), HAProxy(haproxy), HAProxySplicing(haproxy), Nginx(nginx)),
        *(L4lbTcp(), L4lbHttp1(), HAProxyHttp(haproxy), NginxHttp(nginx)),
    )
    chosen = [each for each in every if each.name in subjects]
    times = rounds or (1 if quick else 5)
    try:
        bench = Bench(load.build(), *cpus, free_port(), free_port(), quick)
        environment = describe({subject.name: subject.version() for subject in chosen}, repeated=times, quick=quick)
        measurements = measure_all(
            bench, chosen, [BY_NAME[name] for name in scenarios], times, lambda text: click.echo(text, err=True)
        )
    except BenchError as error:
        raise click.ClickException(str(error)) from error
    results = Results(measurements)
    terminal = console()
    show(report.sheets(results), terminal)
    warning = report.warning(results)
    if warning is not None:
        terminal.print(warning, style="yellow")
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "results.json", environment, "measurements", measurements)
    report.write_markdown(results, environment, out / "results.md")
    plots.write(lambda: plot.draw(results), out / "results.svg")
    click.echo(f"written to {out}", err=True)
