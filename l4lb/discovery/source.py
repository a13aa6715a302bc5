"""What every source of backends is to the rest: somebody who reports endpoints until it breaks."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn, Protocol

from l4lb.config import Address

ENDPOINTS_MAX = 16_384
"""Endpoints of one source. More are taken for a fault."""

ANSWER_MAX = 8 * 1024 * 1024
"""Bytes of one answer, whatever its form."""

WEIGHT_MAX = 256
TIER_MAX = 15


class Readiness(enum.StrEnum):
    """What a source says of an endpoint: `draining` ones are about to go, `not_ready` ones may come or come back. A
    `last_resort` is about to go too, but still serves, and nobody else is ready."""

    READY = "ready"
    LAST_RESORT = "last_resort"
    NOT_READY = "not_ready"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A backend as a source knows it. `name` is unique in an answer, and the same in the next one.

    Clients go to a `tier` when those below it have nobody for them. `zone` is where the endpoint is, or whose clients
    it is meant for.
    """

    name: str
    address: Address
    weight: int = 1
    zone: str | None = None
    tier: int = 0
    readiness: Readiness = Readiness.READY


@dataclass(slots=True)
class Answer:
    """What a source said: the endpoints, why nothing could be made of other entries, and remarks that matter less, both
    by what they are about."""

    endpoints: list[Endpoint] = field(default_factory=list)
    unusable: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


class DiscoveryError(Exception):
    """A source did not answer, or not with endpoints: `str()` says why, in a few words."""


class NothingThere(DiscoveryError):
    """The source did answer, but with nothing at all: a fault, unless all answers are accepted."""


class Report(Protocol):
    """Where a source tells what it finds. To be called on the event loop."""

    async def found(self, answer: Answer | Sequence[Endpoint]) -> None:
        """These are all there are. To be called again after each change; the same answer twice does no harm."""

    def unchanged(self) -> None:
        """What was found last is still so."""

    def failed(self, message: str) -> None:
        """There is no answer now. For a source that goes on by itself; any other raises an error."""


class Source(Protocol):
    interval: float
    """Seconds from one answer to the next when all is well; infinity where it is told of changes. One that failed is
    asked again after no longer than that."""

    async def watch(self, report: Report) -> NoReturn:
        """Report what there is, and each change of it, until cancelled or broken.

        What it raises as DiscoveryError, OSError, TimeoutError or ValueError is a failure of the source: it is called
        again after a while. Every wait has a deadline. Nothing is left behind on leaving.
        """
