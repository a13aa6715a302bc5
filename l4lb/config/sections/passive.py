"""`passive`: what clients' connections tell of backends."""

from __future__ import annotations

from pydantic import Field

from l4lb.config.fields.durations import Timeout, TimeoutOrOff
from l4lb.config.fields.numbers import Count, Percentage
from l4lb.config.sections import Section


class ServerErrors(Section):
    """Which share of server errors (5xx) ejects a backend."""

    share: Percentage = Field(default=0.5, json_schema_extra={"default": "50%"})
    """Share of the backend's responses that have a status of 5xx."""

    responses: Count = 20
    """Responses that the backend must have given in that time; fewer prove nothing."""

    within: Timeout = 10.0
    """The time that is looked at, up to now."""


class Passive(Section):
    """What clients' connections tell: a backend that fails them is ejected for a while."""

    failures: Count = 5
    """A backend is ejected when its failures outnumber its successes by this many."""

    eject: Timeout = 30.0
    """How long the first ejection lasts; the second lasts twice as long, up to ten times."""

    max_ejected: Percentage = Field(default=0.5, json_schema_extra={"default": "50%"})
    """Share of the pool's backends that may be ejected at once, rounded down but at least one; never the last usable
    one."""

    black_hole: TimeoutOrOff = 30.0
    """Silence after which a backend that owes responses is ejected, while others of the pool respond."""

    server_errors: ServerErrors | None = None
    """With `protocol: http1`: eject a backend for the statuses of its responses. Without the section, statuses eject
    no backend."""
