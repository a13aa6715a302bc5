"""The networks that each listener allows, denies and trusts with a PROXY header, compiled for the data plane.

A list may have a million networks. So it is compiled on another thread, once for all listeners that share it, and again
only after a change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from l4lb.config import Config, model
from l4lb.config.fields.networks import ListEntry, NetworkFile
from l4lb.engine.api import NetworkTable
from l4lb.engine.packing import pack_networks

Compile = Callable[[bytes], NetworkTable]
Lists = tuple[Sequence[ListEntry], Sequence[ListEntry], Sequence[ListEntry]]
"""The networks that a listener allows, denies, and trusts with a PROXY header."""


@dataclass(frozen=True, slots=True)
class Access:
    """A table for each of the `lists`, None for an empty list. A list of empty files gets a table without networks, so
    an `allow` with an emptied file lets no client in."""

    lists: Lists = ((), (), ())
    tables: tuple[NetworkTable | None, NetworkTable | None, NetworkTable | None] = (None, None, None)

    @property
    def allow(self) -> NetworkTable | None:
        return self.tables[0]

    @property
    def deny(self) -> NetworkTable | None:
        return self.tables[1]

    @property
    def proxy_from(self) -> NetworkTable | None:
        return self.tables[2]


NO_ACCESS = Access()


def compile_access(config: Config, known: Mapping[str, Access], compile_table: Compile) -> dict[str, Access]:
    """The access of each listener; the `known` object if its lists did not change. Slow for many networks."""
    compiled: dict[bytes, NetworkTable] = {}

    def table_of(entries: Sequence[ListEntry]) -> NetworkTable | None:
        if not entries:
            return None
        packed = _packed(entries)
        if packed not in compiled:
            compiled[packed] = compile_table(packed)
        return compiled[packed]

    def access_of(listener: model.Listener, before: Access) -> Access:
        allow, deny, proxy_from = lists = _lists(listener)
        if lists == before.lists:
            return before
        return Access(lists, (table_of(allow), table_of(deny), table_of(proxy_from)))

    return {name: access_of(listener, known.get(name, NO_ACCESS)) for name, listener in config.listeners.items()}


def _lists(listener: model.Listener) -> Lists:
    proxy = listener.proxy_protocol
    return listener.allow, listener.deny, () if proxy is None else proxy.from_


def _packed(entries: Sequence[ListEntry]) -> bytes:
    files = [entry.packed for entry in entries if isinstance(entry, NetworkFile)]
    return b"".join([*files, pack_networks(entry for entry in entries if not isinstance(entry, NetworkFile))])
