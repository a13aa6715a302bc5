"""What EndpointSlices say, in all the shapes that the API allows."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l4lb.discovery.endpoint_slices import merge, read_slice
from l4lb.discovery.source import DiscoveryError, Endpoint, Readiness

READY, NOT_READY, DRAINING = Readiness.READY, Readiness.NOT_READY, Readiness.DRAINING
LAST_RESORT = Readiness.LAST_RESORT


def endpoint(address: str, pod: str | None = None, **values: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"addresses": [address]} | values
    return found if pod is None else found | {"targetRef": {"kind": "Pod", "name": pod}}


def a_slice(*endpoints: Any, ports: Any = ({"name": "http", "port": 8000, "protocol": "TCP"},), **values: Any) -> Any:
    return {"addressType": "IPv4", "endpoints": list(endpoints), "ports": ports} | values


def found(*slices: Any, port: Any = None) -> list[Endpoint]:
    return merge(read_slice(one, port) for one in slices).endpoints


def readiness(*conditions: Any) -> list[Readiness]:
    endpoints = [endpoint(f"10.0.0.{number}", conditions=one) for number, one in enumerate(conditions)]
    return [one.readiness for one in sorted(found(a_slice(*endpoints)), key=lambda one: one.name)]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({"ready": True, "serving": True, "terminating": False}, READY),
        ({"ready": None, "serving": None, "terminating": None}, READY),
        ({}, READY),
        (None, READY),
        ({"ready": True}, READY),
        ({"ready": False}, NOT_READY),
        ({"ready": False, "serving": False, "terminating": False}, NOT_READY),
        ({"ready": False, "serving": True, "terminating": False}, NOT_READY),
        ({"ready": False, "serving": True, "terminating": True}, DRAINING),
        ({"ready": False, "serving": False, "terminating": True}, DRAINING),
        ({"ready": True, "serving": True, "terminating": True}, DRAINING),  # publishNotReadyAddresses
        ({"terminating": True}, DRAINING),
    ],
)
def test_conditions(conditions: Any, expected: Readiness) -> None:
    assert readiness(conditions, {"ready": True})[0] is expected


def test_a_terminating_endpoint_that_serves_is_a_last_resort_where_none_is_ready() -> None:
    going = {"ready": False, "serving": True, "terminating": True}
    gone = {"ready": False, "serving": False, "terminating": True}
    assert readiness(going, gone, {"ready": False}) == [LAST_RESORT, DRAINING, NOT_READY]
    assert readiness(going, gone, {"ready": True}) == [DRAINING, DRAINING, READY]


def test_backends_are_called_as_their_pods() -> None:
    endpoints = found(a_slice(endpoint("10.0.0.1", "llama-0", zone="a"), endpoint("10.0.0.2")))
    assert [(one.name, str(one.address), one.zone) for one in endpoints] == [
        ("llama-0", "10.0.0.1:8000", "a"),
        ("10.0.0.2:8000", "10.0.0.2:8000", None),
    ]


def test_an_endpoint_in_two_slices_is_one_and_the_readier_counts() -> None:
    moving = [endpoint("10.0.0.1", "a", conditions={"ready": ready}) for ready in (False, True)]
    for first, second in (moving, moving[::-1]):
        (one,) = found(a_slice(first), a_slice(second))
        assert (one.name, one.readiness) == ("a", READY)


def test_of_two_that_are_about_to_go_the_one_that_serves_counts() -> None:
    going = [
        endpoint("10.0.0.1", "a", conditions={"serving": serving, "terminating": True}) for serving in (True, False)
    ]
    for first, second in (going, going[::-1]):
        (one,) = found(a_slice(first), a_slice(second))
        assert one.readiness is LAST_RESORT


def test_a_pod_with_two_families_is_one_backend_at_its_ipv4_address() -> None:
    v6 = a_slice(endpoint("2001:db8::1", "a"), endpoint("2001:db8::2", "b"), addressType="IPv6")
    v4 = a_slice(endpoint("10.0.0.1", "a", conditions={"ready": False}))
    assert {one.name: (str(one.address), one.readiness) for one in found(v6, v4)} == {
        "a": ("10.0.0.1:8000", NOT_READY),
        "b": ("[2001:db8::2]:8000", READY),
    }


def test_names_are_addresses_too() -> None:
    (one,) = found(a_slice(endpoint("gpu.example"), addressType="FQDN"))
    assert str(one.address) == "gpu.example:8000"


TWO = ({"name": "http", "port": 8000}, {"name": "metrics", "port": 9000, "protocol": "TCP"})


@pytest.mark.parametrize(
    ("ports", "port", "expected"),
    [
        (TWO, "metrics", 9000),
        (TWO, 8000, 8000),
        (({"name": "", "port": 8000},), None, 8000),
        (({"name": None, "port": 8000}, {"name": "dns", "port": 53, "protocol": "UDP"}), None, 8000),
        (({"name": "", "port": None},), 7000, 7000),
    ],
)
def test_the_port_that_is_asked_for(ports: Any, port: Any, expected: int) -> None:
    (one,) = found(a_slice(endpoint("10.0.0.1"), ports=ports), port=port)
    assert one.address.port == expected


@pytest.mark.parametrize(
    ("ports", "port", "message"),
    [
        (TWO, None, r"has several ports \(http, metrics\); give port"),
        (TWO, "grpc", "does not have the port"),
        (TWO, 1, "does not have the port"),
        (({"name": "", "port": None},), None, "for all ports; give the number"),
        ([], "http", "does not have the port"),
        (None, None, "does not have the port"),
    ],
)
def test_a_port_that_is_not_there(ports: Any, port: Any, message: str) -> None:
    with pytest.raises(DiscoveryError, match=message):
        found(a_slice(endpoint("10.0.0.1"), ports=ports), port=port)


def test_slices_may_name_ports_differently_as_while_a_service_changes() -> None:
    old, new = ({"name": "http", "port": 8000},), ({"name": "http", "port": 8080},)
    endpoints = found(
        a_slice(endpoint("10.0.0.1"), ports=old),
        a_slice(endpoint("10.0.0.2"), ports=new),
        a_slice(endpoint("10.0.0.3"), ports=({"name": "other", "port": 1},)),
        port="http",
    )
    assert [one.name for one in endpoints] == ["10.0.0.1:8000", "10.0.0.2:8080"]


@pytest.mark.parametrize("slices", [(), (a_slice(),), (a_slice(ports=None),), (a_slice(endpoints=None, ports=[]),)])
def test_an_empty_list_of_endpoints_is_valid(slices: Any) -> None:
    assert found(*slices) == []


def test_hints_count_where_everybody_ready_has_one() -> None:
    def hinted(number: int, zone: str, *hints: str, ready: bool = True) -> Any:
        zones = {"forZones": [{"name": one} for one in hints]}
        return endpoint(f"10.0.0.{number}", zone=zone, hints=zones, conditions={"ready": ready})

    with_all = a_slice(hinted(1, "a", "b"), hinted(2, "a", "b", "a"), hinted(3, "c", ready=False))
    assert [one.zone for one in found(with_all)] == ["b", "a", "c"]
    without = a_slice(hinted(1, "a", "b"), hinted(2, "a"))
    assert [one.zone for one in found(without)] == ["a", "a"]


def test_what_is_no_endpoint_slice_is_refused() -> None:
    with pytest.raises(DiscoveryError, match="unknown address type"):
        found(a_slice(addressType="IPX"))
    with pytest.raises(ValueError, match="is not a list"):
        found({"addressType": "IPv4", "endpoints": {}})


CONDITION = st.none() | st.booleans()
ENTRY = st.builds(
    lambda address, pod, ready, serving, terminating: endpoint(
        f"10.0.0.{address}", pod, conditions={"ready": ready, "serving": serving, "terminating": terminating}
    ),
    st.integers(1, 9),
    st.none() | st.sampled_from("abc"),
    CONDITION,
    CONDITION,
    CONDITION,
)


@given(st.lists(ENTRY, max_size=12), st.integers(1, 4), st.randoms())
def test_how_endpoints_are_spread_over_slices_does_not_matter(
    entries: list[Any], number: int, dice: random.Random
) -> None:
    together = found(a_slice(*entries))
    assert len({one.name for one in together}) == len(together)
    shuffled = dice.sample(entries, len(entries))
    apart = [a_slice(*shuffled[index::number]) for index in range(number)]
    key = {one.name: one for one in together}
    assert {one.name: one for one in found(*apart)} == key


def test_all_addresses_at_which_a_pod_is_ready_are_backends() -> None:
    pods = [endpoint("10.0.0.2", "a"), endpoint("10.0.0.1", "a"), endpoint("10.0.0.3", "b")]
    gone = endpoint("10.0.0.9", "a", conditions={"ready": False})
    assert {one.name: one.address.host for one in found(a_slice(*pods, gone), a_slice(pods[0]))} == {
        "a": "10.0.0.1",
        "a@10.0.0.2": "10.0.0.2",
        "b": "10.0.0.3",
    }


def test_an_endpoint_that_is_wrong_is_left_out_alone() -> None:
    good = endpoint("10.0.0.1", "a")
    for wrong in (
        good | {"targetRef": "Pod/a"},
        good | {"conditions": "ready"},
        endpoint("fe80::1", "b"),
        endpoint("not an address", "b"),
        endpoint("10.0.0.300", "b"),
        {"addresses": [None]},
        {"addresses": "10.0.0.1"},
    ):
        answer = merge([read_slice(a_slice(wrong, endpoint("10.0.0.2", "c")), None)])
        assert [one.name for one in answer.endpoints] == ["c"]
        assert len(answer.unusable) == 1


@pytest.mark.parametrize("ports", [None, []])
def test_a_service_without_ports_is_reached_at_the_number_that_is_given(ports: Any) -> None:
    (one,) = found(a_slice(endpoint("10.0.0.1", "a"), ports=ports), port=9000)
    assert str(one.address) == "10.0.0.1:9000"
    with pytest.raises(DiscoveryError, match="does not have the port"):
        found(a_slice(endpoint("10.0.0.1", "a"), ports=ports), port="http")
