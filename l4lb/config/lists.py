"""Lists of networks in files: `{file: PATH}` in a list is read before validation, one network on each line."""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from l4lb.base.text import quoted
from l4lb.config.fields.networks import FILE_NETWORKS_MAX, NetworkFile, read_network
from l4lb.config.files import read_regular
from l4lb.config.tree import ListNode, MapNode, Node, Place, ScalarNode, path_part
from l4lb.errors import Problem

BYTES_MAX = 64 * 1024 * 1024
"""Bytes of all files together."""

PROBLEMS_MAX = 10
"""Problems that are reported for one file. A file of another format has one on every line."""

_BOM = b"\xef\xbb\xbf"
_MAPPED = bytes(10) + b"\xff\xff"
_MAPPED_BITS = 96


@dataclass(slots=True)
class NetworkFiles:
    """Replaces references to files by their networks. Problems go to `problems`, and the files read to `files`.

    A file that several lists name is read once.
    """

    problems: list[Problem]
    files: list[str]
    _bytes_left: int = BYTES_MAX
    _known: dict[str, NetworkFile] = field(default_factory=dict)

    def put_into(self, tree: MapNode) -> None:
        """Replace every `{file: PATH}` where networks may stand."""
        for section, key, path in _places(tree):
            place, node = section.entries[key]
            if isinstance(node, ListNode):
                node.nodes[:] = [self._replaced(item, f"{path}[{index}]") for index, item in enumerate(node.nodes)]
            else:
                section.entries[key] = place, self._replaced(node, path)

    def _replaced(self, node: Node, at: str) -> Node:
        if not isinstance(node, MapNode) or node.entries.keys() != {"file"}:
            return node
        _, value = node.entries["file"]
        if not isinstance(value, ScalarNode) or not isinstance(value.value, str) or not value.value:
            return node
        path = os.path.join(os.path.dirname(node.place.file), value.value)
        if path not in self._known:
            self._known[path] = self._read(path, value.place, at)
        return ScalarNode(value.place, cast(Any, self._known[path]))

    def _read(self, path: str, asked: Place, at: str) -> NetworkFile:
        self.files.append(path)
        try:
            data = read_regular(path, self._bytes_left + 1)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            self.problems.append(Problem(*asked, at, f"cannot read {quoted(path, 200)}: {reason}"))
            return NetworkFile(path)
        self._bytes_left -= len(data)
        if self._bytes_left < 0:
            message = f"with {quoted(path, 200)} the files of networks are larger than {BYTES_MAX >> 20} MiB"
            self.problems.append(Problem(*asked, at, message))
            return NetworkFile(path)
        return NetworkFile(path, self._parsed(path, data))

    def _parsed(self, path: str, data: bytes) -> bytes:
        packed = bytearray()
        wrong = 0
        for number, line in enumerate(io.BytesIO(data.removeprefix(_BOM)), 1):
            text = line.partition(b"#")[0].partition(b";")[0].strip()
            if not text:
                continue
            try:
                packed += _packed(text)
            except ValueError as error:
                wrong += 1
                more = "; there is more wrong below, which is not looked at" if wrong == PROBLEMS_MAX else ""
                self.problems.append(Problem(path, number, 1, "", f"{error}{more}"))
                if wrong == PROBLEMS_MAX:
                    break
            if len(packed) > 17 * FILE_NETWORKS_MAX:
                message = f"there are more than {FILE_NETWORKS_MAX} networks; a file may have so many"
                self.problems.append(Problem(path, number, 1, "", message))
                break
        return bytes(packed)


def _places(tree: MapNode) -> Iterator[tuple[MapNode, str, str]]:
    """Where lists of networks may be: section, key and full path."""
    listeners = _section(tree, "listeners")
    for name in listeners.entries:
        yield from _listener_places(_section(listeners, name), f"listeners{path_part(name)}")
    yield from _listener_places(_section(tree, "defaults"), "defaults")
    zones = _section(tree, "zones")
    yield from ((zones, name, f"zones{path_part(name)}") for name in zones.entries)


def _listener_places(listener: MapNode, path: str) -> Iterator[tuple[MapNode, str, str]]:
    yield from ((listener, key, f"{path}.{key}") for key in ("allow", "deny") if key in listener.entries)
    proxy = _section(listener, "proxy_protocol")
    if "from" in proxy.entries:
        yield proxy, "from", f"{path}.proxy_protocol.from"


def _section(parent: MapNode, key: str) -> MapNode:
    _, node = parent.entries.get(key, (parent.place, None))
    return node if isinstance(node, MapNode) else MapNode(parent.place, {})


def _packed(text: bytes) -> bytes:
    """16 bytes of address and one of length. ValueError if it is not a network. A list may have a million of them, so
    the usual spelling takes a fast path."""
    address, slash, digits = text.partition(b"/")
    if not slash or (digits.isdigit() and len(digits) <= 3):
        try:
            word = address.decode("ascii")
            if b":" in address:
                return _with_length(socket.inet_pton(socket.AF_INET6, word), int(digits or 128), 0)
            packed = _MAPPED + socket.inet_pton(socket.AF_INET, word)
            return _with_length(packed, int(digits or 32), _MAPPED_BITS)
        except (OSError, ValueError):
            pass
    network = read_network(text.decode(errors="replace"))
    if network.version == 6:
        return network.network_address.packed + bytes([network.prefixlen])
    return _MAPPED + network.network_address.packed + bytes([_MAPPED_BITS + network.prefixlen])


def _with_length(address: bytes, length: int, offset: int) -> bytes:
    length += offset
    if length > 128 or int.from_bytes(address) & ((1 << 128 - length) - 1):
        raise ValueError
    return address + bytes([length])
