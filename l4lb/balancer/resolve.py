"""From configured addresses to socket addresses: where names lead.

The system's resolver looks names up, so that /etc/hosts, search domains and its other settings apply. Such a call
takes up to half a minute if name servers are silent, and cannot be cancelled. So each look-up has a thread of its own
and delays no other. A late answer is used when it arrives. After a failure the last known address stays in use.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import cast

from l4lb.base.text import reason
from l4lb.base.threads import in_thread
from l4lb.config import Address
from l4lb.net import hosts
from l4lb.net.interfaces import IpSocketAddress, host_text
from l4lb.net.target import Target, ip_target
from l4lb.state.targets import literal

LOOK_UP_TIMEOUT = 2.0
"""Seconds that a caller waits for all names together. Later answers are not lost."""

CONCURRENCY = 256
SLOW_CONCURRENCY = 64
"""Look-ups at once: of most names, and apart from them of names whose last look-up was slow."""

LookUp = Callable[[str], Sequence[str]]
"""The IP addresses of a name, on any thread. OSError if it has none."""

_log = logging.getLogger(__name__)


def ask_system(name: str) -> list[str]:
    """The answer of getaddrinfo, each address once."""
    # The C library does not find names with a trailing dot in /etc/hosts.
    if name.endswith(".") and (listed := hosts.addresses(name)):
        return listed
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(host_text(cast(IpSocketAddress, sockaddr)) for *_, sockaddr in found))


def choose(found: Sequence[str], current: str | None) -> str:
    """The address to use. One that is in use and still among them stays; else the lowest, IPv4 before IPv6, so that the
    same answer in another order changes nothing."""
    return current if current is not None and current in found else min(found, key=lambda host: (":" in host, host))


class Resolver:
    """Owns the look-ups. `known` has the targets from before; `on_late` is called on the loop after an answer that came
    too late for its caller."""

    def __init__(
        self, on_late: Callable[[], None], known: Mapping[Address, Target] | None = None, ask: LookUp | None = None
    ) -> None:
        self._on_late = on_late
        self._ask = ask or ask_system
        self._targets = dict(known or {})
        self._answers: dict[str, Sequence[str]] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._late: set[str] = set()
        self._slow: set[str] = set()
        self._said: dict[str, str] = {}
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self._slow_slots = asyncio.Semaphore(SLOW_CONCURRENCY)

    @property
    def targets(self) -> Mapping[Address, Target]:
        """The targets of the addresses that were resolved."""
        return self._targets

    def is_failing(self, address: Address) -> bool:
        """Whether the last look-up of this address failed, or has not been answered yet."""
        return (address.host if address.is_name else str(address)) in self._said

    def keep(self, targets: Mapping[Address, Target]) -> None:
        """Keep the targets in use, and forget all others."""
        self._targets = dict(targets)
        names = {address.host for address in targets} | self._running.keys()
        for name in self._answers.keys() - names:
            del self._answers[name]

    def forget(self, addresses: Collection[Address]) -> None:
        """Only these addresses are in use: failures of others may be logged again."""
        names = {address.host if address.is_name else str(address) for address in addresses}
        for name in self._said.keys() - names:
            del self._said[name]

    async def look_up(self, addresses: Iterable[Address], timeout: float | None = None) -> dict[Address, Target]:
        """The targets of all addresses that have one, looked up now or known from before."""
        addresses = list(addresses)
        names = {address.host or "" for address in addresses if address.is_name}
        if tasks := [self._begin(name) for name in names]:
            await asyncio.wait(tasks, timeout=LOOK_UP_TIMEOUT if timeout is None else timeout)
        for name in names & self._running.keys():
            self._late.add(name)
            if name not in self._said:
                self._say(name, "no answer yet")
        found = {address: target for address in addresses if (target := self._where(address)) is not None}
        self._targets |= {address: target for address, target in found.items() if address.is_open}
        return found

    def _where(self, address: Address) -> Target | None:
        current = self._targets.get(address)
        if not address.is_name:
            target = literal(address)
            if target is None:
                self._say(str(address), f"this host has no interface {address.interface}")
            return target or current
        answers = self._answers.get(address.host or "")
        if not answers:
            return current
        target = ip_target(choose(answers, None if current is None else current.host), address.port or 0)
        return current if current is not None and current.host == target.host else target

    async def close(self) -> None:
        """Cancel the waiting look-ups."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---- one name --------------------------------------------------------------------------------------------------

    def _begin(self, name: str) -> asyncio.Task[None]:
        task = self._running.get(name)
        if task is None:
            task = self._running[name] = asyncio.get_running_loop().create_task(self._run(name), name=f"look-up {name}")
        return task

    async def _run(self, name: str) -> None:
        try:
            async with self._slow_slots if name in self._slow else self._slots:
                answers = await in_thread("l4lb-name", self._ask, name)
        except (OSError, ValueError) as error:
            self._say(name, str(error.strerror) if isinstance(error, socket.gaierror) else reason(error))
            answers = []
        finally:
            del self._running[name]
            late = name in self._late
            self._late.discard(name)
        (self._slow.add if late else self._slow.discard)(name)
        if answers:
            self._answers[name] = answers
            if self._said.pop(name, None) is not None:
                _log.info("%s resolves now", name)
            if late:
                self._on_late()

    def _say(self, name: str, why: str) -> None:
        """Log each reason once: look-ups go on for as long as the fault lasts."""
        if self._said.get(name) != why:
            _log.warning("cannot resolve %s: %s; keeping what is known", name, why)
        self._said[name] = why
