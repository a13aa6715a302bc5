"""Databases: what is in them, and what is said of those that cannot be read."""

from __future__ import annotations

import os
import re
import sys
from ipaddress import ip_network
from pathlib import Path

import pytest

from l4lb.geo import database
from tests.helpers.mmdb import write_database

DE, FR = ({"country": {"iso_code": code, "names": {"en": code * 20}}} for code in ("DE", "FR"))


def test_networks_of_both_families_come_once_with_their_records(tmp_path: Path) -> None:
    networks = {"10.0.0.0/8": DE, "10.1.0.0/16": FR, "2001:db8::/32": FR}
    path = write_database(tmp_path / "geo.mmdb", networks)
    found = {str(network): record for network, record in database.networks(str(path))}
    assert found.pop("2001:db8::/32") == FR
    assert found.pop("10.1.0.0/16") == FR
    assert all(record == DE for record in found.values())
    assert sum(ip_network(text).num_addresses for text in found) == 2**24 - 2**16


def test_databases_of_ipv4_alone_are_read(tmp_path: Path) -> None:
    path = write_database(tmp_path / "geo.mmdb", {"192.0.2.0/24": DE}, ip_version=4)
    assert list(database.networks(str(path))) == [(ip_network("192.0.2.0/24"), DE)]


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("none.mmdb", "none.mmdb cannot be read: No such file or directory"),
        ("folder", "folder is not a file; give the .mmdb file of a database"),
        ("pipe", "pipe is not a file"),
        ("text", "text is not a complete database in the MaxMind DB format; download it again"),
        ("empty", "empty is not a complete database"),
        ("half", "half is not a complete database"),
    ],
)
def test_what_is_no_database_is_one_sentence(tmp_path: Path, name: str, complaint: str) -> None:
    whole = write_database(tmp_path / "whole", {"10.0.0.0/8": DE}).read_bytes()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text").write_text("hello" * 100)
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "half").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(database.DatabaseError, match=re.escape(complaint)):
        database.check(str(tmp_path / name))
    with pytest.raises(database.DatabaseError, match=re.escape(complaint)):
        list(database.networks(str(tmp_path / name)))


def test_a_broken_tree_is_found_when_it_is_read(tmp_path: Path) -> None:
    path = write_database(tmp_path / "geo.mmdb", {"10.0.0.0/8": DE})
    data = bytearray(path.read_bytes())
    data[:8] = b"\xff" * 8
    path.write_bytes(data)
    database.check(str(path))
    with pytest.raises(database.DatabaseError, match="not a complete database"):
        list(database.networks(str(path)))


def test_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(write_database(tmp_path / "geo.mmdb", {"10.0.0.0/8": DE, "11.0.0.0/8": FR}))
    monkeypatch.setattr(database, "NETWORKS_MAX", 1)
    with pytest.raises(database.DatabaseError, match="more than 1 networks"):
        list(database.networks(path))
    monkeypatch.setattr(database, "BYTES_MAX", 100)
    with pytest.raises(database.DatabaseError, match="more than the 100 that a database may have"):
        database.check(path)


def test_without_the_package_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(write_database(tmp_path / "geo.mmdb", {}))
    monkeypatch.setitem(sys.modules, "maxminddb", None)
    with pytest.raises(database.DatabaseError, match=re.escape("pip install 'l4lb[geo]'")):
        database.check(path)


def test_reading_leaves_no_descriptor_open(tmp_path: Path) -> None:
    path = str(write_database(tmp_path / "geo.mmdb", {"10.0.0.0/8": DE}))
    before = len(os.listdir("/proc/self/fd"))
    database.check(path)
    list(database.networks(path))
    next(database.networks(path))
    with pytest.raises(database.DatabaseError):
        database.check(str(tmp_path / "none"))
    assert len(os.listdir("/proc/self/fd")) == before


def test_identity_changes_with_the_file(tmp_path: Path) -> None:
    path = write_database(tmp_path / "geo.mmdb", {"10.0.0.0/8": DE})
    before = database.identity(str(path))
    assert database.identity(str(path)) == before
    write_database(path, {"10.0.0.0/8": DE, "192.0.2.0/24": FR})
    assert database.identity(str(path)) != before
    with pytest.raises(database.DatabaseError, match="No such file"):
        database.identity(str(tmp_path / "none"))
