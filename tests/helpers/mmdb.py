"""Writes databases in the MaxMind DB format, so that tests need no published one.

The format is that of https://maxmind.github.io/MaxMind-DB/: a binary tree whose leaves point at records, the records,
and a map that describes both. Networks may nest; the longest counts. IPv4 lies in ::/96 of a tree for both families.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any

MARKER = b"\xab\xcd\xefMaxMind.com"
RECORD_BITS = 32
_MAP, _ARRAY, _STRING = 7, 11, 2
_UINT16, _UINT32, _UINT64 = 5, 6, 9


def write_database(
    path: Path,
    networks: Mapping[str, Mapping[str, Any]],
    *,
    ip_version: int = 6,
    aliases: tuple[str, ...] = ("::ffff:0:0/96",),
) -> Path:
    """A database that says `networks[network]` of every address in it. `aliases` lead to the IPv4 networks too."""
    tree = _Tree()
    data = bytearray()
    offsets: dict[bytes, int] = {}
    for network, record in sorted(networks.items(), key=lambda item: ip_network(item[0]).prefixlen):
        encoded = _encode(record)
        if encoded not in offsets:
            offsets[encoded] = len(data)
            data += encoded
        tree.insert(_bits(ip_network(network), ip_version), -1 - offsets[encoded])
    for alias in aliases if ip_version == 6 else ():
        tree.alias(_bits(ip_network(alias), 6), "0" * 96)
    metadata = {
        "binary_format_major_version": 2,
        "binary_format_minor_version": 0,
        "build_epoch": _Number(_UINT64, 1_700_000_000),
        "database_type": "Test",
        "description": {"en": "made by a test"},
        "ip_version": ip_version,
        "languages": ["en"],
        "node_count": _Number(_UINT32, len(tree.nodes)),
        "record_size": RECORD_BITS,
    }
    path.write_bytes(tree.encode() + bytes(16) + data + MARKER + _encode(metadata))
    return path


@dataclass(frozen=True, slots=True)
class _Number:
    """Readers insist on the type of a number, not only on its value."""

    kind: int
    value: int


class _Tree:
    """Nodes are pairs of children: another node's number, -1 - offset of a record, or None."""

    def __init__(self) -> None:
        self.nodes: list[list[int | None]] = [[None, None]]

    def insert(self, bits: str, leaf: int) -> None:
        node = self._descend(bits[:-1])
        self.nodes[node][int(bits[-1])] = leaf

    def alias(self, bits: str, target: str) -> None:
        self.nodes[self._descend(bits[:-1])][int(bits[-1])] = self._descend(target)

    def _descend(self, bits: str) -> int:
        """The node at `bits`. What a leaf on the way said goes down on both sides."""
        node = 0
        for bit in map(int, bits):
            child = self.nodes[node][bit]
            if child is None or child < 0:
                self.nodes.append([child, child])
                child = self.nodes[node][bit] = len(self.nodes) - 1
            node = child
        return node

    def encode(self) -> bytes:
        count = len(self.nodes)

        def value(child: int | None) -> int:
            if child is None:
                return count
            return child if child >= 0 else count + 16 - 1 - child

        return b"".join(struct.pack("!II", value(left), value(right)) for left, right in self.nodes)


def _bits(network: IPv4Network | IPv6Network, ip_version: int) -> str:
    width = network.max_prefixlen
    bits = f"{int(network.network_address):0{width}b}"[: network.prefixlen]
    return "0" * 96 + bits if ip_version == 6 and width == 32 else bits


def _encode(value: Any) -> bytes:
    match value:
        case Mapping():
            return _control(_MAP, len(value)) + b"".join(_encode(key) + _encode(item) for key, item in value.items())
        case list():
            return _control(_ARRAY, len(value)) + b"".join(map(_encode, value))
        case str():
            return _control(_STRING, len(value.encode())) + value.encode()
        case _Number():
            size = (value.value.bit_length() + 7) // 8
            return _control(value.kind, size) + value.value.to_bytes(size, "big")
        case int():
            return _encode(_Number(_UINT16 if value < 1 << 16 else _UINT32, value))
    raise TypeError(f"nothing to write {value!r} as")


def _control(kind: int, size: int) -> bytes:
    length, more = (size, b"") if size < 29 else (29, bytes([size - 29]))
    return (bytes([kind << 5 | length]) if kind < 8 else bytes([length, kind - 7])) + more
