"""Decides which answers of a source are accepted. An answer with far fewer endpoints than before, or none, is more
often a fault than the truth.

The endpoints that such an answer lacks are kept for a while. If the source then still works and still gives that
answer, it is accepted. An endpoint that was draining is expected to disappear.

Name servers often return a part of the records, a different one each time. So an endpoint that one answer lacks is
removed only after it was missing for a while and in several answers in a row. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from l4lb.discovery.source import Endpoint, Readiness

Endpoints = tuple[Endpoint, ...]

_GOING = (Readiness.DRAINING, Readiness.LAST_RESORT)


@dataclass(frozen=True, slots=True)
class ShrinkRules:
    """`max_removed` is a share from 0 to 1, `hold` is in seconds. If answers may be partial, an endpoint is removed
    after `misses` answers in a row without it; 0 means that answers are complete."""

    max_removed: float
    hold: float
    misses: int = 0


@dataclass(frozen=True, slots=True)
class Missing:
    """An endpoint that has been missing `since` a time, in this many `answers`."""

    endpoint: Endpoint
    since: float
    answers: int = 1


@dataclass(frozen=True, slots=True)
class AcceptedEndpoints:
    """`accepted` is the last accepted answer, None before the first. `answer` is the last answer if it is being held
    back since `held_since`."""

    accepted: Endpoints | None = None
    answer: Endpoints = ()
    held_since: float | None = None
    missing: tuple[Missing, ...] = ()

    @property
    def endpoints(self) -> Endpoints:
        """The endpoints to use."""
        accepted = self.accepted or ()
        if self.held_since is None:
            return accepted
        told = {endpoint.name for endpoint in self.answer}
        return (*self.answer, *(endpoint for endpoint in accepted if endpoint.name not in told))

    @property
    def held_back(self) -> int:
        """The number of endpoints in use that the last answer lacks."""
        return len(self.missing) if self.held_since is None else len(self.endpoints) - len(self.answer)

    def with_answer(self, answer: Sequence[Endpoint], now: float, rules: ShrinkRules) -> AcceptedEndpoints:
        """The state after another answer of the source."""
        answer = tuple(answer)
        if rules.misses and rules.hold:
            return self._with_partial_answer(answer, now, rules)
        if self.accepted is None or not _suspicious(self.accepted, answer, rules):
            return AcceptedEndpoints(answer)
        held = AcceptedEndpoints(self.accepted, answer, now if self.held_since is None else self.held_since)
        return held.unchanged(now, rules)

    def _with_partial_answer(self, answer: Endpoints, now: float, rules: ShrinkRules) -> AcceptedEndpoints:
        """The state after an answer that may be partial."""
        told = {endpoint.name for endpoint in answer}
        before = {one.endpoint.name: one for one in self.missing}
        missing = []
        for endpoint in self.accepted or ():
            if endpoint.name in told:
                continue
            known = before.get(endpoint.name)
            one = Missing(endpoint, now) if known is None else replace(known, answers=known.answers + 1)
            if one.answers < rules.misses or now < one.since + rules.hold:
                missing.append(one)
        # Sorted by name: the order does not reveal which answer lacked an endpoint.
        accepted = sorted((*answer, *(one.endpoint for one in missing)), key=lambda one: one.name)
        return AcceptedEndpoints(tuple(accepted), missing=tuple(missing))

    def unchanged(self, now: float, rules: ShrinkRules) -> AcceptedEndpoints:
        """The state after the source confirmed its last answer."""
        if self.held_since is None or now < self.held_since + rules.hold:
            return self
        return AcceptedEndpoints(self.answer)


def _suspicious(accepted: Endpoints, answer: Endpoints, rules: ShrinkRules) -> bool:
    told = {endpoint.name for endpoint in answer}
    staying = [endpoint for endpoint in accepted if endpoint.readiness not in _GOING]
    if all(endpoint.name in told for endpoint in staying):
        return False
    return not answer or len(answer) < len(staying) * (1 - rules.max_removed)
