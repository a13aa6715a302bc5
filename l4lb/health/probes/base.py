"""What every probe is given, and what it says."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from l4lb.net.connection import SendProxy


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose health is asked for. `host` is the host of its address as configured, None on a unix socket."""

    pool: str = ""
    backend: str = ""
    host: str | None = None
    send_proxy: SendProxy = "off"


class Outcome(enum.Enum):
    """How a check went. TIMEOUT is a failure too, unless there is other news of the backend; HINDERED says nothing of
    it: this host had no descriptor, no memory or no time."""

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
