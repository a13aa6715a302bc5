"""Turns keys and values in etcd into endpoints. Pure.

A value is an address, or a JSON object with `address` and optionally `weight`, `zone` and `tier`. The format of etcd's
own naming package, `{"Addr": …}`, is accepted too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from l4lb.base.limits import TIERS_MAX, WEIGHT_MAX
from l4lb.base.text import quoted
from l4lb.bounded import shape
from l4lb.bounded.documents import DocumentError, read_json
from l4lb.config.fields.addresses import read_backend
from l4lb.discovery.source import Answer, DiscoveryError, Endpoint

_NAME = re.compile(r"[^\s\x00-\x1f\x7f-\x9f]{1,255}")


def range_end(prefix: bytes) -> bytes:
    """The `range_end` of a request for all keys that start with `prefix`: the first key after them."""
    for length in range(len(prefix), 0, -1):
        if prefix[length - 1] < 0xFF:
            return prefix[: length - 1] + bytes([prefix[length - 1] + 1])
    return b"\0"


def read_pairs(pairs: Iterable[tuple[bytes, bytes]], prefix: str) -> Answer:
    """The endpoints, and what is wrong with the keys that have none."""
    answer = Answer()
    for key, value in pairs:
        shown = key.decode("utf-8", "backslashreplace")
        try:
            answer.endpoints.append(read_pair(shown.removeprefix(prefix), value))
        except (DiscoveryError, ValueError) as error:
            answer.unusable[f"the key {shown}"] = str(error)
    return answer


def read_pair(name: str, value: bytes) -> Endpoint:
    """One endpoint, named by the rest of its key after the prefix. DiscoveryError or ValueError if the value is
    invalid."""
    settings = _settings(value)
    address = read_backend(settings.get("address", settings.get("Addr")))
    if address.is_unix:
        raise DiscoveryError(f"{quoted(str(address))} is a socket of this host; HOST:PORT is expected")
    zone = settings.get("zone")
    if zone is not None and not isinstance(zone, str):
        raise DiscoveryError(f"the zone {quoted(zone)} is not a string")
    name = name.strip("/")
    return Endpoint(
        name if _NAME.fullmatch(name) else str(address),
        address,
        _number(settings, "weight", WEIGHT_MAX, 1),
        zone or None,
        _number(settings, "tier", TIERS_MAX - 1, 0),
    )


def _settings(value: bytes) -> Mapping[str, Any]:
    value = value.strip()
    if not value.startswith(b"{"):
        return {"address": value.decode()}
    try:
        return shape.an_object(read_json(value), "it")
    except DocumentError as error:
        raise DiscoveryError(f"not valid JSON: {error}") from error


def _number(settings: Mapping[str, Any], key: str, most: int, default: int) -> int:
    value = settings.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise DiscoveryError(f"the {key} {quoted(value)} is not a whole number from 0 to {most}")
    return value
