"""From a configuration to a table of networks: numbers, order, databases, and when all of it is kept."""

from __future__ import annotations

from array import array
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from l4lb.base.limits import TIERS_MAX
from l4lb.config import Config
from l4lb.config.fields.networks import ZONES_MAX
from l4lb.errors import StartError
from l4lb.state import zones as module
from l4lb.state.zones import NO_ZONES, Zones, compile_zones
from tests.helpers.build import config
from tests.helpers.fake_engine import FakeTable
from tests.helpers.mmdb import write_database

A = "127.0.0.1:9001"
DE, FR, US = (
    {"country": {"iso_code": country}, "continent": {"code": continent}}
    for country, continent in (("DE", "EU"), ("FR", "EU"), ("US", "NA"))
)


def wanted(zones: dict[str, Any], *databases: Path) -> Config:
    sections: dict[str, Any] = {"zones": zones}
    if databases:
        sections["geo"] = {"database": [str(path) for path in databases]}
    return config(A, **sections)


def zone_of(zones: Zones, address: str) -> str | None:
    """By the rule of the data plane: the longest, of equal ones the last."""
    table = zones.table
    assert isinstance(table, FakeTable)
    names = {number: name for name, number in zones.numbers.items()}
    packed = ip_address(address).packed.rjust(16, b"\0")
    packed = packed if ":" in address else packed[:10] + b"\xff\xff" + packed[12:]
    best = (-1, 0)
    for at, number in enumerate(array("I", table.numbers)):
        network, length = table.networks[17 * at : 17 * at + 16], table.networks[17 * at + 16]
        shift = 128 - length
        if length >= best[0] and int.from_bytes(network) >> shift == int.from_bytes(packed) >> shift:
            best = (length, number)
    return names.get(best[1])


def test_networks_are_in_the_zones_that_name_them() -> None:
    zones = compile_zones(
        wanted({"eu": ["10.1.0.0/16", "2001:db8:1::/48"], "none": [], "us": "10.1.2.0/24"}), NO_ZONES, FakeTable
    )
    assert zones.numbers == {"eu": 1, "none": 2, "us": 3}
    addresses = ("10.1.1.1", "10.1.2.1", "10.2.0.1", "2001:db8:1::5", "2001:db8:2::5")
    assert [zone_of(zones, address) for address in addresses] == ["eu", "us", None, "eu", None]


def test_a_database_is_asked_for_what_the_file_does_not_say(tmp_path: Path) -> None:
    path = write_database(
        tmp_path / "geo.mmdb", {"192.0.2.0/25": DE, "192.0.2.128/25": FR, "198.51.100.0/24": US, "2001:db8::/32": FR}
    )
    zones = compile_zones(
        wanted({"eu": ["country:FR", "continent:EU", "198.51.0.0/16"], "de": ["country:DE", "192.0.2.200"]}, path),
        NO_ZONES,
        FakeTable,
    )
    addresses = ("192.0.2.1", "192.0.2.129", "192.0.2.200", "198.51.100.1", "2001:db8::1", "203.0.113.1")
    assert [zone_of(zones, address) for address in addresses] == ["de", "eu", "de", "eu", "eu", None]
    assert zones.idle == ()


def test_what_the_file_says_counts_however_wide_it_is(tmp_path: Path) -> None:
    path = write_database(tmp_path / "geo.mmdb", {"192.0.2.0/28": US, "192.0.0.0/8": US})
    zones = compile_zones(wanted({"us": ["country:US"], "mine": ["192.0.2.0/24"]}, path), NO_ZONES, FakeTable)
    assert [zone_of(zones, address) for address in ("192.0.2.1", "192.0.3.1")] == ["mine", "us"]


def test_of_several_databases_the_last_that_knows_an_address_counts(tmp_path: Path) -> None:
    countries = write_database(tmp_path / "country.mmdb", {"192.0.2.0/28": DE, "192.0.2.64/26": DE})
    systems = write_database(
        tmp_path / "asn.mmdb",
        {"192.0.2.0/26": {"autonomous_system_number": 64500}, "192.0.2.64/26": {"autonomous_system_number": 64501}},
    )
    zones = compile_zones(wanted({"de": ["country:DE"], "isp": ["asn:64500"]}, countries, systems), NO_ZONES, FakeTable)
    assert [zone_of(zones, address) for address in ("192.0.2.1", "192.0.2.65")] == ["isp", "de"]


def test_neighbours_of_one_zone_become_one_network(tmp_path: Path) -> None:
    path = write_database(
        tmp_path / "geo.mmdb", {str(net): DE for net in ip_network("10.0.0.0/16").subnets(new_prefix=24)}
    )
    zones = compile_zones(wanted({"de": ["country:DE"]}, path), NO_ZONES, FakeTable)
    assert isinstance(zones.table, FakeTable)
    assert len(zones.table.networks) == 17


def test_selectors_that_no_database_knows_are_told(tmp_path: Path) -> None:
    path = write_database(tmp_path / "geo.mmdb", {"192.0.2.0/24": DE})
    zones = compile_zones(wanted({"x": ["country:DE", "country:XX", "asn:7"]}, path), NO_ZONES, FakeTable)
    assert sorted(map(str, zones.idle)) == ["asn:7", "country:XX"]


def test_zones_that_stay_the_same_are_not_compiled_again(tmp_path: Path) -> None:
    path = write_database(tmp_path / "geo.mmdb", {"192.0.2.0/24": DE})
    first = compile_zones(wanted({"x": ["country:DE"]}, path), NO_ZONES, FakeTable)
    assert compile_zones(wanted({"x": ["country:DE"]}, path), first, FakeTable) is first
    other = compile_zones(wanted({"x": ["country:DE", "10.0.0.0/8"]}, path), first, FakeTable)
    assert zone_of(other, "10.0.0.1") == "x"
    write_database(path, {"192.0.2.0/24": FR, "198.51.100.0/24": DE})
    changed = compile_zones(wanted({"x": ["country:DE"]}, path), first, FakeTable)
    assert [zone_of(changed, address) for address in ("192.0.2.1", "198.51.100.1")] == [None, "x"]


def test_databases_without_use_are_not_read(tmp_path: Path) -> None:
    assert compile_zones(wanted({"x": ["10.0.0.0/8"]}, tmp_path / "none.mmdb"), NO_ZONES, FakeTable).table


def test_a_database_that_went_since_it_was_checked_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "none.mmdb"
    with pytest.raises(StartError, match=rf"^geo\.database: {path} cannot be read: No such file or directory$"):
        compile_zones(wanted({"x": ["country:DE"]}, path), NO_ZONES, FakeTable)


def test_more_networks_than_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PREFIXES_MAX", 1)
    with pytest.raises(StartError, match="2 networks are more than the 1 that fit; select fewer"):
        compile_zones(wanted({"x": ["10.0.0.0/8", "12.0.0.0/8"]}), NO_ZONES, FakeTable)


def test_bounds_are_those_of_the_data_plane() -> None:
    bounds = (Path(__file__).resolve().parents[2] / "src_c/base/bounds.h").read_text()
    assert f"LB_TIERS_MAX = {TIERS_MAX}," in bounds
    assert f"LB_ZONES_MAX = {ZONES_MAX}," in bounds
