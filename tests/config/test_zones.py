"""Zones, databases, tiers and places in a file: what is read, and what cannot be."""

from __future__ import annotations

import sys
from ipaddress import ip_network
from pathlib import Path

import pytest

from l4lb.config.fields.networks import ZONES_MAX
from l4lb.geo.selector import Selector
from tests.config.conftest import Load, Problems
from tests.helpers.mmdb import write_database

REST = 'listeners: {web: {bind: "127.0.0.1:8080", pool: web}}\npools: {web: {backends: ["127.0.0.1:80"]}}\n'


@pytest.fixture
def geo(tmp_path: Path) -> str:
    """The section of a database that is there."""
    return f"geo: {{database: {write_database(tmp_path / 'geo.mmdb', {'192.0.2.0/24': {}})}}}\n"


def test_zones_are_read(load: Load, geo: str) -> None:
    config = load(geo + 'zones: {eu: [10.1.0.0/16, country:DE, "::1"], us: continent:NA, none: []}\n' + REST)
    assert config.zones == {
        "eu": (ip_network("10.1.0.0/16"), Selector("country", "DE"), ip_network("::1")),
        "us": (Selector("continent", "NA"),),
        "none": (),
    }


def test_networks_of_mapped_addresses_are_networks_of_ipv4(load: Load, problems: Problems) -> None:
    config = load('zones: {a: ["::ffff:10.0.0.0/104", "::ffff:0:0/96", "::/0", "::fffe:0:0/96"]}\n' + REST)
    assert config.zones["a"] == tuple(map(ip_network, ["10.0.0.0/8", "0.0.0.0/0", "::/0", "::fffe:0:0/96"]))
    (found,) = problems("zones: {a: [10.0.0.0/8], b: ['::ffff:10.0.0.0/104']}\n" + REST)
    assert found.endswith("zones.b[0]: 10.0.0.0/8 is already in zone 'a' (l4lb.yaml:1:13)")


def test_places_are_read(load: Load) -> None:
    config = load(
        """
        zones: {eu: []}
        defaults: {panic_threshold: 12.5%}
        listeners: {web: {bind: "127.0.0.1:8080", pool: web}}
        pools:
          web: {backends: ["127.0.0.1:1", {address: "127.0.0.1:2", zone: eu, tier: 15}], panic_threshold: 50%}
          other: {backends: []}
        """
    )
    assert [(backend.zone, backend.tier) for backend in config.pools["web"].backends] == [(None, 0), ("eu", 15)]
    assert [pool.panic_threshold for pool in config.pools.values()] == [0.5, 0.125]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("zones: {a: [10.0.0.1/8]}", "1:13: error: zones.a[0]: '10.0.0.1/8' has bits set after its prefix"),
        ("zones: {a: [x]}", "1:13: error: zones.a[0]: 'x' is not a network; write"),
        ("zones: {a: country:DE}", "1:12: error: zones.a: country:DE needs a database; write geo: {database: FILE}"),
        ("zones: {a: [country:de]}", "1:13: error: zones.a[0]: country: takes an ISO 3166 code in capitals"),
        (
            "zones: {a: ['::1'], b: ['::1/128']}",
            "1:25: error: zones.b[0]: ::1/128 is already in zone 'a' (l4lb.yaml:1:13)",
        ),
        ("zones: [a]", "1:1: error: zones: a section with keys is expected, not a list"),
        ("zones: {'a b': []}", "error: zones.a b: 'a b' cannot be used here; a name is"),
        ("geo: {database: []}", "error: geo.database: the list is empty"),
        ("geo: {}", "error: geo: the key 'database' is missing"),
    ],
)
def test_what_is_wrong_is_said_at_its_place(problems: Problems, line: str, problem: str) -> None:
    (found,) = problems(f"{line}\n{REST}")
    assert problem in found


@pytest.mark.parametrize(
    ("zones", "known"),
    [("", "there are none; write some in zones"), ("zones: {eu: [], us: []}\n", "there are eu, us")],
)
def test_a_backend_in_no_zone_there_is_gets_the_names_there_are(problems: Problems, zones: str, known: str) -> None:
    rest = REST.replace('["127.0.0.1:80"]', '[{address: "127.0.0.1:80", zone: mars}]')
    (found,) = problems(zones + rest)
    assert found.endswith(f"pools.web.backends[0].zone: there is no zone 'mars'; {known}")


@pytest.mark.parametrize(
    ("key", "complaint"),
    [
        ("tier: 16", "16 is too large; the most is 15"),
        ("tier: -1", "-1 is too small; the least is 0"),
        ("tier: first", "a whole number is expected"),
        ("zone: 7", "text is expected, not '7'"),
    ],
)
def test_bad_places_are_refused(problems: Problems, key: str, complaint: str) -> None:
    (found,) = problems(REST.replace('["127.0.0.1:80"]', f'[{{address: "127.0.0.1:80", {key}}}]'))
    assert complaint in found


@pytest.mark.parametrize("value", ["50", "0.5", "101%", "-1%", "half", "5 %"])
def test_a_threshold_is_a_percentage(problems: Problems, value: str) -> None:
    (found,) = problems(REST.replace("backends:", f"panic_threshold: {value}, backends:"))
    assert "pools.web.panic_threshold: a percentage" in found


def test_more_zones_than_fit_are_refused(problems: Problems, load: Load) -> None:
    def text(count: int) -> str:
        return "zones: {" + ", ".join(f"z{number}: []" for number in range(count)) + "}\n" + REST

    assert len(load(text(ZONES_MAX)).zones) == ZONES_MAX
    (found,) = problems(text(ZONES_MAX + 1))
    assert found.endswith(f"zones: {ZONES_MAX + 1} zones are more than the {ZONES_MAX} that fit")


def test_a_database_that_is_none_is_an_error_where_it_is_named(problems: Problems, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    found = problems(f"geo:\n  database:\n    - {tmp_path}/none\n    - {tmp_path}/text\n{REST}")
    assert found == [
        "l4lb.yaml:3:7: error: geo.database[0]: none cannot be read: No such file or directory",
        "l4lb.yaml:4:7: error: geo.database[1]: text is not a complete database in the MaxMind DB format; "
        "download it again",
    ]


def test_without_the_extra_it_is_said_what_to_install(
    problems: Problems, geo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "maxminddb", None)
    (found,) = problems(geo + REST)
    assert "geo.database: the package maxminddb is not installed; run pip install 'l4lb[geo]'" in found
