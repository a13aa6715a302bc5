"""The side of an upgrade in place that leaves: it starts its successor, tells it everything, and lets go once that one
has it all. Until then nothing is given up: a successor that fails at any step changes nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from l4lb.admin.server import AdminServer
from l4lb.balancer.balancer import Balancer
from l4lb.config import Address
from l4lb.handover.batches import batches
from l4lb.handover.records import backend_messages, seat_messages
from l4lb.process.upgrade.channel import DESCRIPTORS_MAX, Channel
from l4lb.process.upgrade.successor import Successor, UpgradeError
from l4lb.sockets.bind import BindKey
from l4lb.state.state import State
from l4lb.status import UpgradeOutcome, UpgradeStatus

READY_TIMEOUT = 60.0
"""Seconds until a successor has to be ready: it may have to resolve names and to check backends that are new to it."""

TAKEN_TIMEOUT = 30.0
"""Seconds from then until it has taken over. Clients and requests wait meanwhile: normally for milliseconds, and with
large sticky tables for as long as these take to be told."""

SLACK = 1.0
"""Seconds by which clients may be taken to have come later than they did."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Exported:
    """What a successor was told of, and when that began."""

    state: State
    at: float


@dataclass(frozen=True, slots=True)
class HandoverSource:
    """What is handed over."""

    balancer: Balancer
    admin: AdminServer


class Upgrades:
    """Makes upgrades, one at a time, by starting `command`. `on_done(pid)` is called when it is a successor that
    serves; it does not wait. `status` is what predecessors have come to."""

    def __init__(
        self, source: HandoverSource, command: Sequence[str], on_done: Callable[[int], None], status: UpgradeStatus
    ) -> None:
        self._source = source
        self._command = command
        self._on_done = on_done
        self._status = status
        self._task: asyncio.Task[UpgradeOutcome] | None = None

    @property
    def status(self) -> UpgradeStatus:
        return replace(self._status, under_way=self.under_way)

    @property
    def under_way(self) -> bool:
        return self._task is not None and not self._task.done()

    def begin(self) -> asyncio.Task[UpgradeOutcome]:
        """Begin an upgrade, while none is under way."""
        assert not self.under_way
        self._task = asyncio.get_running_loop().create_task(self._run(), name="upgrade")
        return self._task

    async def abort(self) -> None:
        """End the upgrade that is under way, if one is, and wait until nothing is left of it."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> UpgradeOutcome:
        try:
            with self._source.balancer.unedited():
                return await self._hand_over()
        except UpgradeError as error:
            reason = str(error)
        except asyncio.CancelledError:
            # By `abort`, which nobody waits for but those who get this outcome.
            reason = "l4lb was told to stop"
        except Exception as error:
            _log.exception("unexpected error in an upgrade")
            reason = f"internal error: {error!r}; the process log has the details"
        self._status = replace(self._status, failed_total=self._status.failed_total + 1, last_error=reason)
        _log.error("the upgrade failed, and nothing has changed: %s", reason)
        return UpgradeOutcome(reason=reason)

    async def _hand_over(self) -> UpgradeOutcome:
        _log.info("upgrading: starting %s", self._command[0])
        successor = Successor.start(self._command, _environment())
        try:
            told = _Exported(self._source.balancer.state, time.monotonic())
            kept = await successor.within(READY_TIMEOUT, "was not ready", self._prepare(successor))
            await self._let_go(successor, kept, told)
        except BaseException:
            await successor.close()
            raise
        # From here on it is done, all of it, and nothing waits.
        self._source.balancer.sockets.hand_over(kept)
        self._source.admin.listening.hand_over(kept)
        self._status = replace(self._status, done_total=self._status.done_total + 1, last_error=None)
        self._on_done(successor.pid)
        successor.release()
        return UpgradeOutcome(pid=successor.pid, version=successor.version)

    async def _prepare(self, successor: Successor) -> list[BindKey]:
        """Tell it everything, and wait until it could accept clients; the names of the sockets that it uses."""
        await successor.introduce()
        channel = successor.channel
        await channel.send("upgrades", done=self._status.done_total + 1, failed=self._status.failed_total)
        for some in batches(list(self._sockets()), DESCRIPTORS_MAX):
            names = [[name, str(address)] for (name, address), _ in some]
            await channel.send("sockets", [descriptor for _, descriptor in some], names=names)
        for lent in batches(self._source.balancer.sockets.inherited.from_unit, DESCRIPTORS_MAX):
            await channel.send("lent", [sock.fileno() for sock in lent])
        for kind, fields in self._source.balancer.transfer.export().messages():
            await channel.send(kind, **fields)
        await self._tell(channel, State(), math.inf)
        await channel.send("complete")
        ready = await successor.receive("ready")
        return [(str(name), Address.parse(address)) for name, address in ready.fields["kept"]]

    def _sockets(self) -> Iterator[tuple[BindKey, int]]:
        for key, bind in self._source.balancer.sockets.binds.items():
            if not bind.from_unit:
                yield from ((key, sock.fileno()) for sock in bind.sockets)
        for key, sock in self._source.admin.listening.handed_over.items():
            yield key, sock.fileno()

    async def _tell(self, channel: Channel, told: State, since: float) -> None:
        """Tell where pools stay, of backends that are treated otherwise than in `told`, and of clients that came
        `since` so long ago."""
        balancer = self._source.balancer
        seats = {name: pool.seat for name, pool in balancer.state.pools.items() if pool.seat is not None}
        of_clients = (batch.message() for batch in balancer.transfer.export_clients(since))
        of_backends = backend_messages(balancer.transfer.export_backends(told))
        for kind, fields in itertools.chain(seat_messages(seats), of_backends, of_clients):
            await channel.send(kind, **fields)
            # A socket with room makes nobody wait, and others want the loop, too.
            await asyncio.sleep(0)

    async def _let_go(self, successor: Successor, kept: Collection[BindKey], told: _Exported) -> None:
        """Stop accepting clients and requests, and have it take over; if it does not, go on as before."""
        try:
            await successor.within(TAKEN_TIMEOUT, "did not take over", self._leave_it_to(successor, kept, told))
        except BaseException:
            # First: never do two processes accept.
            await successor.close()
            self._source.balancer.resume_accepting()
            await self._source.admin.serve()
            raise

    async def _leave_it_to(self, successor: Successor, kept: Collection[BindKey], told: _Exported) -> None:
        balancer = self._source.balancer
        self._source.admin.pause()
        if not await balancer.pause_accepting([key for key in balancer.sockets.binds if key not in kept]):
            raise UpgradeError("a worker does not let go of the listening sockets; look at its log, and restart")
        # What has happened since; from here on nothing happens here.
        await self._tell(successor.channel, told.state, time.monotonic() - told.at + SLACK)
        await successor.channel.send("over")
        await successor.receive("taken")


def _environment() -> dict[str, str]:
    """What a successor finds: the same, but a watchdog that wants to hear of this process will want to hear of it."""
    environment = dict(os.environ)
    if environment.get("WATCHDOG_PID") == str(os.getpid()):
        del environment["WATCHDOG_PID"]
    return environment
