"""Asks name servers as the C library and dig do: with search domains, the next server when one fails, TCP for what is
cut off, and once more without EDNS where a server does not know it (RFC 6891, section 7).

A question has one of three outcomes: records, none (the servers say that there are none), or DiscoveryError (they do
not know).
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
"""Bytes of a UDP answer that are not fragmented anywhere (DNS flag day 2020)."""

SERVER_TIMEOUT = 2.0
"""Seconds for one server to answer, before the next one is asked."""

HOSTS_TTL = 30.0
"""Seconds until what /etc/hosts says is read again."""

Found = tuple[list[str], float]
"""Addresses, and the seconds that they hold."""


class NameServers:
    """Those given, or the system's; then /etc/hosts goes first. `timeout` is for a whole question."""

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
        # With it there must be time for a second attempt: some servers drop what they do not know.
        self._resolver.lifetime = self._timeout / 2 if use else self._timeout
        self._resolver.use_edns(0 if use else -1, 0, EDNS_PAYLOAD)

    async def addresses(self, name: str, records: Sequence[str]) -> Found:
        """All addresses of these types; none if the name or its records are not there. A type that fails is no matter
        where another one has addresses."""
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
        """The answer; None if the servers say that there is none. DiscoveryError if they do not know."""
        failed: DiscoveryError | None = None
        for candidate in self._candidates(name):
            try:
                answer = await self._ask(candidate, record)
            except DiscoveryError as error:
                # As in the C library: another domain of the search list may have it.
                failed = failed or error
                continue
            if answer is not None:
                return answer
        if failed is not None:
            raise failed
        return None

    def _candidates(self, name: str) -> list[dns.name.Name]:
        """The names to ask for, as resolv.conf(5) has it."""
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
    """Whether no server could be had, and one of them did not understand the question, or dropped it."""
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
    """Addresses that the server sent along unasked, by name and type."""
    found: dict[str, dict[str, Found]] = {}
    for rrset in response.additional:
        if rrset.rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA):
            name = rrset.name.to_text(omit_final_dot=True).lower()
            texts = [item.to_text() for item in rrset]
            found.setdefault(name, {})[dns.rdatatype.to_text(rrset.rdtype)] = texts, float(rrset.ttl)
    return found
