"""What keys and values in etcd say of backends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l4lb.config import Address
from l4lb.discovery.keys import range_end, read_pair, read_pairs
from l4lb.discovery.source import Endpoint

A = Address("10.0.0.1", 8000)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("a", b"10.0.0.1:8000", Endpoint("a", A)),
        ("a", b" 10.0.0.1:8000\n", Endpoint("a", A)),
        ("a/b", b'{"address": "10.0.0.1:8000", "weight": 0, "zone": "eu", "tier": 2}', Endpoint("a/b", A, 0, "eu", 2)),
        ("/a/", b'{"Op": 0, "Addr": "10.0.0.1:8000", "Metadata": null}', Endpoint("a", A)),
        ("", b"10.0.0.1:8000", Endpoint("10.0.0.1:8000", A)),
        ("a b", b"10.0.0.1:8000", Endpoint("10.0.0.1:8000", A)),
    ],
)
def test_pairs(name: str, value: bytes, expected: Endpoint) -> None:
    assert read_pair(name, value) == expected


def test_what_is_wrong_is_passed_over_and_said() -> None:
    wrong = {
        b"/p/empty": b"",
        b"/p/port": b"10.0.0.1",
        b"/p/json": b'{"address"',
        b"/p/nothing": b"{}",
        b"/p/weight": b'{"address": "10.0.0.1:80", "weight": "1"}',
        b"/p/heavy": b'{"address": "10.0.0.1:80", "weight": 257}',
        b"/p/tier": b'{"address": "10.0.0.1:80", "tier": true}',
        b"/p/zone": b'{"address": "10.0.0.1:80", "zone": 1}',
        b"/p/unix": b"unix:/run/admin.sock",
        b"/p/bytes": b"\xff\xfe",
        b"/p/\xff": b"x",
    }
    answer = read_pairs({b"/p/a": b"10.0.0.1:8000", **wrong}.items(), "/p/")
    assert [one.name for one in answer.endpoints] == ["a"]
    assert set(answer.unusable) == {f"the key {key.decode('utf-8', 'backslashreplace')}" for key in wrong}
    assert "has no port" in answer.unusable["the key /p/port"]
    assert all(answer.unusable.values())


@given(st.binary(min_size=1, max_size=4), st.binary(max_size=6))
def test_the_range_of_a_prefix_has_exactly_what_begins_with_it(prefix: bytes, key: bytes) -> None:
    end = range_end(prefix)
    inside = key >= prefix and (end == b"\0" or key < end)
    # A prefix of nothing but the last byte there is has no end.
    assert inside == key.startswith(prefix) or prefix == b"\xff" * len(prefix)
