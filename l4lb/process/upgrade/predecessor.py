"""The side of an upgrade in place that comes: how a process takes over from the one that started it."""

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
"""Seconds for everything that a predecessor has to tell."""

OVER_TIMEOUT = 60.0
"""Seconds from being ready until it lets go, and from then until it has nothing more to say."""

FAREWELL_TIMEOUT = 5.0

REASON_MAX = 4000


def arrive() -> socket.socket | None:
    """The socket to the predecessor that started this process, None if nobody did; StartError if that cannot be.

    Called before the first thread starts, as it forks: the parent of a successor has to be the service manager, or
    whoever else takes care of orphans, because only its parent hears of its end.
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
    """What a process begins with: nothing, or what its predecessor told it."""

    inherited: Inherited = field(default_factory=Inherited)
    memory: HandoverData = field(default_factory=HandoverData)
    upgrades: UpgradeStatus = field(default_factory=UpgradeStatus)
    names: set[BindKey] = field(default_factory=set)

    def kept(self) -> list[BindKey]:
        """The names of the sockets that are in use here."""
        return sorted(self.names - self.inherited.named.keys(), key=str)


class Predecessor:
    """The process that is to be replaced."""

    def __init__(self, sock: socket.socket) -> None:
        self._channel = Channel(sock)
        self._pidfd: int | None = None

    @property
    def lives(self) -> bool:
        """Whether it still is there, as it is while it has sessions."""
        return self._pidfd is not None

    async def receive_all(self) -> Inheritance:
        """Everything that it has to tell. StartError if it does not."""
        inheritance, listener = Inheritance(Inherited(shared=True)), HandoverReader()
        inheritance.memory = listener.memory
        try:
            async with asyncio.timeout(HEARING_TIMEOUT):
                await self._greet()
                while (message := await self._channel.receive()).kind != "complete":
                    _read_message(message, inheritance, listener)
        except BaseException as error:
            # They are the predecessor's as well, so nobody is cut off.
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
        """Say that all is ready to accept clients from these sockets, and wait until nobody else does.

        What has happened there meanwhile. If it is gone, there is nobody else: that is good enough. StartError if it
        hangs, or if `stop` ends first.
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
        """Say that this process has all it needs, and wait for the end of the conversation: from then on it is the only
        one, and the main process of the service. StartError if the end does not come."""
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
        """Watch for its end no longer. Idempotent."""
        if self._pidfd is not None:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None

    async def report_failure(self, reason: str) -> None:
        """Say why this process cannot take over."""
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
            return StartError("the process that is to be replaced does not go on; look at its log")
        case PeerEnded():
            return StartError("the process that was to be replaced ended before it had told everything; start anew")
        case HandoverError() | KeyError() | ValueError() | TypeError() | IndexError():
            return StartError(f"the process that is to be replaced is not understood ({error}); restart instead")
        case _:
            return error
