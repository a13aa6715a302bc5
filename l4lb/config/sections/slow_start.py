"""`slow_start`: how a backend that has just become usable gets its load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import model_validator

from l4lb.config.fields.durations import TimeoutOrOff
from l4lb.config.fields.numbers import Connections, Count
from l4lb.config.sections import Section


class SlowStart(Section):
    """How a backend that has just become usable gets its load. In a file, `duration` alone is enough."""

    duration: TimeoutOrOff = None
    """Time in which its weight grows from a tenth to all of it."""

    turns: Connections = 0
    """Turns in flight that it may have while it is cold; 0 is no limit. Further clients go elsewhere, or wait in the
    `queue`; without one they get a cold backend if there is no other."""

    responses: Count = 3
    """Responses after which it is no longer cold. A minute after it became usable it is warm in any case."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, data: Any) -> Any:
        return data if isinstance(data, Mapping | SlowStart) else {"duration": data}
