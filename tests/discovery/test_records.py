"""What DNS records say of backends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l4lb.config import Address
from l4lb.discovery.records import Service, from_addresses, from_services, small_weights
from l4lb.discovery.source import Endpoint


def test_every_address_is_a_backend_called_by_it() -> None:
    assert from_addresses(["10.0.0.1", "2001:0db8::1"], 8000) == [
        Endpoint("10.0.0.1:8000", Address("10.0.0.1", 8000)),
        Endpoint("[2001:db8::1]:8000", Address("2001:db8::1", 8000)),
    ]


def test_services_are_called_by_their_target_wherever_it_is() -> None:
    services = [Service(10, 30, 8000, "a.test"), Service(10, 60, 8001, "b.test"), Service(20, 0, 8000, "c.test")]
    addresses = {"a.test": ["10.0.0.9"], "b.test": ["2001:db8::2"], "c.test": ["10.0.0.3"]}
    assert from_services(services, addresses) == [
        Endpoint("a.test:8000", Address("10.0.0.9", 8000), 1, None, 0),
        Endpoint("b.test:8001", Address("2001:db8::2", 8001), 2, None, 0),
        Endpoint("c.test:8000", Address("10.0.0.3", 8000), 1, None, 1),
    ]


def test_all_addresses_of_a_target_are_backends_that_share_its_weight() -> None:
    services = [Service(0, 10, 80, "a.test"), Service(0, 10, 80, "b.test")]
    addresses = {"a.test": ["10.0.0.10", "10.0.0.9", "10.0.0.9"], "b.test": ["10.0.0.1"]}

    def found(before: dict[str, str]) -> dict[str, tuple[str | None, int]]:
        return {one.name: (one.address.host, one.weight) for one in from_services(services, addresses, before)}

    assert found({}) == {
        "a.test:80": ("10.0.0.9", 1),
        "a.test:80@10.0.0.10": ("10.0.0.10", 1),
        "b.test:80": ("10.0.0.1", 2),
    }
    kept = found({"a.test:80": "10.0.0.10", "b.test:80": "10.0.0.2"})
    assert (kept["a.test:80"][0], kept["a.test:80@10.0.0.9"][0], kept["b.test:80"][0]) == (
        "10.0.0.10",
        "10.0.0.9",
        "10.0.0.1",
    )


def test_priorities_become_tiers_in_their_order_and_the_last_tier_has_the_rest() -> None:
    services = [Service(65535 - 100 * number, 1, 80, f"{number}.test") for number in range(18)]
    endpoints = from_services(services, {service.target: ["10.0.0.1"] for service in services})
    assert [endpoint.tier for endpoint in endpoints] == [15, 15, *range(15, -1, -1)]


def test_a_target_without_an_address_is_left_out() -> None:
    services = [Service(0, 1, 80, "a.test"), Service(0, 1, 80, "b.test")]
    assert [one.name for one in from_services(services, {"a.test": [], "b.test": ["10.0.0.1"]})] == ["b.test:80"]


@pytest.mark.parametrize(
    ("weights", "small"),
    [
        ([33, 33, 33], [1, 1, 1]),  # as CoreDNS divides 100
        ([50, 50], [1, 1]),
        ([0, 0], [1, 1]),
        ([0, 10], [1, 1]),
        ([10, 20, 30], [1, 2, 3]),
        ([65535, 1], [256, 1]),
        ([], []),
    ],
)
def test_weights_are_small_numbers_of_the_same_proportions(weights: list[int], small: list[int]) -> None:
    assert small_weights(weights) == small


@given(st.lists(st.integers(0, 65535), min_size=1))
def test_weights_keep_their_order_and_their_bounds(weights: list[int]) -> None:
    small = small_weights(weights)
    assert all(1 <= weight <= 256 for weight in small)
    ordered = sorted(zip(weights, small, strict=True))
    assert [weight for _, weight in ordered] == sorted(small)
