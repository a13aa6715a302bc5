"""Backends that are l4lb itself: refused where clients would come back without end, and only there."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import pytest

from l4lb.config.address import Address
from l4lb.config.loops import ListenerRoutes, find_loops
from l4lb.net.own_addresses import own_addresses
from tests.config.conftest import Load, Problems

OWN = frozenset({"10.0.0.5", "2001:db8::5", "fe80::5"})


def door(*binds: str, pool: str = "p", **routes: str) -> ListenerRoutes:
    return ListenerRoutes(
        [Address.parse(bind) for bind in binds], {pool}, {name.replace("_", "."): to for name, to in routes.items()}
    )


def loops(doors: dict[str, ListenerRoutes], own: Collection[str] = OWN, **pools: list[str]) -> set[tuple[str, str]]:
    """Pool and address of each backend on a circle."""
    addresses = {name: {text: Address.parse(text) for text in backends} for name, backends in pools.items()}
    return {(loop.pool, loop.backend) for loop in find_loops(doors, addresses, lambda: own)}


@pytest.mark.parametrize(
    ("bind", "backend", "is_loop"),
    [
        ("127.0.0.1:80", "127.0.0.1:80", True),
        ("127.0.0.1:80", "127.0.0.1:81", False),
        ("127.0.0.1:80", "127.0.0.2:80", False),
        ("127.0.0.1:80", "localhost:80", True),
        ("[::1]:80", "localhost:80", True),
        ("0.0.0.0:80", "127.0.0.1:80", True),
        ("0.0.0.0:80", "127.9.9.9:80", True),
        ("0.0.0.0:80", "10.0.0.5:80", True),
        ("0.0.0.0:80", "10.0.0.6:80", False),
        ("0.0.0.0:80", "[::1]:80", False),
        ("0.0.0.0:80", "[2001:db8::5]:80", False),
        ("[::]:80", "[::1]:80", True),
        ("[::]:80", "[2001:db8::5]:80", True),
        ("[::]:80", "[2001:db8::6]:80", False),
        ("[::]:80", "127.0.0.1:80", True),
        ("[::]:80", "10.0.0.5:80", True),
        ("10.0.0.5:80", "10.0.0.5:80", True),
        ("10.0.0.5:80", "127.0.0.1:80", False),
        ("127.0.0.1:80", "model.example:80", False),
        ("unix:/run/a.sock", "unix:/run/a.sock", True),
        ("unix:/run/a.sock", "unix:/run/../run//a.sock", True),
        ("unix:/run/a.sock", "unix:/run/b.sock", False),
        ("unix:@a", "unix:@a", True),
        ("unix:/a", "unix:@/a", False),
    ],
)
def test_a_listener_is_known_by_all_its_addresses(bind: str, backend: str, is_loop: bool) -> None:
    assert bool(loops({"a": door(bind)}, p=[backend, "192.0.2.1:80"])) is is_loop


def test_a_chain_of_listeners_is_no_circle() -> None:
    doors = {"edge": door("0.0.0.0:443", pool="tls"), "inner": door("127.0.0.1:8443", pool="web")}
    assert loops(doors, tls=["127.0.0.1:8443"], web=["10.0.0.9:443"]) == set()


def test_a_circle_of_any_length_is_found_and_what_leads_to_it_is_not_blamed() -> None:
    doors = {name: door(f"127.0.0.1:{port}", pool=name) for port, name in enumerate("abcde", 1)}
    found = loops(
        doors, a=["127.0.0.1:2"], b=["127.0.0.1:3", "127.0.0.1:5"], c=["127.0.0.1:4"], d=["127.0.0.1:2"], e=[]
    )
    assert found == {("b", "127.0.0.1:3"), ("c", "127.0.0.1:4"), ("d", "127.0.0.1:2")}


def test_a_circle_has_to_be_closed_for_one_server_name() -> None:
    a, b = "127.0.0.1:1", "127.0.0.1:2"
    one, other = door(a, pool="away", x_example="to_b"), door(b, pool="away", y_example="to_a")
    assert loops({"a": one, "b": other}, to_a=[a], to_b=[b], away=["10.0.0.9:1"]) == set()
    same = door(b, pool="away", x_example="to_a")
    assert loops({"a": one, "b": same}, to_a=[a], to_b=[b], away=["10.0.0.9:1"]) == {("to_a", a), ("to_b", b)}
    below = ListenerRoutes([Address.parse(b)], {"away"}, {"*.example": "to_a"})
    assert loops({"a": one, "b": below}, to_a=[a], to_b=[b], away=["10.0.0.9:1"]) == {("to_a", a), ("to_b", b)}
    apart = ListenerRoutes([Address.parse(b)], {"away"}, {"*.example": "to_a", "x.example": "away"})
    assert loops({"a": one, "b": apart}, to_a=[a], to_b=[b], away=["10.0.0.9:1"]) == set()


def test_own_addresses_are_asked_for_only_where_they_matter() -> None:
    def never() -> Collection[str]:
        raise AssertionError

    doors = {"a": door("0.0.0.0:80"), "b": door("10.0.0.5:81")}
    pools = {"p": {0: Address.parse("10.0.0.7:81"), 1: Address.parse("127.0.0.1:82")}}
    assert find_loops(doors, pools, never) == []


def test_the_host_knows_its_own_addresses() -> None:
    assert "127.0.0.1" in own_addresses()


def config(*backends: Any) -> str:
    pools = {"web": {"backends": backends}}
    return json.dumps({"listeners": {"web": {"bind": "*:8080", "pool": "web"}}, "pools": pools})


def test_a_file_with_a_circle_is_refused_at_the_backend(problems: Problems) -> None:
    (found,) = problems(config("192.0.2.1:80", {"name": "me", "address": "127.0.0.1:8080"}))
    place, _, message = found.partition(": error: ")
    assert message.startswith("pools.web.backends[1]: 127.0.0.1:8080 is l4lb itself, so connections would loop")
    assert place.startswith("l4lb.yaml:1:")


def test_a_file_with_a_chain_is_valid(load: Load) -> None:
    load(
        """
        listeners: {edge: {bind: "*:8080", pool: tls}, inner: {bind: "127.0.0.1:8081", pool: web}}
        pools: {tls: {backends: ["127.0.0.1:8081"]}, web: {backends: ["127.0.0.1:80"]}}
        """
    )
