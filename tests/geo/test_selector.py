"""What may select networks, and which records it fits."""

from __future__ import annotations

import re
from typing import Any

import pytest

from l4lb.geo.selector import PATTERN, Chooser, Selector, is_selector

GERMANY = {"continent": {"code": "EU"}, "country": {"iso_code": "DE"}}


@pytest.mark.parametrize("text", ["country:DE", "continent:EU", "asn:64500"])
def test_selectors_are_read_and_shown_alike(text: str) -> None:
    assert is_selector(text)
    assert str(Selector.parse(text)) == text
    assert re.fullmatch(PATTERN, text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("country:de", "country: takes an ISO 3166 code in capitals, such as country:DE"),
        ("country:", "country: takes"),
        ("country:DEU", "country: takes"),
        ("continent:XX", "continent: takes one of AF, AN, AS, EU, NA, OC and SA"),
        ("asn:AS64500", "asn: takes the number of an autonomous system"),
        ("asn:0", "asn: takes"),
        ("asn:\u0661", "asn: takes"),
    ],
)
def test_what_selects_nothing_is_refused_with_what_to_write(text: str, complaint: str) -> None:
    assert is_selector(text)
    assert not re.fullmatch(PATTERN, text, re.ASCII)
    with pytest.raises(ValueError, match=re.escape(complaint)):
        Selector.parse(text)


@pytest.mark.parametrize("text", ["10.0.0.0/8", "2001:db8::/32", "::1", "fe80::", "a5::", "city:Berlin", "country"])
def test_networks_are_no_selectors(text: str) -> None:
    assert not is_selector(text) or text == "country"


def chooser(**zones: int) -> Chooser:
    return Chooser((Selector.parse(text.replace("_", ":")), zone) for text, zone in zones.items())


@pytest.mark.parametrize(
    ("record", "zone"),
    [
        (GERMANY, 2),
        (GERMANY | {"autonomous_system_number": 7}, 3),
        (GERMANY | {"autonomous_system_number": 8}, 2),
        (GERMANY | {"country": {"iso_code": "FR"}}, 1),
        ({"continent": {"code": "AS"}}, 0),
        ({}, 0),
        ({"country": "DE", "continent": None}, 0),
    ],
)
def test_the_narrowest_that_fits_counts(record: dict[str, Any], zone: int) -> None:
    assert chooser(continent_EU=1, country_DE=2, asn_7=3).zone(record) == zone


def test_selectors_that_fit_nothing_are_told() -> None:
    choosing = chooser(continent_EU=1, country_DE=2, asn_7=3)
    assert len(choosing.idle()) == 3
    choosing.zone(GERMANY)
    assert list(map(str, choosing.idle())) == ["asn:7"]
