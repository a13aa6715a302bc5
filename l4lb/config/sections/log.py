"""`log`: what the process says about itself, and about its sessions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from l4lb.config.fields.durations import Interval
from l4lb.config.fields.shape import AT_LEAST_ONE, Written, list_schema, one_or_many
from l4lb.config.fields.strings import FilePath
from l4lb.config.sections import Section

Event = Literal["open", "interval", "request", "close"]
Events = Annotated[
    tuple[Event, ...],
    Field(max_length=4),
    BeforeValidator(one_or_many),
    AT_LEAST_ONE,
    list_schema({"enum": ["open", "interval", "request", "close"]}),
    Written("of `open`, `interval`, `request`, `close`"),
]


class AccessLog(Section):
    """One line for each session, or for each of its events."""

    to: FilePath = "-"
    """File to append to, created with mode 0640; a FIFO works too. `-` is standard output."""

    format: Literal["json", "tcplog"] = "json"
    """`tcplog` is HAProxy's TCP log line."""

    events: Events = ("close",)
    """When to log a session: once it is connected to a backend (`open`), at regular times (`interval`), after each
    response in a pool with `protocol: http1` (`request`), at its end (`close`)."""

    interval: Interval = 60.0
    """How often to log a session when `events` has `interval`."""


class Log(Section):
    """What the process says about itself, on standard error, and about its sessions."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important lines to write."""

    format: Literal["text", "json"] = "text"
    """`json` writes one object a line with `time`, `level`, `logger`, `message` and, for an error inside l4lb,
    `exception`."""

    access: AccessLog | None = None
    """The access log. Without the section sessions are not logged."""
