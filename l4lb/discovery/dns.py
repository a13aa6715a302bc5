"""Backends from DNS: address records of a name, or SRV records and the addresses of their targets.

Asked again when the shortest time to live is over. An answer is used whole or not at all: a server that fails, a name
that is gone and an answer without records all keep what is known. Truncated answers are asked for again over TCP.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import NoReturn

import dns.asyncresolver
import dns.exception
import dns.message
import dns.rdatatype
import dns.resolver

from l4lb.config.sections import discover
from l4lb.discovery.name_server import NameServer
from l4lb.discovery.records import Service, from_addresses, from_services
from l4lb.discovery.source import ENDPOINTS_MAX, DiscoveryError, Endpoint, Report
from l4lb.pacing import every

TTL_MIN = 1.0
TTL_MAX = 3600.0
"""Seconds between two look-ups, whatever the time to live."""

FIRST_INTERVAL = 5.0
"""The same while no time to live is known."""

JITTER = 0.1
"""Look-ups come later by up to this share, so that many balancers do not ask in step."""

EDNS_PAYLOAD = 1232
"""Bytes of a UDP answer that are not fragmented anywhere (DNS flag day 2020)."""

CONCURRENCY = 16


class DnsSource:
    """Satisfies `Source`."""

    def __init__(self, settings: discover.DnsSource) -> None:
        self._settings = settings
        self.interval = FIRST_INTERVAL

    async def watch(self, report: Report) -> NoReturn:
        resolver = _resolver(self._settings)
        async for _ in every(TTL_MIN, 0.0):
            try:
                async with asyncio.timeout(self._settings.timeout):
                    endpoints, ttl = await self._look_up(resolver)
            except TimeoutError:
                raise TimeoutError(f"no answer within {self._settings.timeout:g}s") from None
            await report.found(endpoints)
            self.interval = pause(ttl)
            await asyncio.sleep(self.interval)
        raise AssertionError("rounds do not end")

    async def _look_up(self, resolver: dns.asyncresolver.Resolver) -> tuple[list[Endpoint], float]:
        """What there is now, and for how many seconds that holds."""
        name, port = self._settings.name, self._settings.port
        if port is None:
            return await self._look_up_services(resolver, name)
        addresses, ttl = await _addresses(resolver, name, self._settings.record)
        if not addresses:
            raise DiscoveryError(f"{name} has no {' and no '.join(self._settings.record)} records")
        return from_addresses(addresses, port), ttl

    async def _look_up_services(self, resolver: dns.asyncresolver.Resolver, name: str) -> tuple[list[Endpoint], float]:
        answer = await _ask(resolver, name, "SRV")
        if answer is None or answer.rrset is None:
            raise DiscoveryError(f"{name} has no SRV records")
        services = [
            Service(record.priority, record.weight, record.port, target)
            for record in answer.rrset
            # A target of "." says that there is no such service.
            if (target := record.target.to_text(omit_final_dot=True).lower()) and record.port
        ]
        if len(services) > ENDPOINTS_MAX:
            raise DiscoveryError(f"{len(services)} records are more than the {ENDPOINTS_MAX} that fit")
        places = asyncio.Semaphore(CONCURRENCY)
        known = _additional(answer.response)

        async def find(target: str) -> tuple[list[str], float]:
            if target in known:
                return known[target]
            async with places:
                found, ttl = await _addresses(resolver, f"{target}.", ("A",))
                return (found, ttl) if found else await _addresses(resolver, f"{target}.", ("AAAA",))

        targets = sorted({service.target for service in services})
        tasks = [asyncio.ensure_future(find(target)) for target in targets]
        try:
            found = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        endpoints = from_services(services, {target: one[0] for target, one in zip(targets, found, strict=True)})
        if not endpoints:
            raise DiscoveryError(f"no target of the SRV records of {name} has an address")
        return endpoints, min(float(answer.chaining_result.minimum_ttl), *(ttl for _, ttl in found))


def pause(ttl: float) -> float:
    """Seconds until the next look-up."""
    return min(max(ttl, TTL_MIN), TTL_MAX) * random.uniform(1, 1 + JITTER)


def _resolver(settings: discover.DnsSource) -> dns.asyncresolver.Resolver:
    """Reads the system's configuration, unless servers are given."""
    try:
        resolver = dns.asyncresolver.Resolver(configure=not settings.servers)
    except dns.exception.DNSException as error:
        raise DiscoveryError(f"the system has no name servers; give servers ({error})") from error
    if settings.servers:
        resolver.nameservers = [NameServer(str(server.host), server.port or 53) for server in settings.servers]
    else:
        resolver.nameservers = [NameServer(str(server), resolver.port) for server in resolver.nameservers]
        resolver.use_search_by_default = True
    resolver.lifetime = settings.timeout
    resolver.use_edns(0, 0, EDNS_PAYLOAD)
    return resolver


async def _addresses(
    resolver: dns.asyncresolver.Resolver, name: str, records: Sequence[str]
) -> tuple[list[str], float]:
    """All addresses of these types, and their time to live; none if the name or its records are not there."""
    found: list[str] = []
    ttl = TTL_MAX
    for record in records:
        answer = await _ask(resolver, name, record)
        if answer is not None and answer.rrset is not None:
            found += [item.to_text() for item in answer.rrset]
            ttl = min(ttl, answer.chaining_result.minimum_ttl)
    return found, ttl


async def _ask(resolver: dns.asyncresolver.Resolver, name: str, record: str) -> dns.resolver.Answer | None:
    """The answer; None if the servers say that there is none. DiscoveryError if they do not know."""
    try:
        return await resolver.resolve(name, record)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return None
    except dns.exception.Timeout:
        raise DiscoveryError(f"no answer for {record} of {name} in time") from None
    except dns.exception.DNSException as error:
        raise DiscoveryError(f"{record} of {name}: {' '.join(str(error).split())}") from error


def _additional(response: dns.message.Message) -> dict[str, tuple[list[str], float]]:
    """Addresses that the server sent along unasked, by name."""
    found: dict[str, tuple[list[str], float]] = {}
    for rrset in response.additional:
        if rrset.rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA):
            addresses, ttl = found.get(name := rrset.name.to_text(omit_final_dot=True).lower(), ([], TTL_MAX))
            found[name] = ([*addresses, *(item.to_text() for item in rrset)], min(ttl, rrset.ttl))
    return found
