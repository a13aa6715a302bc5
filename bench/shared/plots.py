"""Plots, where matplotlib is installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write(draw: Callable[[], Figure], path: Path) -> None:
    """Without matplotlib, which the `dev` extra brings, say so and write nothing."""
    try:
        figure = draw()
    except ImportError:
        click.echo("no plot: matplotlib is not installed (pip install 'l4lb[dev]')", err=True)
        return
    figure.savefig(path)
