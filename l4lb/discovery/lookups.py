"""DNS queries in the way of the C library and dig: search domains, the next server when one fails, TCP for truncated
answers, and a second try without EDNS for servers that do not support it (RFC 6891, section 7).

A query has one of three outcomes: records, no records (the servers say that there are none), or DiscoveryError
(unknown).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import dns.asyncresolver
import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.resolver

from l4lb.base.threads import SerialThread
from l4lb.config import Address
from l4lb.discovery.name_server import NameServer
from l4lb.discovery.source import DiscoveryError
from l4lb.net import hosts

EDNS_PAYLOAD = 1232
"""Bytes of a UDP answer that no network fragments (DNS flag day 2020)."""

SERVER_TIMEOUT = 2.0
"""Seconds that one server has to answer before the next one is asked."""

HOSTS_TTL = 30.0
"""Seconds until /etc/hosts is read again."""

Found = tuple[list[str], float]
"""Addresses and their TTL in seconds."""


class NameServers:
    """The given servers, or those of the system; in that case /etc/hosts is looked at first. `timeout` is for a whole
    query."""

    def __init__(self, servers: Sequence[Address], timeout: float) -> None:
        try:
            self._resolver = dns.asyncresolver.Resolver(configure=not servers)
        except dns.exception.DNSException as error:
            raise DiscoveryError(f"the system has no name servers; give servers ({error})") from error
        if servers:
            self._resolver.nameservers = [NameServer(str(server.host), server.port or 53) for server in servers]
        else:
            port = self._resolver.port
            self._resolver.nameservers = [NameServer(str(server), port) for server in self._resolver.nameservers]
        self._files = None if servers else SerialThread(f"reading {hosts.PATH}")
        self._timeout = timeout
        self._resolver.timeout = min(SERVER_TIMEOUT, timeout / 2)
        self._use_edns(True)

    def _use_edns(self, use: bool) -> None:
        self._edns = use
        # With EDNS there must be time for a second attempt, because some servers drop such queries.
        self._resolver.lifetime = self._timeout / 2 if use else self._timeout
        self._resolver.use_edns(0 if use else -1, 0, EDNS_PAYLOAD)

    async def addresses(self, name: str, records: Sequence[str]) -> Found:
        """All addresses of these types; empty if the name or its records do not exist. A type that fails is ignored if
        another type has addresses."""
        if listed := await self._listed(name, records):
            return listed, HOSTS_TTL
        outcomes = await asyncio.gather(*(self.ask(name, record) for record in records), return_exceptions=True)
        found: list[str] = []
        ttls: list[float] = []
        for outcome in outcomes:
            if isinstance(outcome, dns.resolver.Answer) and outcome.rrset is not None:
                found += [item.to_text() for item in outcome.rrset]
                ttls.append(float(outcome.chaining_result.minimum_ttl))
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if failures and (not found or not isinstance(failures[0], DiscoveryError)):
            raise failures[0]
        return found, min(ttls, default=0.0)

    async def _listed(self, name: str, records: Sequence[str]) -> list[str]:
        if self._files is None:
            return []
        return [
            address
            for address in await self._files.call(hosts.addresses, name)
            if ("AAAA" if ":" in address else "A") in records
        ]

    async def ask(self, name: str, record: str) -> dns.resolver.Answer | None:
        """The answer; None if the servers say that there is none. DiscoveryError if the outcome is unknown."""
        failed: DiscoveryError | None = None
        for candidate in self._candidates(name):
            try:
                answer = await self._ask(candidate, record)
            except DiscoveryError as error:
                # As in the C library, go on with the next domain of the search list.
                failed = failed or error
                continue
            if answer is not None:
                return answer
        if failed is not None:
            raise failed
        return None

    def _candidates(self, name: str) -> list[dns.name.Name]:
        """The names to query, as resolv.conf(5) describes."""
        try:
            asked = dns.name.from_text(name, None)
        except dns.exception.DNSException as error:
            raise DiscoveryError(f"{name} is no name: {error}") from error
        if asked.is_absolute() or self._files is None:
            return [asked.derelativize(dns.name.root)]
        ndots = 1 if self._resolver.ndots is None else self._resolver.ndots
        domains = self._resolver.search or [self._resolver.domain]
        searched = [asked + domain for domain in domains if domain not in (None, dns.name.root)]
        whole = asked.derelativize(dns.name.root)
        return [whole, *searched] if len(asked) > ndots else [*searched, whole]

    async def _ask(self, name: dns.name.Name, record: str) -> dns.resolver.Answer | None:
        try:
            return await self._resolver.resolve(name, record, search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return None
        except dns.exception.DNSException as error:
            if not self._edns or not _edns_may_be_why(error):
                raise _in_words(error, name, record) from error
        self._use_edns(False)
        try:
            return await self._resolver.resolve(name, record, search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return None
        except dns.exception.DNSException as error:
            self._use_edns(True)
            raise _in_words(error, name, record) from error


def _edns_may_be_why(error: dns.exception.DNSException) -> bool:
    """Whether all servers failed, and at least one of them dropped or did not understand the query."""
    if isinstance(error, dns.exception.Timeout):
        return True
    if not isinstance(error, dns.resolver.NoNameservers):
        return False
    strange = (dns.rcode.FORMERR, dns.rcode.NOTIMP, dns.rcode.BADVERS)
    responses = [found[4] for found in error.kwargs.get("errors", ())]
    return any(isinstance(one, dns.message.Message) and one.rcode() in strange for one in responses)


def _in_words(error: dns.exception.DNSException, name: dns.name.Name, record: str) -> DiscoveryError:
    shown = name.to_text(omit_final_dot=True)
    if isinstance(error, dns.exception.Timeout):
        return DiscoveryError(f"no answer for {record} of {shown} in time")
    return DiscoveryError(f"{record} of {shown}: {' '.join(str(error).split())}")


def additional(response: dns.message.Message) -> dict[str, dict[str, Found]]:
    """Addresses in the additional section, by name and type."""
    found: dict[str, dict[str, Found]] = {}
    for rrset in response.additional:
        if rrset.rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA):
            name = rrset.name.to_text(omit_final_dot=True).lower()
            texts = [item.to_text() for item in rrset]
            found.setdefault(name, {})[dns.rdatatype.to_text(rrset.rdtype)] = texts, float(rrset.ttl)
    return found
