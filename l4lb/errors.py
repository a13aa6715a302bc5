"""Every error l4lb raises on purpose.

L4lbError
├── ConfigError      the configuration is wrong; carries every problem found
├── StartError       the process cannot start (an address is taken, a limit is too low, ...)
├── ControlError     a running balancer cannot do what it is told; carries an HTTP status
└── NotBuiltError    this is a source tree whose native extension was never built; also an ImportError
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from l4lb.base.text import clipped, plural


class L4lbError(Exception):
    """Base of all of them. `str()` is one sentence: what, where, and what to do."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake in a configuration. Lines and columns count from 1.

    In a configuration that is no file, `file` is empty, line and column are 0, and `path` is all that says where.
    """

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}: " if self.file else ""
        where = f"{self.path}: " if self.path else ""
        return clipped(f"{place}error: {where}{self.message}")


PROBLEMS_MAX = 1000
"""Problems that are said; of the others there is a number."""


class ConfigError(L4lbError):
    """`problems` are the first of `total`; `sentences` has them as text, and how many more there are."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems[:PROBLEMS_MAX])
        self.total = len(problems)
        super().__init__("\n".join(self.sentences))

    @property
    def sentences(self) -> list[str]:
        more = self.total - len(self.problems)
        rest = [f"error: {plural(more, 'more problem')} like these; mend these first"] if more else []
        return [*map(str, self.problems), *rest]


class StartError(L4lbError):
    pass


class ControlError(L4lbError):
    def __init__(self, message: str, status: int = 400) -> None:
        self.status = status
        super().__init__(message)


class NotBuiltError(L4lbError, ImportError):
    """Python found the source tree before, or in place of, an installed l4lb."""

    def __init__(self, tree: Path) -> None:
        super().__init__(
            f"{tree} holds the sources of l4lb, and its native extension has not been built there: "
            "change to another directory to use an installed l4lb, or build it here with `pip install --editable .`"
        )
