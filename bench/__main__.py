"""The command `python -m bench`: a table of benchmarks, each of which is imported only when it runs.

An import on demand keeps the others usable where a package that one benchmark needs is not installed.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass

import click

EPILOG = """\b
Examples:
  python -m bench compare --quick
  python -m bench fleet --help
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """`module` has the click command `main`."""

    module: str
    summary: str


BENCHMARKS = {
    "compare": Entry("bench.compare.command", "What does a balancer cost, next to HAProxy, nginx and no balancer?"),
    "crosscheck": Entry("bench.crosscheck", "Do wrk and iperf3 measure the same as our own load generator?"),
    "fleet": Entry("bench.fleet.command", "Which policy serves a fleet of simulated model servers best?"),
    "health": Entry("bench.health", "What do checks of thousands of backends cost, and do they keep their pace?"),
    "instructions": Entry("bench.instructions", "How many instructions does the data plane execute per operation?"),
    "micro": Entry("bench.micro.command", "How long do lookup tables, address lists and publications take?"),
    "placement": Entry("bench.placement", "Which policy would serve that fleet best, request by request? (no sockets)"),
    "reload": Entry("bench.reload", "Does a large reload under load lose a connection, and what does it cost?"),
    "turns": Entry("bench.turns.command", "How near does the count of turns come to the requests of real servers?"),
}


class Benchmarks(click.Group):
    """A group of commands that are imported on demand."""

    def list_commands(self, _context: click.Context) -> list[str]:
        return list(BENCHMARKS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        entry = BENCHMARKS.get(name)
        if entry is None:
            return None
        command: click.Command = importlib.import_module(entry.module).main
        return command

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Benchmarks"):
            formatter.write_dl([(name, entry.summary) for name, entry in BENCHMARKS.items()])


@click.command(cls=Benchmarks, epilog=EPILOG, invoke_without_command=True, context_settings={"max_content_width": 120})
@click.pass_context
def main(context: click.Context) -> None:
    """Benchmarks of l4lb. Each prints tables; bench/README.md says what they measure and how to read them."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


if __name__ == "__main__":
    main(prog_name="python -m bench")
