"""Tables of the commands in narrow terminals: each row on one line, and no number cut."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from l4lb.terminal.columns import Column, table

COLUMNS = (
    Column("name", least=12),
    Column("address", least=12, leaves=2),
    Column("state"),
    Column("total", right=True, leaves=1),
    Column("message", least=12),
)
ROWS = (
    ("a", "10.0.0.1:8080", "[green]ready[/green]", "123456789", "HTTP 200"),
    ("a-name-that-is-longer-than-it-should-be", "[fd00:0:0:1::2]:80", "ready", "4", "Connection refused by this host"),
)


def shown(width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(table(COLUMNS, ROWS, width))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines() if line.strip()]


@pytest.mark.parametrize("width", [45, 60, 80, 100, 140, 500])
def test_a_row_is_one_line_no_wider_than_the_terminal(width: int) -> None:
    lines = shown(width)
    assert len(lines) == 2 + len(ROWS)
    assert max(map(len, lines)) <= width


def test_all_is_there_where_there_is_room() -> None:
    assert shown(500)[-1].split("   ")[0].strip() == ROWS[1][0]
    assert "Connection refused by this host" in shown(500)[-1]


def test_columns_leave_in_their_order_and_text_is_cut_visibly() -> None:
    assert "total" not in shown(60)[0]
    assert "address" in shown(60)[0]
    assert "address" not in shown(45)[0]
    assert "…" in shown(45)[-1]


def test_numbers_and_words_are_never_cut() -> None:
    assert "ready" in shown(45)[-1]
    assert "123456789" in "".join(shown(90))


def test_a_table_without_rows_has_its_names() -> None:
    assert table(COLUMNS, (), 80).row_count == 0
