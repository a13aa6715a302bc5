"""Input and result of a probe."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from l4lb.net.connection import SendProxy


@dataclass(frozen=True, slots=True)
class Subject:
    """The backend that is checked. `host` is the host of its address as configured, None for a unix socket."""

    pool: str = ""
    backend: str = ""
    host: str | None = None
    send_proxy: SendProxy = "off"


class Outcome(enum.Enum):
    """The outcome of a check. TIMEOUT is a failure unless there is other evidence about the backend. HINDERED says
    nothing about the backend: this host lacked descriptors, memory or CPU time."""

    SUCCESS = enum.auto()
    FAILURE = enum.auto()
    TIMEOUT = enum.auto()
    HINDERED = enum.auto()


@dataclass(frozen=True, slots=True)
class Result:
    """`message` is one line for people."""

    outcome: Outcome
    message: str

    @property
    def ok(self) -> bool:
        return self.outcome is Outcome.SUCCESS


def success(message: str) -> Result:
    return Result(Outcome.SUCCESS, message)


def failure(message: str) -> Result:
    return Result(Outcome.FAILURE, message)
