"""Compare l4lb with HAProxy, nginx and no balancer at all, in one run. See bench/README.md."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import click

from compare import load
from compare.processes import BenchError
from compare.rounds import Bench, measure_all
from compare.scenarios import BY_NAME
from compare.subjects import Direct, HAProxy, L4lb, Nginx, Subject

SUBJECTS = ("direct", "l4lb", "haproxy", "nginx")
RESULTS = Path(__file__).parent / "results"
EPILOG = """\b
Examples:
  python bench/run.py
  python bench/run.py --quick --subjects l4lb,haproxy --scenarios exchange,idle
  python bench/run.py --haproxy ~/haproxy/haproxy --rounds 9
"""


class Names(click.ParamType):
    """A comma-separated choice."""

    name = "names"

    def __init__(self, known: tuple[str, ...]) -> None:
        self._known = known

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        names = tuple(value.split(","))
        for name in names:
            if name not in self._known:
                self.fail(f"'{name}' is unknown; choose from {', '.join(self._known)}", param, ctx)
        return names


class Cpus(click.ParamType):
    name = "cpus"

    def convert(
        self, value: str | tuple[int, int], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        try:
            balancer, generator = (int(cpu) for cpu in value.split(","))
        except ValueError:
            self.fail("give two CPU numbers, such as 0,1", param, ctx)
        return balancer, generator


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _default_cpus() -> tuple[int, int]:
    available = sorted(os.sched_getaffinity(0))
    return available[0], available[1] if len(available) > 1 else available[0]


@click.command(epilog=EPILOG)
@click.option("--haproxy", default="haproxy", metavar="PATH", help="The HAProxy binary; default: the one on PATH.")
@click.option("--nginx", default="nginx", metavar="PATH", help="The nginx binary; default: the one on PATH.")
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(min=1), help="How often all is repeated.")
@click.option("--subjects", default=",".join(SUBJECTS), type=Names(SUBJECTS), metavar="A,B", help="What to compare.")
@click.option(
    "--scenarios", default=",".join(BY_NAME), type=Names(tuple(BY_NAME)), metavar="A,B", help="What to measure."
)
@click.option("--quick", is_flag=True, help="Small loads and one round: shows that it works, not who is faster.")
@click.option("--cpus", default=None, type=Cpus(), metavar="B,L", help="CPU of the balancer and of the load.")
@click.option("--out", default=RESULTS, type=click.Path(path_type=Path), help="Where the results go.")
def main(
    haproxy: str,
    nginx: str,
    rounds: int,
    subjects: tuple[str, ...],
    scenarios: tuple[str, ...],
    quick: bool,
    cpus: tuple[int, int] | None,
    out: Path,
) -> None:
    """Compare l4lb with HAProxy, nginx and no balancer at all, and write a table and a plot."""
    makers: dict[str, Subject] = {
        "direct": Direct(),
        "l4lb": L4lb(),
        "haproxy": HAProxy(haproxy),
        "nginx": Nginx(nginx),
    }
    chosen = [makers[name] for name in subjects]
    cpu, load_cpu = cpus or _default_cpus()
    try:
        bench = Bench(load.build(), cpu, load_cpu, _free_port(), _free_port(), quick)
        versions = {subject.name: subject.version() for subject in chosen}
        measurements = measure_all(
            bench,
            chosen,
            [BY_NAME[name] for name in scenarios],
            1 if quick else rounds,
            lambda text: click.echo(text, err=True),
        )
    except BenchError as error:
        raise click.ClickException(str(error)) from error
    for measurement in measurements:
        click.echo(measurement)


if __name__ == "__main__":
    sys.exit(main())
