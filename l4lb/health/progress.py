"""Detects servers whose work has stalled: a counter stands still while requests are running. Pure.

Health checks do not find this: a model server whose engine hangs still responds to them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Work:
    """What a server reported at one time: requests in progress, and the work done so far. None is unknown."""

    at: float
    running: float | None
    done: float | None


@dataclass(frozen=True, slots=True)
class ProgressTrack:
    """`since` is when the counter was first seen with this value while requests were running."""

    last: Work | None = None
    since: float | None = None

    def observe(self, work: Work) -> ProgressTrack:
        """The track after another report. Unknown values change nothing."""
        if work.running is None or work.done is None:
            return self
        if work.running <= 0:
            return ProgressTrack(work)
        moved = self.last is None or self.last.done != work.done
        return ProgressTrack(work, work.at if moved or self.since is None else self.since)

    def stalled(self, limit: float) -> float | None:
        """For how long the counter has stood still, as of the last report; None if that is shorter than `limit`
        seconds."""
        if self.last is None or self.since is None or self.last.at - self.since < limit:
            return None
        return self.last.at - self.since
