"""The successor as its predecessor sees it: starts it, exchanges messages, explains its failures, and ends it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from l4lb._version import __version__
from l4lb.process.capabilities import passing_on_low_ports
from l4lb.process.signals import holding_signals
from l4lb.process.upgrade.channel import ENVIRONMENT, PROTOCOL, Channel, HandoverError, Message, PeerEnded

T = TypeVar("T")

ENDING_TIMEOUT = 5.0
"""Seconds to wait for a process that has closed its channel or was killed."""


class UpgradeError(Exception):
    """The upgrade failed; `str()` says why."""


@dataclass(slots=True)
class Successor:
    """Owns a child that has been started and its end of `channel`.

    The child forks before its first message and ends (see `predecessor`), so `pid` is that of an orphan; until then it
    is the child's. `close` ends the successor, `release` leaves it running.
    """

    channel: Channel
    child: subprocess.Popen[bytes]
    program: str
    pid: int
    version: str = "?"
    pidfd: int | None = None

    @staticmethod
    def start(command: Sequence[str], environment: Mapping[str, str]) -> Successor:
        """UpgradeError if the command cannot be started."""
        ours, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as undo:
            undo.callback(ours.close)
            try:
                with holding_signals(), passing_on_low_ports():
                    child = subprocess.Popen(
                        command,
                        env={**environment, ENVIRONMENT: str(theirs.fileno())},
                        pass_fds=(theirs.fileno(),),
                    )
            except OSError as error:
                raise UpgradeError(f"cannot start {command[0]}: {error.strerror}") from error
            undo.pop_all()
        return Successor(Channel(ours), child, command[0], child.pid)

    async def introduce(self) -> None:
        """Exchange process ids and versions."""
        hello = await self.receive("hello")
        self.pid, self.version = int(hello.fields["pid"]), str(hello.fields["version"])
        with contextlib.suppress(ProcessLookupError):
            self.pidfd = os.pidfd_open(self.pid)
        if hello.fields["protocol"] != PROTOCOL:
            raise UpgradeError(
                f"l4lb {self.version} cannot take over from l4lb {__version__}, which hands over in another way; "
                "restart instead"
            )
        await self._reap()
        await self.channel.send("hello", protocol=PROTOCOL, version=__version__, pid=os.getpid())

    async def receive(self, kind: str) -> Message:
        """The next message of this kind; others are ignored. UpgradeError if the successor gives up."""
        while True:
            message = await self.channel.receive()
            message.close()
            if message.kind == "failed":
                raise UpgradeError(f"{self._shown} cannot start: {message.fields['reason']}")
            if message.kind == kind:
                return message

    async def within(self, seconds: float, what: str, work: Coroutine[Any, Any, T]) -> T:
        """Do `work` within a time limit. UpgradeError says why it failed, with `what` if it took too long."""
        try:
            async with asyncio.timeout(seconds):
                return await work
        except TimeoutError:
            raise UpgradeError(f"{self._shown} {what} within {seconds:g} s, and was ended") from None
        except PeerEnded:
            raise UpgradeError(await self._last_words()) from None
        except (HandoverError, KeyError, ValueError, TypeError) as error:
            raise UpgradeError(f"{self._shown} sent an invalid message: {error}") from None

    async def _last_words(self) -> str:
        """Why it ended."""
        try:
            async with asyncio.timeout(ENDING_TIMEOUT):
                # It may have sent a reason before it ended.
                await self.receive("")
        except UpgradeError as error:
            return str(error)
        except (HandoverError, KeyError, TimeoutError):
            pass
        if self.pid != self.child.pid:
            return f"{self._shown} ended without a word; what it wrote to stderr may tell more"
        status = await self._reap()
        if status is None:
            return f"{self._shown} does not take over; is it l4lb, of a version that can?"
        ending = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        return f"{self._shown} {ending}; what it wrote to stderr may tell more"

    @property
    def _shown(self) -> str:
        return f"{self.program} (process {self.pid})"

    def release(self) -> None:
        """Leave it running on its own. Idempotent."""
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None
        self.channel.close()

    async def close(self) -> None:
        """End it. Idempotent."""
        self._kill()
        await self._gone()
        await self._reap()
        # Last, because a process that is alive and sees the channel closed believes to be the only one.
        self.release()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self.pidfd is not None:
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        if self.child.poll() is None:
            self.child.kill()

    async def _gone(self) -> None:
        if self.pidfd is None:
            return
        loop, gone = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self.pidfd, gone.set)
        try:
            async with asyncio.timeout(ENDING_TIMEOUT):
                await gone.wait()
        except TimeoutError:
            pass
        finally:
            loop.remove_reader(self.pidfd)

    async def _reap(self) -> int | None:
        """The exit status of the child; None if it does not end."""
        try:
            return await asyncio.to_thread(self.child.wait, ENDING_TIMEOUT)
        except subprocess.TimeoutExpired:
            return None
