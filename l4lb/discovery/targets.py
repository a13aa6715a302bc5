"""Targets as Prometheus reads them from files and servers (file_sd, http_sd). Pure.

A list of groups, `{"targets": ["HOST:PORT", …], "labels": {…}}`. The labels `weight` (0 to 256), `zone` and `tier` say
what they say of a backend; all others are for others.

Sources: https://prometheus.io/docs/prometheus/latest/configuration/configuration/#file_sd_config and
https://prometheus.io/docs/prometheus/latest/http_sd/
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from l4lb.bounded.documents import DocumentError, read_json, read_yaml
from l4lb.config.fields.addresses import read_backend
from l4lb.config.units import shorten
from l4lb.discovery.source import ENDPOINTS_MAX, TIER_MAX, WEIGHT_MAX, DiscoveryError, Endpoint

_NUMBER = re.compile(r"[0-9]{1,3}", re.ASCII)


def parse_json(body: bytes) -> list[Endpoint]:
    """The endpoints of a JSON document. DiscoveryError if it is none, or any part of it is wrong."""
    try:
        return read_groups(read_json(body))
    except DocumentError as error:
        raise DiscoveryError(f"this is no JSON: {error}") from error


def parse_yaml(body: bytes) -> list[Endpoint]:
    """The endpoints of a YAML document, in which every scalar is text. DiscoveryError as in `parse_json`."""
    try:
        return read_groups(read_yaml(body))
    except DocumentError as error:
        raise DiscoveryError(f"this is no YAML: {error}") from error


def read_groups(data: Any) -> list[Endpoint]:
    """The endpoints of a list of groups. Where a target is named twice, the first counts."""
    if not isinstance(data, list):
        raise DiscoveryError("a list of target groups is expected")
    endpoints: list[Endpoint] = []
    for index, group in enumerate(data):
        where = f"group {index + 1}"
        targets, labels = _parts(group, where)
        weight = _number(labels, "weight", WEIGHT_MAX, 1, where)
        tier = _number(labels, "tier", TIER_MAX, 0, where)
        zone = labels.get("zone")
        if zone is not None and not isinstance(zone, str):
            raise DiscoveryError(f"{where}: the zone {shorten(zone)} is no text")
        for target in targets:
            if len(endpoints) == ENDPOINTS_MAX:
                raise DiscoveryError(f"there are more than the {ENDPOINTS_MAX} targets that fit")
            endpoints.append(_endpoint(target, weight, zone or None, tier, where))
    return endpoints


def _parts(group: Any, where: str) -> tuple[list[Any], Mapping[str, Any]]:
    if not isinstance(group, Mapping):
        raise DiscoveryError(f"{where} is no object with targets")
    targets, labels = group.get("targets"), group.get("labels")
    if not isinstance(targets, list):
        raise DiscoveryError(f"{where} has no list of targets")
    if labels is None:
        labels = {}
    if not isinstance(labels, Mapping):
        raise DiscoveryError(f"{where}: its labels are no object")
    return targets, labels


def _number(labels: Mapping[str, Any], key: str, most: int, default: int, where: str) -> int:
    value = labels.get(key)
    if value is None:
        return default
    number = int(value) if isinstance(value, int | str) and _NUMBER.fullmatch(str(value)) else -1
    if isinstance(value, bool) or not 0 <= number <= most:
        raise DiscoveryError(f"{where}: the {key} {shorten(value)} is no whole number from 0 to {most}")
    return number


def _endpoint(target: Any, weight: int, zone: str | None, tier: int, where: str) -> Endpoint:
    try:
        address = read_backend(target)
    except ValueError as error:
        raise DiscoveryError(f"{where}: {error}") from error
    if address.is_unix:
        raise DiscoveryError(f"{where}: {shorten(target)} is a socket of this host; HOST:PORT is expected")
    return Endpoint(str(address), address, weight, zone, tier)
