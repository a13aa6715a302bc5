"""Whether a server gets on with its work, as what it says of itself shows over time."""

from __future__ import annotations

import pytest

from l4lb.health.progress import ProgressTrack, Work

LIMIT = 10.0


def stalled(*looks: tuple[float, float | None, float | None]) -> float | None:
    progress = ProgressTrack()
    for at, running, done in looks:
        progress = progress.observe(Work(at, running, done))
    return progress.stalled(LIMIT)


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        ([], None),
        ([(0, 1, 5)], None),
        ([(0, 1, 5), (9, 1, 5)], None),
        ([(0, 1, 5), (10, 1, 5)], 10),
        ([(0, 1, 5), (5, 2, 5), (30, 7, 5)], 30),
        ([(0, 1, 5), (9, 1, 6), (18, 1, 6)], None),
        ([(0, 1, 5), (20, 1, 4)], None),  # it was restarted
        ([(0, 0, 5), (60, 0, 5)], None),
        ([(0, 0, 5), (60, 1, 5), (65, 1, 5)], None),  # idle before, and now not for long
        ([(0, 1, 5), (9, 0, 5), (18, 1, 5)], None),
        ([(0, 1, 5), (20, 1, 5), (21, 1, 6)], None),
        ([(0, 1, 5), (20, 1, 5), (21, 0, 5)], None),
        ([(0, 1, 5), (8, None, 5), (9, 1, None)], None),
        ([(0, 1, 5), (8, None, 5), (12, 1, 5)], 12),
        ([(0, 1, 5), (20, 1, 5), (21, None, None)], 20),
    ],
)
def test_stalled(looks: list[tuple[float, float | None, float | None]], expected: float | None) -> None:
    assert stalled(*looks) == expected
