"""From configured addresses to socket addresses. Names are looked up; a failure keeps what was known."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterable, Mapping

from l4lb.config import Address
from l4lb.health.probes import Target

RESOLVE_TIMEOUT = 5.0
CONCURRENCY = 32

_log = logging.getLogger(__name__)


def literal(address: Address) -> Target | None:
    """The target of an address that needs no look-up; None for a name."""
    if address.is_unix:
        return Target(socket.AF_UNIX, address.unix_name)
    if address.is_name or address.host is None or address.port is None:
        return None
    family = socket.AF_INET6 if address.is_ipv6 else socket.AF_INET
    return Target(family, (address.host, address.port))


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
        async with asyncio.timeout(RESOLVE_TIMEOUT):
            answers = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (TimeoutError, OSError) as error:
        _log.warning("cannot resolve %s: %s; keeping what is known", address, error or "no answer in time")
        return None
    # In a fixed order, so that the same answers in another order change nothing.
    family, _, _, _, sockaddr = min(answers, key=lambda answer: (answer[0] != socket.AF_INET, answer[4]))
    host, port = str(sockaddr[0]), int(sockaddr[1])
    return Target(socket.AddressFamily(family), (host, port))
