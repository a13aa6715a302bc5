"""What the table computes."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from l4lb.config import Address
from l4lb.demo.load import Served, reachable
from l4lb.demo.table import Rates, Row, draw

STATUS = {"state": "drain", "health": "up", "connections": 4, "connections_total": 5, "bytes_out": 2048}


def test_rate_is_the_mean_over_the_last_seconds() -> None:
    rates = Rates()
    assert rates.of("a") == 0
    for now, tokens in ((0.0, 0), (1.0, 100), (2.0, 100), (4.0, 160), (5.0, 190)):
        rates.add(now, {"a": tokens})
    assert rates.of("a") == 30
    assert rates.of("b") == 0


def test_row_has_both_views_and_fits_a_small_terminal() -> None:
    served = Served(requests=12, tokens=300)
    served.first_token.extend([0.1, 0.2, 0.9])
    out = StringIO()
    console = Console(file=out, width=80)
    console.print(draw([Row("llama-1", 4194304, STATUS, served, 123.4)], 3, "a [hint]"))
    lines = out.getvalue().splitlines()
    row = next(line for line in lines if "llama-1" in line)
    assert row.split() == ["llama-1", "4194304", "drain", "up", "4", "5", "2.0", "KiB", "12", "123", "200", "ms"]
    assert "requests that failed: 3" in out.getvalue()
    assert "a [hint]" in out.getvalue()


@pytest.mark.parametrize(
    ("bound", "expected"),
    [
        ("0.0.0.0:80", "127.0.0.1:80"),
        ("[::]:80", "[::1]:80"),
        ("10.0.0.1:80", "10.0.0.1:80"),
        ("[2001:db8::1]:80", "[2001:db8::1]:80"),
    ],
)
def test_clients_connect_to_loopback_where_every_address_is_bound(bound: str, expected: str) -> None:
    assert str(reachable(Address.parse(bound))) == expected
