"""From configured addresses to socket addresses. Names are looked up; a failure keeps what was known."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterable, Mapping
from typing import cast

from l4lb.config import Address
from l4lb.health.probes.base import Target, ip_target
from l4lb.interfaces import IpSocketAddress, host_text

RESOLVE_TIMEOUT = 5.0
CONCURRENCY = 32

_log = logging.getLogger(__name__)


def literal(address: Address) -> Target | None:
    """The target of an address that needs no look-up; None for a name, and where its interface is not there."""
    if address.is_unix:
        return Target(socket.AF_UNIX, address.unix_name)
    if address.is_name or address.host is None or address.port is None:
        return None
    try:
        return ip_target(address.host, address.port)
    except OSError:
        return None


async def resolve(addresses: Iterable[Address], known: Mapping[Address, Target]) -> dict[Address, Target]:
    """Targets of all addresses that have one: looked up now, or known from before."""
    slots = asyncio.Semaphore(CONCURRENCY)
    targets = {address: literal(address) for address in addresses}
    names = [address for address, target in targets.items() if target is None]

    async def one(name: Address) -> Target | None:
        async with slots:
            return await _look_up(name) or known.get(name)

    targets |= zip(names, await asyncio.gather(*map(one, names)), strict=True)
    return {address: target for address, target in targets.items() if target is not None}


async def _look_up(address: Address) -> Target | None:
    loop = asyncio.get_running_loop()
    try:
        if address.interface is not None:
            return ip_target(str(address.host), address.port or 0)
        async with asyncio.timeout(RESOLVE_TIMEOUT):
            answers = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (TimeoutError, OSError) as error:
        _log.warning("cannot resolve %s: %s; keeping what is known", address, error or "no answer in time")
        return None
    # In a fixed order, so that the same answers in another order change nothing.
    _, _, _, _, sockaddr = min(answers, key=lambda answer: (answer[0] != socket.AF_INET, answer[4]))
    return ip_target(host_text(cast(IpSocketAddress, sockaddr)), int(sockaddr[1]))
