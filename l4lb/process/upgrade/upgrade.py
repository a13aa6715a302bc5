"""The old process's side of an upgrade in place: it starts its successor, hands everything over, and then drains.

Until the successor has everything, nothing is given up: a successor that fails at any step changes nothing.
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
large sticky tables for as long as sending these takes."""

SLACK = 1.0
"""Seconds added to the age of clients that are exported again, so that none is missed."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Exported:
    """The state that a successor got first, and when sending it began."""

    state: State
    at: float


@dataclass(frozen=True, slots=True)
class HandoverSource:
    """What is handed over."""

    balancer: Balancer
    admin: AdminServer


class Upgrades:
    """Makes upgrades, one at a time, by starting `command`. `on_done(pid)` is called once a successor
    serves; it must not block. `status` has the counts of predecessors."""

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
        """Cancel the upgrade in progress, if there is one, and wait until it has ended."""
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
            # Cancelled by `abort`. Callers of the upgrade get this outcome.
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
            exported = _Exported(self._source.balancer.state, time.monotonic())
            kept = await successor.within(READY_TIMEOUT, "was not ready", self._prepare(successor))
            await self._release(successor, kept, exported)
        except BaseException:
            await successor.close()
            raise
        # The upgrade is complete. Nothing from here on waits.
        self._source.balancer.sockets.hand_over(kept)
        self._source.admin.listening.hand_over(kept)
        self._status = replace(self._status, done_total=self._status.done_total + 1, last_error=None)
        self._on_done(successor.pid)
        successor.release()
        return UpgradeOutcome(pid=successor.pid, version=successor.version)

    async def _prepare(self, successor: Successor) -> list[BindKey]:
        """Hand everything over, and wait until the successor is ready; the names of the sockets that it uses."""
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
        await self._send_changes(channel, State(), math.inf)
        await channel.send("complete")
        ready = await successor.receive("ready")
        return [(str(name), Address.parse(address)) for name, address in ready.fields["kept"]]

    def _sockets(self) -> Iterator[tuple[BindKey, int]]:
        for key, bind in self._source.balancer.sockets.binds.items():
            if not bind.from_unit:
                yield from ((key, sock.fileno()) for sock in bind.sockets)
        for key, sock in self._source.admin.listening.handed_over.items():
            yield key, sock.fileno()

    async def _send_changes(self, channel: Channel, exported: State, since: float) -> None:
        """Send the seats of pools, the backends that an operator changed since `exported`, and the clients that came in
        the last `since` seconds."""
        balancer = self._source.balancer
        seats = {name: pool.seat for name, pool in balancer.state.pools.items() if pool.seat is not None}
        of_clients = (batch.message() for batch in balancer.transfer.export_clients(since))
        of_backends = backend_messages(balancer.transfer.export_backends(exported))
        for kind, fields in itertools.chain(seat_messages(seats), of_backends, of_clients):
            await channel.send(kind, **fields)
            # Sending to a socket with free space does not yield, so give other tasks a chance.
            await asyncio.sleep(0)

    async def _release(self, successor: Successor, kept: Collection[BindKey], exported: _Exported) -> None:
        """Stop accepting clients and requests, and let the successor take over; if it does not, go on as before."""
        try:
            await successor.within(TAKEN_TIMEOUT, "did not take over", self._give_way_to(successor, kept, exported))
        except BaseException:
            # First, because two processes must never accept at the same time.
            await successor.close()
            self._source.balancer.resume_accepting()
            await self._source.admin.serve()
            raise

    async def _give_way_to(self, successor: Successor, kept: Collection[BindKey], exported: _Exported) -> None:
        balancer = self._source.balancer
        self._source.admin.pause()
        if not await balancer.pause_accepting([key for key in balancer.sockets.binds if key not in kept]):
            raise UpgradeError("a worker does not release the listening sockets; see its log, and restart")
        # The changes since the first export. From here on nothing changes here.
        await self._send_changes(successor.channel, exported.state, time.monotonic() - exported.at + SLACK)
        await successor.channel.send("over")
        await successor.receive("taken")


def _environment() -> dict[str, str]:
    """The environment of a successor. A watchdog that watches this process will watch the successor."""
    environment = dict(os.environ)
    if environment.get("WATCHDOG_PID") == str(os.getpid()):
        del environment["WATCHDOG_PID"]
    return environment
