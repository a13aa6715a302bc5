"""The life of an embedded balancer, and the errors for calls at the wrong time."""

from __future__ import annotations

import enum


class Life(enum.Enum):
    """Where a balancer is in its life; the value is the message for a call that does not fit."""

    NEW = "the balancer does not run yet; use it inside of `with`, or call start() first"
    STARTING = "the balancer is still starting; wait for start() to return"
    RUNNING = "the balancer runs already"
    CLOSED = "the balancer is closed; make another one"
