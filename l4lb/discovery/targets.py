"""Targets in the formats of Prometheus' file_sd and http_sd. Pure.

The document is a list of groups, `{"targets": ["HOST:PORT", …], "labels": {…}}`; null and an empty document stand for
an empty list. The labels `weight` (0 to 256), `zone` and `tier` (0 to 15) set these properties of the backends, if
their values are valid. All other labels, and the tier "frontend", are meant for other programs.

Sources: https://prometheus.io/docs/prometheus/latest/configuration/configuration/#file_sd_config and
https://prometheus.io/docs/prometheus/latest/http_sd/
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from l4lb.base.limits import TIERS_MAX, WEIGHT_MAX
from l4lb.base.text import quoted
from l4lb.bounded.documents import DocumentError, read_json, read_yaml
from l4lb.config.fields.addresses import read_backend
from l4lb.discovery.source import ENDPOINTS_MAX, Answer, DiscoveryError, Endpoint

_NUMBER = re.compile(r"[0-9]{1,3}", re.ASCII)
_ABSENT = (None, "", "~", "null", "Null", "NULL")
"""Values that mean an empty list, in JSON and in YAML, whose scalars are all text."""


def parse_json(body: bytes) -> Answer:
    """The answer in a JSON document. DiscoveryError if it is invalid."""
    try:
        return read_groups(read_json(body))
    except DocumentError as error:
        raise DiscoveryError(f"not valid JSON: {error}") from error


def parse_yaml(body: bytes) -> Answer:
    """The answer in a YAML document whose scalars are all text. DiscoveryError if it is invalid."""
    try:
        return read_groups(read_yaml(body))
    except DocumentError as error:
        raise DiscoveryError(f"not valid YAML: {error}") from error


def read_groups(data: Any) -> Answer:
    """The answer in a list of groups. Only targets that are not addresses are left out."""
    if _is_absent(data):
        data = []
    if not isinstance(data, list):
        raise DiscoveryError("a list of target groups is expected")
    answer = Answer()
    count = 0
    for index, group in enumerate(data):
        where = f"group {index + 1}"
        targets, labels = _parts(group, where)
        count += len(targets)
        if count > ENDPOINTS_MAX:
            raise DiscoveryError(f"there are more than the {ENDPOINTS_MAX} targets that fit")
        weight = _number(labels, "weight", WEIGHT_MAX, 1, where, answer)
        tier = _number(labels, "tier", TIERS_MAX - 1, 0, where, answer)
        zone = labels.get("zone")
        for target in targets:
            try:
                endpoint = _endpoint(target, weight, zone if isinstance(zone, str) else None, tier)
            except ValueError as error:
                answer.unusable[f"{where}: {quoted(target)}"] = str(error)
            else:
                answer.endpoints.append(endpoint)
    return answer


def _is_absent(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value in _ABSENT)


def _parts(group: Any, where: str) -> tuple[list[Any], Mapping[str, Any]]:
    if not isinstance(group, Mapping):
        raise DiscoveryError(f"{where} is not an object with targets")
    targets, labels = group.get("targets"), group.get("labels")
    targets, labels = [] if _is_absent(targets) else targets, {} if _is_absent(labels) else labels
    if not isinstance(targets, list):
        raise DiscoveryError(f"{where}: its targets are not a list")
    if not isinstance(labels, Mapping):
        raise DiscoveryError(f"{where}: its labels are not an object")
    return targets, labels


def _number(labels: Mapping[str, Any], key: str, most: int, default: int, where: str, answer: Answer) -> int:
    """The number in a label; the default if its value is not such a number, since the label may belong to another
    program."""
    value = labels.get(key)
    if value is None:
        return default
    number = int(value) if isinstance(value, int | str) and _NUMBER.fullmatch(str(value)) else -1
    if not isinstance(value, bool) and 0 <= number <= most:
        return number
    answer.notes[f"{where}: the label {key}"] = (
        f"{quoted(value)} is not a whole number from 0 to {most}, so it has no effect"
    )
    return default


def _endpoint(target: Any, weight: int, zone: str | None, tier: int) -> Endpoint:
    address = read_backend(target)
    if address.is_unix:
        raise ValueError(f"{quoted(target)} is a socket of this host; HOST:PORT is expected")
    return Endpoint(str(address), address, weight, zone or None, tier)
