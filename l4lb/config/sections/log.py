"""`log`: what the process says about itself, and about its sessions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from l4lb.config.fields.durations import Interval
from l4lb.config.fields.shape import AT_LEAST_ONE, list_schema, one_or_many
from l4lb.config.fields.words import FilePath
from l4lb.config.sections import Section

Event = Literal["open", "interval", "close"]
Events = Annotated[
    tuple[Event, ...],
    Field(max_length=3),
    BeforeValidator(one_or_many),
    AT_LEAST_ONE,
    list_schema({"enum": ["open", "interval", "close"]}),
]


class AccessLog(Section):
    """One line for each session, or for each of its events."""

    to: FilePath = "-"
    """A file to append to; `-` is standard output."""

    format: Literal["json", "tcplog"] = "json"
    """`tcplog` is the TCP log line of HAProxy."""

    events: Events = ("close",)
    """Which events of a session are logged."""

    interval: Interval = 60.0
    """How often a long session is logged when `events` has `interval`."""


class Log(Section):
    """What the process says about itself, on standard error, and about its sessions."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important lines that are written."""

    format: Literal["text", "json"] = "text"
    """`json` is one object a line."""

    access: AccessLog | None = None
    """Not given: sessions are not logged."""
