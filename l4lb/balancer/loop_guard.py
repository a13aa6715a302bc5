"""Keeps clients from backends that turn out to be listeners of this process: resolved names, and endpoints of sources.

`l4lb check` already refuses such addresses in a file. `l4lb.config.loops` decides for both."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace

from l4lb.config import Address
from l4lb.config.loops import ListenerRoutes, find_loops
from l4lb.net.interfaces import host_text
from l4lb.net.target import Target
from l4lb.sockets.bind import bind_key
from l4lb.sockets.listeners import Sockets
from l4lb.state.backend_entry import BackendEntry
from l4lb.state.state import BackendKey, State

_log = logging.getLogger(__name__)


class LoopGuard:
    """Logs each such backend once, until its address changes."""

    def __init__(self, sockets: Sockets) -> None:
        self._sockets = sockets
        self._known: dict[BackendKey, Target] = {}

    def guarded(self, state: State) -> State:
        """The state in which backends that lead back here have no target, so that no client is sent there."""
        looping = self._find(state)
        changed = {key: replace(entry, target=None) for key, entry in state.backends() if key in looping}
        return state.with_backends(changed) if changed else state

    def _find(self, state: State) -> dict[BackendKey, Target]:
        doors = {name: self._door(state, name) for name in state.listeners}
        ports = {bind.port for door in doors.values() for bind in door.binds}
        pools = {name: _addresses(pool.backends.items(), ports) for name, pool in state.pools.items()}
        found: dict[BackendKey, Target] = {}
        listeners: dict[BackendKey, str] = {}
        for loop in find_loops(doors, pools):
            target = state.pools[loop.pool].backends[loop.backend].target
            if target is not None:
                found[loop.pool, loop.backend] = target
                listeners[loop.pool, loop.backend] = loop.listener
        for key in found.keys() - self._known.keys():
            _log.warning(
                "%s/%s is at %s, which is l4lb's own listener %s: it gets no clients, as they would loop without end",
                *(*key, found[key].address, listeners[key]),
            )
        self._known = found
        return found

    def _door(self, state: State, name: str) -> ListenerRoutes:
        listener = state.listeners[name].config
        open_binds = (self._sockets.binds.get(bind_key(name, address)) for address in listener.bind)
        binds = [Address.parse(bind.shown) for bind in open_binds if bind is not None]
        return ListenerRoutes(binds, {listener.pool}, {route.lower(): pool for route, pool in listener.sni.items()})


def _addresses(backends: Iterable[tuple[str, BackendEntry]], ports: set[int | None]) -> Mapping[str, Address]:
    found = {}
    for name, backend in backends:
        target = backend.target
        if target is None:
            continue
        if isinstance(target.address, str):
            found[name] = backend.config.address
        elif target.address[1] in ports:
            found[name] = Address(host=host_text(target.address), port=target.address[1])
    return found
