"""The new process's side of an upgrade in place: it takes over from the process that started it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

from l4lb._version import __version__
from l4lb.config import Address
from l4lb.errors import StartError
from l4lb.handover.records import HandoverData, HandoverReader
from l4lb.process.upgrade.channel import (
    ENVIRONMENT,
    PROTOCOL,
    Channel,
    HandoverError,
    Message,
    PeerEnded,
    send_blocking,
)
from l4lb.sockets.bind import BindKey
from l4lb.sockets.inherited import Inherited
from l4lb.status import UpgradeStatus

HEARING_TIMEOUT = 60.0
"""Seconds for everything that a predecessor hands over before this process is ready."""

OVER_TIMEOUT = 60.0
"""Seconds until the predecessor releases its sockets, and from then until it closes the channel."""

FAREWELL_TIMEOUT = 5.0

REASON_MAX = 4000


def arrive() -> socket.socket | None:
    """The socket to the predecessor that started this process, None if there is none; StartError if it is unusable.

    Called before the first thread starts, because it forks: the service manager, or whatever else adopts orphans, has
    to become the parent of a successor, as only a parent learns how a process ended.
    """
    value = os.environ.pop(ENVIRONMENT, None)
    if value is None:
        return None
    try:
        sock = socket.socket(fileno=int(value))
        if sock.family != socket.AF_UNIX:
            raise OSError
    except (ValueError, OSError):
        raise StartError(f"{ENVIRONMENT}={value} is no socket of another l4lb; unset it") from None
    sock.set_inheritable(False)
    pid = os.fork()
    if pid == 0:
        return sock
    with contextlib.suppress(OSError):
        send_blocking(sock, "hello", protocol=PROTOCOL, version=__version__, pid=pid)
    os._exit(0)


@dataclass(slots=True)
class Inheritance:
    """What a process begins with: nothing, or what its predecessor has handed over."""

    inherited: Inherited = field(default_factory=Inherited)
    memory: HandoverData = field(default_factory=HandoverData)
    upgrades: UpgradeStatus = field(default_factory=UpgradeStatus)
    names: set[BindKey] = field(default_factory=set)

    def kept(self) -> list[BindKey]:
        """The names of the inherited sockets that this process uses."""
        return sorted(self.names - self.inherited.named.keys(), key=str)


class Predecessor:
    """The process that this one replaces."""

    def __init__(self, sock: socket.socket) -> None:
        self._channel = Channel(sock)
        self._pidfd: int | None = None

    @property
    def lives(self) -> bool:
        """Whether the process still exists, as it does while it has sessions."""
        return self._pidfd is not None

    async def receive_all(self) -> Inheritance:
        """Everything that it hands over before this process is ready. StartError if it fails."""
        inheritance, listener = Inheritance(Inherited(shared=True)), HandoverReader()
        inheritance.memory = listener.memory
        try:
            async with asyncio.timeout(HEARING_TIMEOUT):
                await self._greet()
                while (message := await self._channel.receive()).kind != "complete":
                    _read_message(message, inheritance, listener)
        except BaseException as error:
            # The predecessor still has these sockets, so no client is cut off.
            inheritance.inherited.close()
            raise _start_error(error) from error
        return inheritance

    async def _greet(self) -> None:
        hello = await self._channel.receive()
        hello.close()
        self._watch(int(hello.fields["pid"]))
        if hello.fields["protocol"] != PROTOCOL:
            raise StartError(
                f"l4lb {__version__} cannot take over from l4lb {hello.fields['version']}, which hands over in "
                "another way; restart instead"
            )

    async def wait_released(self, kept: Iterable[BindKey], stop: Coroutine[Any, Any, None]) -> HandoverData:
        """Report that this process is ready to accept clients from the sockets in `kept`, and wait until the
        predecessor has stopped accepting.

        The result is what changed there meanwhile. A predecessor that has ended accepts no clients either. StartError
        if it hangs, or if `stop` ends first.
        """
        stopping = asyncio.ensure_future(stop)
        going = asyncio.ensure_future(self._ready(kept))
        try:
            async with asyncio.timeout(OVER_TIMEOUT):
                await asyncio.wait([stopping, going], return_when=asyncio.FIRST_COMPLETED)
            if stopping.done():
                raise StartError("it was told to stop before it had taken over")
            return await going
        except Exception as error:
            raise _start_error(error) from error
        finally:
            for waiting in (stopping, going):
                waiting.cancel()
            await asyncio.gather(stopping, going, return_exceptions=True)

    async def _ready(self, kept: Iterable[BindKey]) -> HandoverData:
        listener = HandoverReader()
        with contextlib.suppress(PeerEnded):
            await self._channel.send("ready", kept=[[name, str(address)] for name, address in kept])
            while (message := await self._channel.receive()).kind != "over":
                _read_message(message, Inheritance(), listener)
        return listener.memory

    async def confirm(self) -> None:
        """Report that this process has all it needs, and wait until the predecessor closes the channel. From then on
        this is the main process of the service. StartError if that does not happen."""
        try:
            async with asyncio.timeout(OVER_TIMEOUT):
                await self._channel.send("taken")
                while True:
                    (await self._channel.receive()).close()
        except PeerEnded:
            self._channel.close()
        except Exception as error:
            raise _start_error(error) from error

    def _watch(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._pidfd = os.pidfd_open(pid)
            asyncio.get_running_loop().add_reader(self._pidfd, self.forget)

    def forget(self) -> None:
        """Stop watching for its end. Idempotent."""
        if self._pidfd is not None:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None

    async def report_failure(self, reason: str) -> None:
        """Report why this process cannot take over."""
        with contextlib.suppress(TimeoutError, HandoverError):
            async with asyncio.timeout(FAREWELL_TIMEOUT):
                await self._channel.send("failed", reason=reason[:REASON_MAX])
        self._channel.close()


def _read_message(message: Message, inheritance: Inheritance, listener: HandoverReader) -> None:
    descriptors = list(message.descriptors)
    try:
        match message.kind:
            case "sockets":
                for name, address in message.fields["names"]:
                    key = (str(name), Address.parse(address))
                    sock = socket.socket(fileno=descriptors[0])
                    del descriptors[0]
                    inheritance.names.add(key)
                    inheritance.inherited.named.setdefault(key, []).append(sock)
            case "lent":
                inheritance.inherited.from_unit += [socket.socket(fileno=descriptors.pop(0)) for _ in list(descriptors)]
            case "upgrades":
                done, failed = int(message.fields["done"]), int(message.fields["failed"])
                inheritance.upgrades = UpgradeStatus(done_total=done, failed_total=failed)
            case kind:
                listener.read(kind, message.fields)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _start_error(error: BaseException) -> BaseException:
    match error:
        case TimeoutError():
            return StartError("the process to be replaced does not respond; see its log")
        case PeerEnded():
            return StartError("the process to be replaced ended before it had handed everything over; start again")
        case HandoverError() | KeyError() | ValueError() | TypeError() | IndexError():
            return StartError(f"invalid message from the process to be replaced ({error}); restart instead")
        case _:
            return error
