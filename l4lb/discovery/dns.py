"""Discovery by DNS: address records of a name, or SRV records and the addresses of their targets.

The next look-up happens when the shortest TTL expires. If a server fails, or answers without records, the known
endpoints stay, unless `hold: 0s` accepts all answers.
"""

from __future__ import annotations

import asyncio
import random
from typing import NoReturn

from l4lb.base.pacing import every
from l4lb.config.sections import discover
from l4lb.discovery.lookups import Found, NameServers, additional
from l4lb.discovery.records import Service, from_addresses, from_services
from l4lb.discovery.source import ENDPOINTS_MAX, DiscoveryError, Endpoint, NothingThere, Report

TTL_MIN = 1.0
"""Minimum seconds between two look-ups, whatever the TTL."""

FIRST_INTERVAL = 5.0
"""Seconds between two look-ups while no TTL is known."""

JITTER = 0.1
"""Look-ups are delayed at random by up to this share, so that many balancers do not ask in step."""

CONCURRENCY = 16


class DnsSource:
    """Implements `Source`."""

    def __init__(self, settings: discover.DnsDiscovery) -> None:
        self._settings = settings
        self._places: dict[str, str] = {}
        self.interval = min(FIRST_INTERVAL, settings.max_ttl)

    async def watch(self, report: Report) -> NoReturn:
        servers = NameServers(self._settings.servers, self._settings.timeout)
        async for _ in every(TTL_MIN, 0.0):
            try:
                async with asyncio.timeout(self._settings.timeout):
                    endpoints, ttl = await self._look_up(servers)
            except TimeoutError:
                raise TimeoutError(f"no answer within {self._settings.timeout:g}s") from None
            await report.found(endpoints)
            self.interval = pause(ttl, self._settings.max_ttl)
            await asyncio.sleep(self.interval)
        raise AssertionError("rounds do not end")

    async def _look_up(self, servers: NameServers) -> tuple[list[Endpoint], float]:
        """The current answer and its TTL in seconds."""
        name, port = self._settings.name, self._settings.port
        if port is None:
            return await self._look_up_services(servers, name)
        addresses, ttl = await servers.addresses(name, self._settings.record)
        if not addresses:
            raise NothingThere(f"{name} has no {' and no '.join(self._settings.record)} records")
        return from_addresses(addresses, port), ttl

    async def _look_up_services(self, servers: NameServers, name: str) -> tuple[list[Endpoint], float]:
        answer = await servers.ask(name, "SRV")
        if answer is None or answer.rrset is None:
            raise NothingThere(f"{name} has no SRV records")
        services = [
            Service(record.priority, record.weight, record.port, record.target.to_text(omit_final_dot=True).lower())
            for record in answer.rrset
            # A target of "." means that the service does not exist (RFC 2782).
            if record.target.labels != (b"",) and record.port
        ]
        if len(services) > ENDPOINTS_MAX:
            raise DiscoveryError(f"{len(services)} records are more than the {ENDPOINTS_MAX} that fit")
        targets = sorted({service.target for service in services})
        found = await _find_all(servers, targets, additional(answer.response))
        endpoints = from_services(
            services, {target: one[0] for target, one in zip(targets, found, strict=True)}, self._places
        )
        self._places = {endpoint.name: str(endpoint.address.host) for endpoint in endpoints}
        if not endpoints:
            raise NothingThere(f"no target of the SRV records of {name} has an address")
        return endpoints, min(float(answer.chaining_result.minimum_ttl), *(ttl for _, ttl in found))


async def _find_all(servers: NameServers, targets: list[str], known: dict[str, dict[str, Found]]) -> list[Found]:
    """The addresses of all targets, or DiscoveryError: a partial answer would look like removed backends."""
    places = asyncio.Semaphore(CONCURRENCY)

    async def find(target: str) -> Found:
        async with places:
            return await _find(servers, target, known.get(target, {}))

    tasks = [asyncio.ensure_future(find(target)) for target in targets]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _find(servers: NameServers, target: str, sent: dict[str, Found]) -> Found:
    """The IPv4 addresses of a target, or else its IPv6 addresses. Types that are in `sent`, the additional section, are
    not asked for again: each is complete, but says nothing about the other type."""
    failed: DiscoveryError | None = None
    for record in ("A", "AAAA"):
        if record in sent:
            return sent[record]
        try:
            found = await servers.addresses(f"{target}.", (record,))
        except DiscoveryError as error:
            failed = failed or error
            continue
        if found[0]:
            return found
    if failed is not None:
        raise failed
    return [], 0.0


def pause(ttl: float, most: float) -> float:
    """Seconds until the next look-up."""
    return min(max(ttl, TTL_MIN), most) * random.uniform(1, 1 + JITTER)
