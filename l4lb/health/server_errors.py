"""The share of server errors (5xx) among the recent responses of a backend, from counters that only grow. Pure.

The counters of a few moments are kept, a tenth of the time span apart, so that what is counted happened in between one
and 1.1 time spans.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

STEPS = 10
"""Moments kept in one time span."""


@dataclass(frozen=True, slots=True)
class ServerErrorRule:
    """At least `responses` within `within` seconds, of which a share of at least `share` are server errors."""

    share: float
    responses: int
    within: float


class Moment(NamedTuple):
    """The counters at a time, in seconds of a monotonic clock."""

    at: float
    responses: int
    errors: int


History = tuple[Moment, ...]
"""Moments, oldest first. The first one is what later ones are compared with."""


def extended(history: History, now: Moment, rule: ServerErrorRule) -> History:
    """The history with this moment, if enough time has passed. The same object if it is unchanged."""
    if history and (now[1:] == history[-1][1:] or now.at - history[-1].at < rule.within / STEPS):
        return history
    begin = now.at - rule.within
    old = sum(moment.at <= begin for moment in history)
    return (*history[max(0, old - 1) :], now)


def recent(history: History, now: Moment, rule: ServerErrorRule) -> tuple[int, int]:
    """The responses in the time span that ends now, and the server errors among them."""
    begin = now.at - rule.within
    base = next((moment for moment in reversed(history) if moment.at <= begin), history[0] if history else now)
    return now.responses - base.responses, now.errors - base.errors


def share(history: History, now: Moment, rule: ServerErrorRule) -> float:
    """The share of server errors in the time span that ends now; 0 if there were too few responses."""
    responses, errors = recent(history, now, rule)
    return errors / responses if responses >= rule.responses else 0.0


def is_too_high(found: float, rule: ServerErrorRule) -> bool:
    """Whether this share of server errors is more than none, and at least what the rule allows."""
    return found > 0 and found >= rule.share
