"""Options that benchmarks share: names of what there is, and seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click


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
