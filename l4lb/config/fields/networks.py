"""Networks of clients and zones."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from l4lb.base.text import quoted
from l4lb.config.fields.shape import AT_LEAST_ONE, Schema, Written, list_schema, one_or_many
from l4lb.config.fields.strings import FilePath
from l4lb.geo import selector
from l4lb.geo.selector import Selector

NETWORKS_MAX = 500_000
"""Networks in one list: published lists of whole countries or known attackers are used as they are."""

ZONES_MAX = 255
"""As many as the data plane tells apart (`src_c/base/bounds.h`)."""

DATABASES_MAX = 8

FILE_NETWORKS_MAX = 1_000_000
"""Networks in one file."""

NETWORK_PATTERN = r"^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$"

_MAPPED_BITS = 96

_NETWORK = re.compile(NETWORK_PATTERN, re.ASCII)


@dataclass(frozen=True, slots=True)
class NetworkFile:
    """The networks of a file, packed: 16 bytes of address, with IPv4 mapped into IPv6, and one of length for each."""

    path: str
    packed: bytes = field(default=b"", repr=False)

    def __str__(self) -> str:
        return self.path


ListEntry = IPv4Network | IPv6Network | NetworkFile


def _unmapped(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    """Mapped addresses (::ffff:10.0.0.0/104) become IPv4, so that each network has one spelling, as clients have."""
    if isinstance(network, IPv6Network) and network.prefixlen >= _MAPPED_BITS:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))
    return network


def read_network(value: Any) -> IPv4Network | IPv6Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    text = str(value)
    network = None
    # The library would accept a netmask or its inverse after the slash; the pattern does not.
    if _NETWORK.fullmatch(text):
        with contextlib.suppress(ValueError):
            return _unmapped(ip_network(text))
        with contextlib.suppress(ValueError):
            network = ip_network(text, strict=False)
    if network is None:
        raise ValueError(f"{quoted(value)} is not a network; write 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32")
    raise ValueError(f"{quoted(value)} has bits set after its prefix; write {network}")


_NETWORK_SCHEMA: Schema = {"type": "string", "pattern": NETWORK_PATTERN, "examples": ["10.0.0.0/8", "2001:db8::/32"]}

_FILE_SCHEMA: Schema = {
    "type": "object",
    "properties": {"file": {"type": "string"}},
    "required": ["file"],
    "additionalProperties": False,
}


def read_entry(value: Any) -> ListEntry:
    """An entry of a list of networks: a network, or a file of them, which has been read by now."""
    if isinstance(value, NetworkFile):
        return value
    if isinstance(value, Mapping):
        raise ValueError("a network is expected, or {file: PATH} with the name of a file that has one on each line")
    return read_network(value)


Networks = Annotated[
    tuple[Annotated[ListEntry, BeforeValidator(read_entry)], ...],
    Field(max_length=NETWORKS_MAX),
    BeforeValidator(one_or_many),
    list_schema({"anyOf": [_NETWORK_SCHEMA, _FILE_SCHEMA]}, NETWORKS_MAX),
    Written("networks, [files of them](../guides/access-lists.md#files-of-networks)"),
]


def read_zone_entry(value: Any) -> ListEntry | Selector:
    """An entry of a zone: a network, or a database selector."""
    if isinstance(value, Selector):
        return value
    if isinstance(value, str) and selector.is_selector(value):
        return Selector.parse(value)
    try:
        return read_entry(value)
    except ValueError as error:
        raise ValueError(f"{error}; or country:DE, continent:EU or asn:64500") from None


Zone = Annotated[
    tuple[Annotated[ListEntry | Selector, BeforeValidator(read_zone_entry)], ...],
    Field(max_length=NETWORKS_MAX),
    BeforeValidator(one_or_many),
    list_schema(
        {"anyOf": [_NETWORK_SCHEMA, {"type": "string", "pattern": f"^({selector.PATTERN})$"}, _FILE_SCHEMA]},
        NETWORKS_MAX,
    ),
]
Databases = Annotated[
    tuple[FilePath, ...],
    Field(max_length=DATABASES_MAX),
    BeforeValidator(one_or_many),
    AT_LEAST_ONE,
    list_schema({"type": "string"}, DATABASES_MAX),
    Written("paths"),
]
