"""Turns DNS records into endpoints. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from l4lb.base.limits import TIERS_MAX, WEIGHT_MAX
from l4lb.config import Address
from l4lb.discovery.source import Endpoint

PARTS_MAX = 720
"""A weight is divided into this many parts, so that up to six addresses share it exactly."""


@dataclass(frozen=True, slots=True)
class Service:
    """One SRV record (RFC 2782). `target` is without the trailing dot."""

    priority: int
    weight: int
    port: int
    target: str


def from_addresses(addresses: Iterable[str], port: int) -> list[Endpoint]:
    """One endpoint for each address."""
    return [Endpoint(str(address), address) for address in (_address(text, port) for text in addresses)]


def from_services(
    services: Sequence[Service], addresses: Mapping[str, Sequence[str]], before: Mapping[str, str] | None = None
) -> list[Endpoint]:
    """An endpoint for each address of each target. The first one is named by target and port, the others by their
    address as well. `before` maps names to addresses: a name keeps its address while that exists.

    Priorities become tiers. Weights become small numbers of the same proportions, so that equal records have the weight
    1 however many they are; the addresses of a target share its weight.
    """
    priorities = sorted({service.priority for service in services})
    tiers = {priority: min(tier, TIERS_MAX - 1) for tier, priority in enumerate(priorities)}
    found = [_sorted(addresses.get(service.target, ())) for service in services]
    parts = min(math.lcm(*(len(hosts) or 1 for hosts in found)), PARTS_MAX)
    weights = small_weights(
        [service.weight * parts // (len(hosts) or 1) for service, hosts in zip(services, found, strict=True)]
    )
    endpoints: list[Endpoint] = []
    for service, hosts, weight in zip(services, found, weights, strict=True):
        name = f"{service.target}:{service.port}"
        first = (before or {}).get(name)
        for host in hosts:
            called = name if host == (first if first in hosts else hosts[0]) else f"{name}@{host}"
            endpoints.append(Endpoint(called, _address(host, service.port), weight, None, tiers[service.priority]))
    return endpoints


def _sorted(addresses: Iterable[str]) -> list[str]:
    """Sorted, without duplicates."""
    return [str(ip) for ip in sorted({ip_address(text) for text in addresses}, key=lambda ip: (ip.version, int(ip)))]


def small_weights(weights: Sequence[int]) -> list[int]:
    """Weights from 1 to 256 in these proportions. RFC 2782 gives the weight 0 a very small share."""
    divisor = math.gcd(*weights) or 1
    scale = max(1.0, max(weights, default=0) / divisor / WEIGHT_MAX)
    return [max(1, round(weight / divisor / scale)) for weight in weights]


def _address(text: str, port: int) -> Address:
    return Address(host=str(ip_address(text)), port=port)
