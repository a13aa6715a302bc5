from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l4lb.config.units import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("5s", 5), ("1.5s", 1.5), ("10m", 600), ("1h", 3600), ("1d", 86400), ("0s", 0), ("007s", 7)],
)
def test_a_number_and_a_unit_is_a_duration(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["30", "1.5"])
def test_a_bare_number_is_told_to_take_a_unit(text: str) -> None:
    with pytest.raises(ValueError, match=f"{text} has no unit; write {text}s"):
        parse_duration(text)


@pytest.mark.parametrize(
    "text", ["", "s", "-5s", "5 s", "5S", "5sec", "1h30m", "1e3s", ".5s", "5s\n", "\u0665s", "1" * 13 + "s"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


def test_a_duration_beyond_a_year_is_a_slip() -> None:
    assert parse_duration("365d") == 365 * 86400
    with pytest.raises(ValueError, match="longest duration, 365d"):
        parse_duration("366d")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "250ms"), (1, "1s"), (90, "90s"), (600, "10m"), (3600, "1h"), (86400, "1d"), (1.5, "1500ms"), (0, "0ms")],
)
def test_durations_are_spelled_in_the_largest_exact_unit(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(0, 365 * 86_400_000))
def test_a_spelled_duration_reads_back(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000, abs=1e-6)
