"""Endpoints are judged one by one, by the rules for backends of the file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l4lb.config import Address
from l4lb.discovery.source import Endpoint
from l4lb.discovery.usable import usable
from l4lb.state.discovered import expand
from tests.helpers.build import config

GOOD = Endpoint("a", Address("10.0.0.1", 80))


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [
        (Endpoint("b", Address("fe80::1", 80)), "needs its interface"),
        (Endpoint("b", Address("2001:db8::1%eth0", 80)), "only link-local"),
        (Endpoint("b", Address("fe80::1%" + "x" * 16, 80)), "no interface"),
        (Endpoint("b", Address("10.0.0.1", 0)), "bad port"),
        (Endpoint("b", Address("0.0.0.0", 80)), "every address"),
        (Endpoint("b", Address(path="/run/x.sock")), "socket of this host"),
        (Endpoint("b", Address("10.0.0.1", 80), weight=257), "weight"),
        (Endpoint("b", Address("10.0.0.1", 80), weight=-1), "weight"),
        (Endpoint("b", Address("10.0.0.1", 80), tier=16), "tier"),
        (Endpoint("b c", Address("10.0.0.1", 80)), "name"),
        (Endpoint("", Address("10.0.0.1", 80)), "name"),
        (Endpoint("b" * 256, Address("10.0.0.1", 80)), "name"),
    ],
)
def test_one_that_can_be_no_backend_is_left_out_alone(endpoint: Endpoint, reason: str) -> None:
    good, wrong = usable([GOOD, endpoint])
    assert good == [GOOD]
    ((_, message),) = wrong.items()
    assert reason in message


def test_an_ipv4_address_in_ipv6_is_ipv4() -> None:
    good, _ = usable([Endpoint("a", Address("::ffff:10.0.0.1", 80))])
    assert good == [GOOD]


def test_what_is_known_to_be_usable_is_not_judged_again() -> None:
    bad = Endpoint("b c", Address("10.0.0.1", 80))
    assert usable([bad], {bad}) == ([bad], {})


HOSTS = st.one_of(st.ip_addresses().map(str), st.text(max_size=20), st.just("fe80::1%lo"))
ADDRESSES = st.builds(Address, HOSTS, st.integers(-1, 70_000)) | st.builds(Address, path=st.text(max_size=120))
ENDPOINTS = st.builds(Endpoint, st.text(max_size=300), ADDRESSES, st.integers(-9, 999), st.text(), st.integers(-9, 99))


@given(st.lists(ENDPOINTS, max_size=5))
def test_whatever_is_usable_can_be_a_backend(endpoints: list[Endpoint]) -> None:
    good, wrong = usable(endpoints)
    assert len(good) + len(wrong) <= len(endpoints)
    expanded = expand(config(pool={"discover": {"file": {"path": "x.json"}}}), {"app": good})
    assert len(expanded.pools["app"].backends) == len(good)
