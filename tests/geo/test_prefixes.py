"""Joined and overlaid, lists of prefixes say of every address what they said before."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network

from hypothesis import given
from hypothesis import strategies as st

from l4lb.geo.prefixes import Prefix, join, overlay, prefix

BITS = 6
"""Networks are drawn from the first 2**BITS addresses of a few ranges, so that they meet."""

RANGES = {4: "10.0.0.0", 6: "2001:db8::"}


def network(version: int, address: int, size: int) -> IPv4Network | IPv6Network:
    width = 32 if version == 4 else 128
    start = int(ip_network(RANGES[version]).network_address) + (address & ~((1 << size) - 1))
    return IPv4Network((start, width - size)) if version == 4 else IPv6Network((start, width - size))


NETWORKS = st.builds(network, st.sampled_from([4, 6]), st.integers(0, (1 << BITS) - 1), st.integers(0, BITS))
LISTS = st.lists(st.tuples(NETWORKS, st.integers(1, 3)), max_size=12)


def found(prefixes: list[Prefix], address: int) -> int:
    """As the data plane finds it: the longest, of equal ones the last; what is wider than IPv4 says nothing of it."""
    best = (-1, 0)
    for start, length, zone in prefixes:
        covers = start >> (128 - length) == address >> (128 - length)
        if address >> 32 == 0xFFFF and length < 96:
            covers = False
        if covers and length >= best[0]:
            best = (length, zone)
    return best[1]


def addresses() -> list[int]:
    starts = [prefix(ip_network(text), 1)[0] for text in RANGES.values()]
    return [start + offset for start in starts for offset in range(1 << BITS)]


@given(LISTS)
def test_joining_changes_nothing_for_any_address_and_leaves_nothing_to_join(
    items: list[tuple[IPv4Network | IPv6Network, int]],
) -> None:
    disjoint: list[tuple[IPv4Network | IPv6Network, int]] = []
    for item, zone in items:
        if not any(item.version == other.version and item.overlaps(other) for other, _ in disjoint):
            disjoint.append((item, zone))
    prefixes = sorted(prefix(item, zone) for item, zone in disjoint)
    joined = join(prefixes)
    assert [found(joined, address) for address in addresses()] == [found(prefixes, address) for address in addresses()]
    for zone in (1, 2, 3):
        members = [item for item, number in disjoint if number == zone]
        fewest = sum(
            len(list(collapse_addresses(item for item in members if item.version == version)))  # type: ignore[type-var]
            for version in (4, 6)
        )
        assert sum(number == zone for _, _, number in joined) == fewest


@given(LISTS, LISTS)
def test_what_lies_above_counts_wherever_it_says_anything(
    below: list[tuple[IPv4Network | IPv6Network, int]], above: list[tuple[IPv4Network | IPv6Network, int]]
) -> None:
    low, high = ([prefix(item, zone) for item, zone in items] for items in (below, above))
    both = overlay(low, high)
    for address in addresses():
        assert found(both, address) == (found(high, address) or found(low, address))


def test_all_of_one_family_hides_nothing_of_the_other() -> None:
    low = [prefix(ip_network("10.0.0.0/8"), 1), prefix(ip_network("2001:db8::/32"), 1)]
    everything_6, everything_4 = prefix(ip_network("::/0"), 2), prefix(ip_network("0.0.0.0/0"), 2)
    assert overlay(low, [everything_6]) == [low[0], everything_6]
    assert overlay(low, [everything_4]) == [low[1], everything_4]


def test_all_of_ipv4_stays_by_itself() -> None:
    halves = [prefix(ip_network(text), 1) for text in ("0.0.0.0/1", "128.0.0.0/1")]
    beside = (0xFFFE << 32, 96, 1)
    assert join([beside, *halves]) == [beside, prefix(ip_network("0.0.0.0/0"), 1)]
