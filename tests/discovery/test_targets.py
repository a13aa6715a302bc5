"""Prometheus' target groups: what is not of their shape is refused, what is no address left out."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l4lb.config import Address
from l4lb.discovery.source import Answer, DiscoveryError, Endpoint
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
    assert parse_json(json.dumps(GROUPS).encode()).endpoints == EXPECTED
    assert parse_yaml(json.dumps(GROUPS).replace("null", "{}").encode()).endpoints == EXPECTED


def test_yaml_as_people_write_it() -> None:
    text = b"- targets:\n  - 10.0.0.1:80\n  - 10.0.0.2:80\n  labels: {weight: 2, zone: on}\n"
    assert [(one.name, one.weight, one.zone) for one in parse_yaml(text).endpoints] == [
        ("10.0.0.1:80", 2, "on"),
        ("10.0.0.2:80", 2, "on"),
    ]


@pytest.mark.parametrize(
    "body",
    [b"[]", b' [{"targets": []}]', b"null", b'[{"targets": null}]', b'[{"labels": null}]', b"\xef\xbb\xbf[]", b"[{}]"],
)
def test_nothing_is_an_answer(body: bytes) -> None:
    assert parse_json(body) == parse_yaml(body) == Answer()


@pytest.mark.parametrize("body", [b"", b"# no target\n", b"---\n", b"- targets:\n", b"~", b"\xef\xbb\xbf# no target"])
def test_nothing_in_yaml_is_an_answer(body: bytes) -> None:
    assert parse_yaml(body) == Answer()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "a list of target groups is expected"),
        ("10.0.0.1:80", "a list of target groups is expected"),
        ([None], "group 1 is not an object with targets"),
        (["10.0.0.1:80"], "group 1 is not an object with targets"),
        ([{"targets": "10.0.0.1:80"}], "group 1: its targets are not a list"),
        ([{"targets": []}, {"targets": [], "labels": []}], "group 2: its labels are not an object"),
    ],
)
def test_what_is_no_list_of_groups_is_refused(data: Any, message: str) -> None:
    with pytest.raises(DiscoveryError, match=message):
        parse_json(json.dumps(data).encode())


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("10.0.0.1", "has no port"),
        ("http://10.0.0.1:80/x", "ambiguous"),
        (80, "80 is not an address"),
        (None, "an address is expected"),
        ("0.0.0.0:80", "is every address"),
        ("[::ffff:0.0.0.0]:80", "is every address"),
        ("10.0.0.1:0", "has a bad port"),
        ("unix:/run/admin.sock", "is a socket of this host"),
        ("[fe80::1]:80", "needs its interface"),
        ("[2001:db8::1%eth0]:80", "only link-local"),
    ],
)
def test_a_target_that_is_no_address_is_left_out_alone(target: Any, message: str) -> None:
    answer = parse_json(json.dumps([{"targets": ["10.0.0.1:80", target]}, {"targets": ["10.0.0.2:80"]}]).encode())
    assert [one.name for one in answer.endpoints] == ["10.0.0.1:80", "10.0.0.2:80"]
    ((entry, reason),) = answer.unusable.items()
    assert (entry.startswith("group 1: "), message in reason) == (True, True)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("weight", "-1"),
        ("weight", "257"),
        ("weight", 1.5),
        ("weight", "heavy"),
        ("weight", True),
        ("weight", ["1"]),
        ("tier", "9" * 5000),
        ("tier", "frontend"),
        ("tier", "16"),
        ("tier", {}),
    ],
)
def test_a_label_of_another_program_has_no_effect_but_is_noted(key: str, value: Any) -> None:
    answer = parse_json(json.dumps([{"targets": ["10.0.0.1:80"], "labels": {key: value, "zone": 1}}]).encode())
    assert answer.endpoints == [Endpoint("10.0.0.1:80", Address("10.0.0.1", 80))]
    assert list(answer.notes) == [f"group 1: the label {key}"]


@pytest.mark.parametrize("body", [b"", b"[", b"\xff\xfe", b"[" * 100_000, b"NaN", b"<html>"])
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(DiscoveryError):
        parse_json(body)


@pytest.mark.parametrize("body", [b"a: [", b"\xff\xff\xff", b"- !!python/object:os.system x", b"- &a [*a]"])
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
        assert all(isinstance(endpoint, Endpoint) for endpoint in read_groups(data).endpoints)
