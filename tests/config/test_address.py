from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l4lb.config import Address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.1:80", Address(host="10.0.0.1", port=80)),
        ("*:80", Address(host="0.0.0.0", port=80)),
        ("[2001:DB8:0::1]:443", Address(host="2001:db8::1", port=443)),
        ("[::]:0", Address(host="::", port=0)),
        ("[fe80::1%eth0]:80", Address(host="fe80::1%eth0", port=80)),
        ("GPU-1.ml.svc:8000", Address(host="gpu-1.ml.svc", port=8000)),
        ("localhost:65535", Address(host="localhost", port=65535)),
        ("svc.ns.svc.cluster.local.:80", Address(host="svc.ns.svc.cluster.local.", port=80)),
        ("unix:/run/x y.sock", Address(path="/run/x y.sock")),
        ("unix:@abstract", Address(path="@abstract")),
    ],
)
def test_every_form_is_read_and_spelled_back(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("10.0.0.1", "write 10.0.0.1:PORT"),
        ("8000", "write *:8000"),
        (":8000", "write *:8000"),
        ("2001:db8::1:80", "brackets"),
        ("[2001:db8::1]", "brackets"),
        ("[2001:db8::1", "brackets"),
        ("[10.0.0.1]:80", "IPv6"),
        ("10.0.0.256:80", "IPv4"),
        ("10.0.1:80", "IPv4"),
        ("010.0.0.1:80", "IPv4"),
        ("10.0.0.1:65536", "ports are 1 to 65535"),
        ("10.0.0.1:-1", "ports are 1 to 65535"),
        ("10.0.0.1:http", "ports are 1 to 65535"),
        ("10.0.0.1:", "ports are 1 to 65535"),
        ("10.0.0.1:\u0668\u0660", "not an address"),
        ("a b:80", "not an address"),
        ("-x:80", "host name"),
        ("a..b:80", "host name"),
        ("a..:80", "host name"),
        (".:80", "host name"),
        ("10.0.0.1.:80", "IPv4"),
        ("x" * 64 + ":80", "host name"),
        ("unix:run/x.sock", "absolute"),
        ("unix:/", "absolute"),
        ("unix:@", "absolute"),
        ("unix:/" + "x" * 107, "107 bytes"),
        ("unix:/a\nb", "printed"),
        ("http://10.0.0.1:80", "ambiguous"),
        ("", "no port"),
    ],
)
def test_what_is_no_address_is_refused_with_advice(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint.replace("*", r"\*")):
        Address.parse(text)


@pytest.mark.parametrize(
    ("text", "unix", "name", "ipv6"),
    [
        ("10.0.0.1:80", False, False, False),
        ("[::1]:80", False, False, True),
        ("localhost:80", False, True, False),
        ("10.example:80", False, True, False),
        ("10.example.:80", False, True, False),
        ("unix:/x", True, False, False),
    ],
)
def test_kinds_are_told_apart(text: str, unix: bool, name: bool, ipv6: bool) -> None:
    address = Address.parse(text)
    assert (address.is_unix, address.is_name, address.is_ipv6) == (unix, name, ipv6)


def test_abstract_unix_names_begin_with_nul_for_the_kernel() -> None:
    assert Address.parse("unix:@x").unix_name == "\0x"
    assert Address.parse("unix:/x").unix_name == "/x"
    with pytest.raises(ValueError, match="not a unix socket"):
        _ = Address.parse("10.0.0.1:80").unix_name


@given(st.ip_addresses(), st.integers(0, 65535))
def test_every_ip_address_survives_a_round_trip(ip: object, port: int) -> None:
    text = f"[{ip}]:{port}" if ":" in str(ip) else f"{ip}:{port}"
    address = Address.parse(text)
    assert str(address) == text
    assert not address.is_name


@given(st.text())
def test_any_text_is_an_address_that_round_trips_or_a_value_error(text: str) -> None:
    try:
        address = Address.parse(text)
    except ValueError as error:
        complaint = str(error)
    else:
        assert Address.parse(str(address)) == address
        return
    assert complaint.isprintable()
