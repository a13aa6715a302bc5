"""The order of the demo: what starts when, what is shown meanwhile, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Mapping

from rich.console import Group

from l4lb.admin.client import Json
from l4lb.config import Address, Config, load_config
from l4lb.demo.balancer import BalancerChild, balancer, section
from l4lb.demo.fleet import Member, fleet
from l4lb.demo.load import LoadGenerator
from l4lb.demo.screen import Screen
from l4lb.demo.table import Rates, Row, draw
from l4lb.errors import StartError

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
REFRESH_SECONDS = 1.0


async def run(path: str, duration: float | None, *, load: bool) -> None:
    """Show the demo for `duration` seconds, or until a signal asks to stop. ConfigError, StartError, L4lbError."""
    stop = asyncio.Event()
    for number in STOP_SIGNALS:
        # A second signal changes nothing: a shorter end would leave processes behind.
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    scene = asyncio.create_task(_play(path, duration, load=load))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([scene, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    scene.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await scene


async def _play(path: str, duration: float | None, *, load: bool) -> None:
    async with contextlib.AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="l4lb-demo-"))
        environ = {"L4LB_SOCKET": f"{directory}/admin.sock", **os.environ}
        environ.pop("NOTIFY_SOCKET", None)  # a service manager waits for the demo, not for the balancer
        config = load_config(path, environ)
        if config.admin.socket is None:
            raise StartError(f"the demo asks the balancer over its admin socket; set admin.socket in {path}")
        members = await stack.enter_async_context(fleet(config, environ))
        started = await stack.enter_async_context(balancer(path, config.admin.socket, environ))
        await started.wait_ready()
        clients = LoadGenerator(_bound(await started.status()))
        if load:
            await stack.enter_async_context(clients.running())
        hint = f"configuration: {path}\ntry: kill -9 PID, l4lb status --socket {config.admin.socket}"
        stage = _Stage(config, members, started, clients, hint)
        await stage.show(stack.enter_context(Screen()), duration)


def _bound(status: Json) -> list[Address]:
    """The bound addresses of the listeners."""
    return [Address.parse(bind) for listener in section(status, "listeners").values() for bind in listener["bind"]]


class _Stage:
    """The parts of the demo that the table shows."""

    def __init__(
        self,
        config: Config,
        members: Mapping[Address, Member],
        started: BalancerChild,
        clients: LoadGenerator,
        hint: str,
    ) -> None:
        self._config = config
        self._members = members
        self._balancer = started
        self._clients = clients
        self._hint = hint
        self._rates = Rates()

    async def show(self, screen: Screen, duration: float | None) -> None:
        """Show it again every second, for `duration` seconds or until cancelled."""
        end = None if duration is None else time.monotonic() + duration
        while True:
            now = time.monotonic()
            last = end is not None and now >= end
            screen.show(self._table(await self._balancer.status(), now), self._balancer.process, last=last)
            if last:
                return
            await asyncio.sleep(REFRESH_SECONDS if end is None else min(REFRESH_SECONDS, end - now))

    def _table(self, status: Json, now: float) -> Group:
        served = self._clients.served
        self._rates.add(now, {name: each.tokens for name, each in served.items()})
        rows = []
        alone = len(self._config.pools) == 1
        for pool_name, pool in self._config.pools.items():
            backends = section(status, "pools", pool_name, "backends")
            for backend in pool.backends:
                member = self._members[backend.address]
                pid = member.process.pid if member.process.running else None
                rate = self._rates.of(member.name)
                name = backend.name if alone else f"{pool_name}/{backend.name}"
                rows.append(Row(name, pid, backends[backend.name], served[member.name], rate))
        return draw(rows, self._clients.failed, self._hint)
