"""Options that benchmarks share, and how they are read."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from bench.shared.places import default_cpus

Command = TypeVar("Command", bound=Callable[..., Any])


def binaries(command: Command) -> Command:
    """The options --haproxy and --nginx."""
    for name in ("nginx", "haproxy"):
        text = f"The {name} binary; default: the one on PATH."
        command = click.option(f"--{name}", default=name, metavar="PATH", help=text)(command)
    return command


def out(default: Path) -> Callable[[Command], Command]:
    """The option --out of a benchmark that always writes."""
    return click.option(
        "--out", default=default, type=click.Path(path_type=Path), help="The directory for the results."
    )


def names(known: Sequence[str]) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Read a comma-separated choice of known names."""

    def read(_context: click.Context, _parameter: click.Parameter, value: str) -> list[str]:
        chosen = value.split(",")
        for name in chosen:
            if name not in known:
                raise click.BadParameter(f"'{name}' is unknown; choose from {', '.join(known)}")
        return chosen

    return read


def seeds(_context: click.Context, _parameter: click.Parameter, value: str | None) -> list[int] | None:
    """Read seeds such as 1-3,7."""
    if value is None:
        return None
    try:
        ranges = [part.split("-") for part in value.split(",")]
        return [seed for r in ranges for seed in range(int(r[0]), int(r[-1]) + 1)]
    except ValueError as error:
        raise click.BadParameter("give numbers and ranges, such as 1-3,7") from error


def cpus(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[int, int]:
    """Read the CPUs of the balancer and of the load, such as 0,1."""
    if value is None:
        return default_cpus()
    try:
        balancer, load = (int(cpu) for cpu in value.split(","))
    except ValueError as error:
        raise click.BadParameter("give two CPU numbers, such as 0,1") from error
    available = os.sched_getaffinity(0)
    if not {balancer, load} <= available:
        raise click.BadParameter(f"choose from {', '.join(str(cpu) for cpu in sorted(available))}")
    return balancer, load
