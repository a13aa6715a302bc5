from __future__ import annotations

import pytest

from l4lb.admin.encoding import accepts_gzip


@pytest.mark.parametrize(
    ("header", "accepts"),
    [
        ("", False),
        ("gzip", True),
        ("GZIP;Q=1", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("gzip;q=0.001", True),
        ("identity, gzip ; q=0.5", True),
        ("*", True),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("*;q=0, gzip", True),
        ("x-gzip", True),
        ("deflate, br", False),
        ("not-gzip", False),
        ("identity;q=1, gzip;q=0, *;q=1", False),
        (";;,,;q=0", False),
    ],
)
def test_what_a_client_takes(header: str, accepts: bool) -> None:
    assert accepts_gzip(header) is accepts
