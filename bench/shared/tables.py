"""Tables for the terminal and for Markdown, and records as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

PIPE_WIDTH = 150


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table; its first column has the names of the rows."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def console() -> Console:
    """As wide as the terminal, or as the tables need where the output goes elsewhere."""
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)


def show(sheets: Iterable[Sheet], to: Console) -> None:
    for sheet in sheets:
        table = Table(title=sheet.title or None, title_justify="left")
        for i, title in enumerate(sheet.header):
            table.add_column(title, justify="left" if i == 0 else "right", no_wrap=i == 0)
        for row in sheet.rows:
            table.add_row(*row)
        to.print(table)


def markdown(sheet: Sheet) -> list[str]:
    """The lines of a Markdown table, below its title as a heading."""
    heading = [f"## {sheet.title}", ""] if sheet.title else []
    rule = ["---", *["---:"] * (len(sheet.header) - 1)]
    return ["", *heading, *(f"| {' | '.join(cells)} |" for cells in (sheet.header, rule, *sheet.rows))]


def write_json(path: Path, environment: Mapping[str, str], name: str, records: Iterable[DataclassInstance]) -> None:
    """The environment, and the records under `name`."""
    document = {"environment": dict(environment), name: [asdict(record) for record in records]}
    path.write_text(json.dumps(document, indent=1) + "\n")
