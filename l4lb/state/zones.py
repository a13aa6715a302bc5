"""The zones of a configuration: their numbers, and the zone of each network, compiled for the data plane.

The file decides about an address first; then the last database that knows the address.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from l4lb.config import Config
from l4lb.config.fields.networks import NetworkFile
from l4lb.engine.api import NetworkTable
from l4lb.errors import StartError
from l4lb.geo import database
from l4lb.geo.prefixes import Prefix, join, overlay, prefix
from l4lb.geo.selector import Chooser, Selector

PREFIXES_MAX = 2_000_000
"""Networks of all zones together, after neighbours are joined. Databases of the whole world have about half as many.
Each takes up to 40 bytes in the table, and about 200 while it is compiled."""

Compile = Callable[[bytes, bytes], NetworkTable]


@dataclass(frozen=True, slots=True)
class Zones:
    """`numbers` has the number of each zone, `idle` the selectors that match no database; `source` is all input."""

    numbers: Mapping[str, int] = field(default_factory=dict)
    table: NetworkTable | None = None
    idle: tuple[Selector, ...] = ()
    source: object = None


NO_ZONES = Zones()


def compile_zones(config: Config, known: Zones, compile_table: Compile) -> Zones:
    """The zones of `config`; `known` if they would be the same. Takes seconds if a database has to be read.

    StartError if a database cannot be read.
    """
    numbers = {name: number for number, name in enumerate(config.zones, 1)}
    selectors = [
        (entry, numbers[name])
        for name, entries in config.zones.items()
        for entry in entries
        if isinstance(entry, Selector)
    ]
    paths = config.geo.database if config.geo is not None and selectors else ()
    try:
        source = (config.zones, [(path, database.identity(path)) for path in paths])
        if known.source == source:
            return known
        chooser = Chooser(selectors)
        prefixes: list[Prefix] = []
        for path in paths:
            prefixes = overlay(prefixes, join(_found(path, chooser)))
    except database.DatabaseError as error:
        raise StartError(f"geo.database: {error}") from error
    prefixes = overlay(prefixes, _written(config, numbers))
    if len(prefixes) > PREFIXES_MAX:
        raise StartError(f"zones: {len(prefixes)} networks are more than the {PREFIXES_MAX} that fit; select fewer")
    return Zones(numbers, compile_table(*_packed(prefixes)), tuple(chooser.idle()), source)


def _found(path: str, chooser: Chooser) -> Iterator[Prefix]:
    for network, record in database.networks(path):
        if zone := chooser.zone(record):
            yield prefix(network, zone)


def _written(config: Config, numbers: Mapping[str, int]) -> list[Prefix]:
    return [
        written
        for name, entries in config.zones.items()
        for entry in entries
        if not isinstance(entry, Selector)
        for written in _prefixes(entry, numbers[name])
    ]


def _prefixes(entry: IPv4Network | IPv6Network | NetworkFile, zone: int) -> Iterator[Prefix]:
    if isinstance(entry, NetworkFile):
        yield from (
            (int.from_bytes(address), length, zone) for address, length in struct.iter_unpack("16sB", entry.packed)
        )
    else:
        yield prefix(entry, zone)


def _packed(prefixes: Sequence[Prefix]) -> tuple[bytes, bytes]:
    networks = bytearray()
    for address, length, _ in prefixes:
        networks += address.to_bytes(16, "big")
        networks.append(length)
    return bytes(networks), array("I", [zone for _, _, zone in prefixes]).tobytes()
