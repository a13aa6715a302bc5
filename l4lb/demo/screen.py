"""Shows the demo's table: redrawn in place on a terminal, printed again and again elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from l4lb.demo.children import Child

LOG_LINES = 6
PRINT_EVERY = 2
UNLIMITED_WIDTH = 500
"""A file or a tool must get whole lines."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        try:
            super().on_broken_pipe()
        except SystemExit:  # would skip the callers that have processes to end
            raise BrokenPipeError from None


class Screen:
    """The table above the latest lines that the balancer logged."""

    def __init__(self) -> None:
        console = _Console(highlight=False)
        self._console = console if console.is_terminal else _Console(highlight=False, width=UNLIMITED_WIDTH)
        self._live = Live(console=self._console, auto_refresh=False) if console.is_terminal else None
        self._shown = 0
        self._lines_printed = 0

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, picture: Group, balancer: Child, *, last: bool) -> None:
        """Show the present state; the `last` one is always shown. BrokenPipeError if the output is closed."""
        if self._live is not None:
            log = "\n".join(list(balancer.lines)[-LOG_LINES:])
            self._live.update(Group(picture, Text(log, style="dim")), refresh=True)
            return
        if last or self._shown % PRINT_EVERY == 0:
            new = balancer.lines_total - self._lines_printed
            for line in list(balancer.lines)[-new:] if new else ():
                self._console.print(line, markup=False, soft_wrap=True)
            self._lines_printed = balancer.lines_total
            self._console.print(picture)
        self._shown += 1
