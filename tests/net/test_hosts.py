"""Names in /etc/hosts are found as the C library finds them."""

from __future__ import annotations

from pathlib import Path

import pytest

from l4lb.net.hosts import addresses

HOSTS = """\
# 192.0.2.1 commented.lan
127.0.0.1 localhost
127.0.0.9\tLlama.lan llama # and a comment: 10.0.0.1 llama.lan
127.0.0.10 llama.lan
127.0.0.9 llama.lan
2001:db8::1 llama.lan
nonsense llama.lan
10.0.0.256 llama.lan

10.0.0.1
"""


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("llama.lan", ["127.0.0.9", "127.0.0.10", "2001:db8::1"]),
        ("LLAMA.LAN.", ["127.0.0.9", "127.0.0.10", "2001:db8::1"]),
        ("llama", ["127.0.0.9"]),
        ("commented.lan", []),
        ("lan", []),
        ("", []),
    ],
)
def test_all_addresses_of_a_name_are_found_in_order(tmp_path: Path, name: str, found: list[str]) -> None:
    path = tmp_path / "hosts"
    path.write_text(HOSTS)
    assert addresses(name, str(path)) == found


def test_a_file_that_is_not_there_has_no_names(tmp_path: Path) -> None:
    assert addresses("a", str(tmp_path / "none")) == []


def test_any_bytes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_bytes(b"\xff\x00\n127.0.0.1 a\r\n" + b"x" * 100_000)
    assert addresses("a", str(path)) == ["127.0.0.1"]
