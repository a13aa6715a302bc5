"""The interface between a source of endpoints and its follower."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn, Protocol

from l4lb.config import Address

ENDPOINTS_MAX = 16_384
"""Maximum endpoints of one source. More count as a fault."""

ANSWER_MAX = 8 * 1024 * 1024
"""Maximum bytes of one answer in any format."""


class Readiness(enum.StrEnum):
    """What a source says about an endpoint: `draining` endpoints are about to go, `not_ready` ones may come or come
    back. A `last_resort` is about to go too, but still serves, and no endpoint is ready."""

    READY = "ready"
    LAST_RESORT = "last_resort"
    NOT_READY = "not_ready"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A backend as a source describes it. `name` is unique in an answer and stable across answers.

    Clients go to a `tier` when no lower tier can take them. `zone` is where the endpoint is, or whose clients should
    use it.
    """

    name: str
    address: Address
    weight: int = 1
    zone: str | None = None
    tier: int = 0
    readiness: Readiness = Readiness.READY


@dataclass(slots=True)
class Answer:
    """What a source reported: the endpoints, the problems with unusable entries, and less important remarks, both by
    the entry that they concern."""

    endpoints: list[Endpoint] = field(default_factory=list)
    unusable: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


class DiscoveryError(Exception):
    """The source did not answer, or its answer is invalid: `str()` says why, in a few words."""


class NothingThere(DiscoveryError):
    """The source answered with nothing at all: a fault, unless all answers are accepted."""


class Report(Protocol):
    """Receives what a source finds. Called on the event loop."""

    async def found(self, answer: Answer | Sequence[Endpoint]) -> None:
        """These are all endpoints. Call it again after each change; reporting the same answer twice is harmless."""

    def unchanged(self) -> None:
        """The last answer still holds."""

    def failed(self, message: str) -> None:
        """There is no answer now. For sources that go on by themselves; others raise an error."""


class Source(Protocol):
    interval: float
    """`interval` is the number of seconds between two answers when all is well, infinity for sources that are notified
    of changes. A source that failed is asked again after no longer than that."""

    async def watch(self, report: Report) -> NoReturn:
        """Report the endpoints and each change, until cancelled or broken.

        DiscoveryError, OSError, TimeoutError and ValueError are failures of the source: the follower calls `watch`
        again after a while. Every wait has a deadline, and all resources are released on return.
        """
