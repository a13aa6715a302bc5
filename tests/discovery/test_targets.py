"""Prometheus' target groups: read whole or refused whole, with the reason."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l4lb.config import Address
from l4lb.discovery.source import DiscoveryError, Endpoint
from l4lb.discovery.targets import parse_json, parse_yaml, read_groups

GROUPS = [
    {
        "targets": ["10.0.10.2:8000", "[2001:db8::1]:8000"],
        "labels": {"__meta_datacenter": "london", "weight": "100", "zone": "eu-1a", "tier": "1", "job": "x"},
    },
    {"targets": ["gpu-7.Example:8000"]},
    {"targets": [], "labels": None},
]

EXPECTED = [
    Endpoint("10.0.10.2:8000", Address("10.0.10.2", 8000), 100, "eu-1a", 1),
    Endpoint("[2001:db8::1]:8000", Address("2001:db8::1", 8000), 100, "eu-1a", 1),
    Endpoint("gpu-7.example:8000", Address("gpu-7.example", 8000)),
]


def test_groups_are_read_with_the_labels_that_concern_us() -> None:
    assert parse_json(json.dumps(GROUPS).encode()) == EXPECTED
    assert parse_yaml(json.dumps(GROUPS).replace("null", "{}").encode()) == EXPECTED


def test_yaml_as_people_write_it() -> None:
    text = b"- targets:\n  - 10.0.0.1:80\n  - 10.0.0.2:80\n  labels: {weight: 2, zone: on}\n"
    assert [(one.name, one.weight, one.zone) for one in parse_yaml(text)] == [
        ("10.0.0.1:80", 2, "on"),
        ("10.0.0.2:80", 2, "on"),
    ]


@pytest.mark.parametrize("body", [b"[]", b' [{"targets": []}]'])
def test_nothing_is_an_answer(body: bytes) -> None:
    assert parse_json(body) == parse_yaml(body) == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "a list of target groups is expected"),
        (None, "a list of target groups is expected"),
        (["10.0.0.1:80"], "group 1 is no object with targets"),
        ([{"targets": "10.0.0.1:80"}], "group 1 has no list of targets"),
        ([{"labels": {}}], "group 1 has no list of targets"),
        ([{"targets": []}, {"targets": [], "labels": []}], "group 2: its labels are no object"),
        ([{"targets": ["10.0.0.1"]}], "group 1: '10.0.0.1' has no port"),
        ([{"targets": ["http://10.0.0.1:80/x"]}], "group 1: "),
        ([{"targets": [80]}], "group 1: 80 is not an address"),
        ([{"targets": [None]}], "group 1: an address is expected"),
        ([{"targets": ["0.0.0.0:80"]}], "is every address"),
        ([{"targets": ["10.0.0.1:0"]}], "has a bad port"),
        ([{"targets": ["unix:/run/admin.sock"]}], "is a socket of this host"),
        ([{"targets": [], "labels": {"weight": "-1"}}], "the weight '-1' is no whole number from 0 to 256"),
        ([{"targets": [], "labels": {"weight": "257"}}], "the weight '257' is no"),
        ([{"targets": [], "labels": {"weight": 1.5}}], "the weight '1.5' is no"),
        ([{"targets": [], "labels": {"weight": True}}], "the weight 'True' is no"),
        ([{"targets": [], "labels": {"tier": "9" * 5000}}], "is no whole number"),
        ([{"targets": [], "labels": {"zone": 1}}], "the zone '1' is no text"),
    ],
)
def test_a_mistake_anywhere_refuses_it_all(data: Any, message: str) -> None:
    with pytest.raises(DiscoveryError, match=message.replace("(", r"\(").replace("[", r"\[")):
        parse_json(json.dumps(data).encode())


@pytest.mark.parametrize("body", [b"", b"[", b"\xff\xfe", b"[" * 100_000, b"NaN", b"<html>"])
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(DiscoveryError):
        parse_json(body)


@pytest.mark.parametrize("body", [b"", b"a: [", b"\xff\xff\xff", b"- !!python/object:os.system x", b"- &a [*a]"])
def test_what_is_no_yaml_of_groups_is_refused(body: bytes) -> None:
    with pytest.raises(DiscoveryError):
        parse_yaml(body)


def test_references_cannot_make_a_small_file_large() -> None:
    text = "- &g {targets: [" + "10.0.0.1:80, " * 1000 + "]}\n" + "- *g\n" * 100_000
    with pytest.raises(DiscoveryError, match="more than"):
        parse_yaml(text.encode())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["targets", "labels", "weight", "zone"]), inner),
)


@given(JSON)
def test_any_data_is_endpoints_or_refused(data: Any) -> None:
    with contextlib.suppress(DiscoveryError):
        assert all(isinstance(endpoint, Endpoint) for endpoint in read_groups(data))
