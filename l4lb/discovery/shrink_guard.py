"""What is accepted of an answer: one that suddenly has far fewer endpoints, or none, is more often a fault than true.

What such an answer lacks is kept for a while. If the source then still works and still says so, it is accepted. An
endpoint that was draining is expected to go.

Name servers often show a part of what there is, another part each time. So one answer that lacks an endpoint says
little: it has to be missing for a while, and in several answers in a row. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from l4lb.discovery.source import Endpoint, Readiness

Endpoints = tuple[Endpoint, ...]

_GOING = (Readiness.DRAINING, Readiness.LAST_RESORT)


@dataclass(frozen=True, slots=True)
class ShrinkRules:
    """`max_removed` is a share from 0 to 1; `hold` is seconds. Where answers may be parts, an endpoint is gone after so
    many `misses` in a row; 0 where each answer is all there is."""

    max_removed: float
    hold: float
    misses: int = 0


@dataclass(frozen=True, slots=True)
class Missing:
    """An endpoint that was in no answer `since` then, in so many `answers`."""

    endpoint: Endpoint
    since: float
    answers: int = 1


@dataclass(frozen=True, slots=True)
class AcceptedEndpoints:
    """`believed` is the last answer that was, None before the first; `answer` the last one, if it is held back since
    `held_since`."""

    accepted: Endpoints | None = None
    answer: Endpoints = ()
    held_since: float | None = None
    missing: tuple[Missing, ...] = ()

    @property
    def endpoints(self) -> Endpoints:
        """What there is to the best of our knowledge."""
        accepted = self.accepted or ()
        if self.held_since is None:
            return accepted
        told = {endpoint.name for endpoint in self.answer}
        return (*self.answer, *(endpoint for endpoint in accepted if endpoint.name not in told))

    @property
    def held_back(self) -> int:
        """How many endpoints are there only because the last answer is not accepted."""
        return len(self.missing) if self.held_since is None else len(self.endpoints) - len(self.answer)

    def with_answer(self, answer: Sequence[Endpoint], now: float, rules: ShrinkRules) -> AcceptedEndpoints:
        """After another answer of the source."""
        answer = tuple(answer)
        if rules.misses and rules.hold:
            return self._remembering(answer, now, rules)
        if self.accepted is None or not _suspicious(self.accepted, answer, rules):
            return AcceptedEndpoints(answer)
        held = AcceptedEndpoints(self.accepted, answer, now if self.held_since is None else self.held_since)
        return held.unchanged(now, rules)

    def _remembering(self, answer: Endpoints, now: float, rules: ShrinkRules) -> AcceptedEndpoints:
        """After an answer that may be a part of what there is."""
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
        # In the order of names, which does not tell what was missing in which answer.
        accepted = sorted((*answer, *(one.endpoint for one in missing)), key=lambda one: one.name)
        return AcceptedEndpoints(tuple(accepted), missing=tuple(missing))

    def unchanged(self, now: float, rules: ShrinkRules) -> AcceptedEndpoints:
        """After the source was found to say the same as last, still."""
        if self.held_since is None or now < self.held_since + rules.hold:
            return self
        return AcceptedEndpoints(self.answer)


def _suspicious(accepted: Endpoints, answer: Endpoints, rules: ShrinkRules) -> bool:
    told = {endpoint.name for endpoint in answer}
    staying = [endpoint for endpoint in accepted if endpoint.readiness not in _GOING]
    if all(endpoint.name in told for endpoint in staying):
        return False
    return not answer or len(answer) < len(staying) * (1 - rules.max_removed)
