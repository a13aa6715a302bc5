"""Long lists of networks in zones: merges neighbours, and overlays one list on another. Pure.

A prefix is a 128-bit address, a length and a zone number. IPv4 lies in ::ffff:0:0/96, as in the data plane, where a
wider IPv6 prefix does not apply to IPv4.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import TypeAlias

Prefix: TypeAlias = tuple[int, int, int]

_MAPPED = 0xFFFF
_MAPPED_BITS = 96


def prefix(network: IPv4Network | IPv6Network, zone: int) -> Prefix:
    address, length = int(network.network_address), network.prefixlen
    if network.version == 4:
        return _MAPPED << 32 | address, _MAPPED_BITS + length, zone
    return address, length, zone


def join(prefixes: Iterable[Prefix]) -> list[Prefix]:
    """The same networks with fewer prefixes: two halves in the same zone become the whole. `prefixes` are in order of
    addresses and do not overlap."""
    joined: list[Prefix] = []
    for address, length, zone in prefixes:
        bit = 1 << (128 - length)
        # The IPv4 range as a whole is not merged with its neighbour.
        while joined and address & bit and length != _MAPPED_BITS and joined[-1] == (address ^ bit, length, zone):
            address, length, _ = joined.pop()
            length, bit = length - 1, bit << 1
        joined.append((address, length, zone))
    return joined


def overlay(below: Sequence[Prefix], above: Sequence[Prefix]) -> list[Prefix]:
    """Both lists, where `above` overrides `below`: the longest prefix counts, and of two equal prefixes the last."""
    covers = {family: _Cover(item for item in above if _is_ipv4(item) is family) for family in (True, False)}
    return [*(item for item in below if not covers[_is_ipv4(item)].has(item)), *above]


def _is_ipv4(item: Prefix) -> bool:
    return item[1] >= _MAPPED_BITS and item[0] >> 32 == _MAPPED


class _Cover:
    """The ranges of some prefixes, without those inside others."""

    def __init__(self, prefixes: Iterable[Prefix]) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for address, length, _ in sorted(prefixes, key=lambda item: item[:2]):
            if not self._ends or address >= self._ends[-1]:
                self._starts.append(address)
                self._ends.append(address + (1 << (128 - length)))

    def has(self, item: Prefix) -> bool:
        at = bisect_right(self._starts, item[0]) - 1
        return at >= 0 and item[0] + (1 << (128 - item[1])) <= self._ends[at]
