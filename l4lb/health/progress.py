"""Does a server get on with its work? A counter that stands still while requests are running says no. Pure.

Checks do not see it: model servers whose engine hangs go on answering them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Work:
    """What a server said at one time: requests it works on, and what it has done so far. None is unknown."""

    at: float
    running: float | None
    done: float | None


@dataclass(frozen=True, slots=True)
class ProgressTrack:
    """`since` is when the counter was first seen to have this value while requests were running."""

    last: Work | None = None
    since: float | None = None

    def observe(self, work: Work) -> ProgressTrack:
        """The progress after one more look. What is unknown changes nothing."""
        if work.running is None or work.done is None:
            return self
        if work.running <= 0:
            return ProgressTrack(work)
        moved = self.last is None or self.last.done != work.done
        return ProgressTrack(work, work.at if moved or self.since is None else self.since)

    def stalled(self, limit: float) -> float | None:
        """For how long it has stood still, as of the last look; None unless that is `limit` seconds or more."""
        if self.last is None or self.since is None or self.last.at - self.since < limit:
            return None
        return self.last.at - self.since
