"""`backends`: the servers of a pool."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import model_validator

from l4lb.config.fields.addresses import Target
from l4lb.config.fields.numbers import Connections, MaxBusy, Tier, Weight
from l4lb.config.fields.strings import BackendName, Name
from l4lb.config.plain import backend_name
from l4lb.config.sections import Section
from l4lb.config.sections.health import BackendHealth
from l4lb.config.sections.load import BackendAgent


class Backend(Section):
    """One server of a pool. In a file, its address alone is enough."""

    name: BackendName
    """Its name in logs, metrics and commands, unique in the pool. Default: its address."""

    address: Target
    """Where it listens."""

    weight: Weight = 1
    """Its share of new sessions; with 0 it gets none."""

    max_connections: Connections = 0
    """Sessions at once; 0 is no limit. A full backend is skipped."""

    max_busy: MaxBusy = 0
    """Turns in flight beyond which it gets no more requests, or with `protocol: tcp` no more sessions; those that it
    has then may begin more turns. 0 is no limit. `auto` learns how many requests it works on at once, from what `load`
    reads; it needs a `queue`."""

    zone: Name | None = None
    """Where it is. It serves clients of that zone first."""

    tier: Tier = 0
    """Backends of higher tiers get what those of lower tiers cannot take."""

    health: BackendHealth | None = None
    """How it is checked. Default: as the pool."""

    agent: BackendAgent | None = None
    """Where its agent is. Default: as the pool."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, data: Any) -> Any:
        if not isinstance(data, Mapping | Backend):
            data = {"address": data}
        if isinstance(data, Mapping) and "name" not in data:
            # An address that cannot be read is reported as such, not as a missing name.
            return {**data, "name": backend_name(data) or "?"}
        return data
