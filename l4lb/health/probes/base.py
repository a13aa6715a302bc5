"""What every probe is given, and what it says."""

from __future__ import annotations

import enum
import socket
from dataclasses import dataclass
from typing import Literal

from l4lb.engine.api import SocketAddress
from l4lb.interfaces import host_text, socket_address

SendProxy = Literal["off", "v1", "v2"]


@dataclass(frozen=True, slots=True)
class Target:
    """Where a backend is checked, and from which IP addresses; where none of its family is given, from any."""

    family: socket.AddressFamily
    address: SocketAddress
    sources: tuple[str, ...] = ()

    @property
    def host(self) -> str | None:
        """The IP address, with the number of its interface if it is link-local; None on a unix socket."""
        return None if isinstance(self.address, str) else host_text(self.address)

    def at(self, port: int) -> Target:
        """The same host at another port. A unix socket has none, and stays as it is."""
        return self if isinstance(self.address, str) else ip_target(host_text(self.address), port)


def ip_target(host: str, port: int) -> Target:
    """Of an IP address, which may have an interface. OSError if that is not there."""
    return Target(socket.AF_INET6 if ":" in host else socket.AF_INET, socket_address(host, port))


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


class AnswerError(Exception):
    """The answer is none, or too much. `str()` is one line."""
