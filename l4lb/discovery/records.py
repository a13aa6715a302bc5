"""From DNS records to endpoints. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from l4lb.config import Address
from l4lb.discovery.source import TIER_MAX, WEIGHT_MAX, Endpoint


@dataclass(frozen=True, slots=True)
class Service:
    """One SRV record (RFC 2782). `target` is without the last dot."""

    priority: int
    weight: int
    port: int
    target: str


def from_addresses(addresses: Iterable[str], port: int) -> list[Endpoint]:
    """One endpoint for each address."""
    return [Endpoint(str(address), address) for address in (_address(text, port) for text in addresses)]


def from_services(services: Sequence[Service], addresses: Mapping[str, Sequence[str]]) -> list[Endpoint]:
    """One endpoint for each record whose target has an address: of several the lowest, IPv4 before IPv6.

    Priorities become tiers. Weights become small numbers of the same proportions, so that records that share evenly
    have the weight 1 however many they are.
    """
    priorities = sorted({service.priority for service in services})
    tiers = {priority: min(tier, TIER_MAX) for tier, priority in enumerate(priorities)}
    weights = small_weights([service.weight for service in services])
    return [
        Endpoint(f"{service.target}:{service.port}", _address(_lowest(found), service.port), weight, None, tier)
        for service, weight in zip(services, weights, strict=True)
        for tier in (tiers[service.priority],)
        if (found := addresses.get(service.target))
    ]


def small_weights(weights: Sequence[int]) -> list[int]:
    """Weights from 1 to 256 of these proportions. RFC 2782 lets 0 have a very small share."""
    divisor = math.gcd(*weights) or 1
    scale = max(1.0, max(weights, default=0) / divisor / WEIGHT_MAX)
    return [max(1, round(weight / divisor / scale)) for weight in weights]


def _lowest(addresses: Sequence[str]) -> str:
    return min(addresses, key=lambda text: (ip_address(text).version, ip_address(text)))


def _address(text: str, port: int) -> Address:
    return Address(host=str(ip_address(text)), port=port)
