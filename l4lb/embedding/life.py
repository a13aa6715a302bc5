"""What is said to whoever calls a balancer that does not run."""

from __future__ import annotations

import enum


class Life(enum.Enum):
    """Where a balancer is in its life; the value says why it cannot be asked then."""

    NEW = "the balancer does not run yet; use it inside of `with`, or call start() first"
    STARTING = "the balancer is still starting; wait for start() to return"
    RUNNING = "the balancer runs already"
    CLOSED = "the balancer is closed; make another one"
