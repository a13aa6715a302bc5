"""The configuration as the program uses it: frozen, validated, with all defaults filled in.

Attribute names are the keys of the YAML file. Durations are float seconds, None if they are off.
`Config.model_validate` takes plain data and reports everything that is wrong with it. In Python a duration may also be
a number of seconds; a file must name the unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from l4lb.config import rules
from l4lb.config.defaults import merge_defaults
from l4lb.config.fields.addresses import Binds
from l4lb.config.fields.networks import Zone
from l4lb.config.fields.strings import Name
from l4lb.config.sections import Section
from l4lb.config.sections.admin import Admin
from l4lb.config.sections.backend import Backend
from l4lb.config.sections.discover import Discover
from l4lb.config.sections.geo import Geo
from l4lb.config.sections.health import BackendHealth, Health, HealthTls, Progress, Step
from l4lb.config.sections.listener import Listener, ProxyProtocol
from l4lb.config.sections.load import Agent, BackendAgent, Load, LoadLimits, LoadSignals
from l4lb.config.sections.log import AccessLog, Log
from l4lb.config.sections.passive import Passive, ServerErrors
from l4lb.config.sections.pool import Hash, Pool, Queue, Rebalance, Sticky, Timeouts
from l4lb.config.sections.process import Process
from l4lb.config.sections.tcp import Tcp

__all__ = [
    "AccessLog",
    "Admin",
    "Agent",
    "Backend",
    "BackendAgent",
    "BackendHealth",
    "Config",
    "Defaults",
    "Discover",
    "Geo",
    "Hash",
    "Health",
    "HealthTls",
    "Listener",
    "Load",
    "LoadLimits",
    "LoadSignals",
    "Log",
    "Passive",
    "Pool",
    "Process",
    "Progress",
    "ProxyProtocol",
    "Queue",
    "Rebalance",
    "ServerErrors",
    "Step",
    "Sticky",
    "Tcp",
    "Timeouts",
]


class Defaults(Listener, Pool):
    """Any key of a listener or a pool, for those that are silent about it. Merged into them before they are read."""

    bind: Binds = ()
    pool: Name = ""
    backends: tuple[Backend, ...] = ()


class Config(Section):
    """A whole configuration: every listener names a pool that exists, and nothing clashes."""

    process: Process = Process()
    admin: Admin = Admin()
    log: Log = Log()
    defaults: Defaults = Defaults()

    geo: Geo | None = None
    """Not given: zones have networks only."""

    zones: dict[Name, Zone] = Field(default_factory=dict)
    """Where clients are: of each zone its networks, or what a database says of them."""

    listeners: dict[Name, Listener]
    pools: dict[Name, Pool]

    @model_validator(mode="wrap")
    @classmethod
    def _read_as_a_whole(cls, data: Any, read: ModelWrapValidatorHandler[Config]) -> Config:
        if not isinstance(data, Mapping):
            return read(data)
        merged = merge_defaults(data, frozenset(Listener.model_fields), frozenset(Pool.model_fields))
        details = [_conflict_details(conflict) for conflict in rules.find_conflicts(merged)]
        try:
            config = read(merged)
        except ValidationError as error:
            details = [*(_details(line) for line in error.errors()), *details]
        if details:
            raise ValidationError.from_exception_data("Config", details)
        return config


def _details(line: ErrorDetails) -> InitErrorDetails:
    return InitErrorDetails(type=line["type"], loc=line["loc"], input=line["input"], ctx=line.get("ctx", {}))


def _conflict_details(conflict: rules.Conflict) -> InitErrorDetails:
    error = PydanticCustomError("conflict", "{message}", {"message": conflict.message, "first": conflict.first})
    return InitErrorDetails(type=error, loc=conflict.loc, input=None)
