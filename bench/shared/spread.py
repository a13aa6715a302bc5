"""Medians with their spread, and numbers as text. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Spread:
    """The median, least and greatest of the repetitions."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        return cls(median(values), min(values), max(values)) if values else None


def number(value: float) -> str:
    """Three figures: repetitions do not agree on more."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def milliseconds(seconds: float) -> str:
    return number(seconds * 1000)


def percent(share: float) -> str:
    return f"{share:.1%}"


def signed_percent(share: float) -> str:
    return f"{share:+.1%}"


def count(value: float) -> str:
    return f"{value:,.0f}"


def spread_text(spread: Spread | None, form: Callable[[float], str] = number, between: str = "-") -> str:
    """Median [least-most]; the median alone where the others look the same."""
    if spread is None:
        return "-"
    middle, least, most = form(spread.median), form(spread.least), form(spread.most)
    return middle if least == most else f"{middle} [{least}{between}{most}]"
