"""Chooses the columns of a table that a terminal has room for, so that each row stays on one line.

Columns are dropped in the order of their `leaves` until the rest fits. Columns with a `least` width are then cut down
to it, the widest first; numbers and the program's own words are never cut. Pure, apart from the table of `rich`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

GAP = 3
"""Cells between two columns of a table; both edges together take two."""


@dataclass(frozen=True)
class Column:
    """`least` is the cells that a cut text keeps, None for all. `leaves` is the order in which columns are dropped from
    a table that is too wide, the lowest first, None for never."""

    name: str
    right: bool = False
    least: int | None = None
    leaves: int | None = None


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> Table:
    """The rows, in cells with markup, as a table of at most `width` if that is possible."""
    natural = [_width(column.name, [row[i] for row in rows]) for i, column in enumerate(columns)]
    kept = _kept(columns, natural, width)
    widths = _shrunk([columns[i] for i in kept], [natural[i] for i in kept], width)
    result = Table(box=SIMPLE_HEAD, pad_edge=False)
    for i, cells in zip(kept, widths, strict=True):
        result.add_column(
            columns[i].name,
            justify="right" if columns[i].right else "left",
            width=cells,
            no_wrap=True,
            overflow="ellipsis",
        )
    for row in rows:
        result.add_row(*(row[i] for i in kept))
    return result


def _width(name: str, cells: Sequence[str]) -> int:
    return max(len(name), *(Text.from_markup(cell).cell_len for cell in cells), 0)


def _least(column: Column, natural: int) -> int:
    return natural if column.least is None else min(natural, max(column.least, len(column.name)))


def _taken(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1) + 2


def _kept(columns: Sequence[Column], natural: Sequence[int], width: int) -> list[int]:
    """The indices of the columns that fit, in their order."""
    kept = list(range(len(columns)))
    leaving = sorted((column.leaves, i) for i, column in enumerate(columns) if column.leaves is not None)
    for _, i in leaving:
        if _taken([_least(columns[k], natural[k]) for k in kept]) <= width:
            break
        kept.remove(i)
    return kept


def _shrunk(columns: Sequence[Column], natural: Sequence[int], width: int) -> list[int]:
    widths = list(natural)
    excess = _taken(widths) - width
    while excess > 0:
        spare = {i: widths[i] for i, column in enumerate(columns) if widths[i] > _least(column, natural[i])}
        if not spare:
            break
        widths[max(spare, key=lambda i: spare[i])] -= 1
        excess -= 1
    return widths
