"""Finds backends that are listeners of this process. Pure, except that the host's own addresses are queried once.

A chain of listeners may be intended: one that routes by server name before one that balances. A circle never is: a
connection would come back to l4lb until no capacity is left. The server name does not change on the way, so a circle
must be closed for one server name, or for connections without one.
"""

from __future__ import annotations

import os.path
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_address
from typing import Generic, TypeVar

from l4lb.config.address import Address
from l4lb.net.interfaces import known_to_peers
from l4lb.net.own_addresses import own_addresses

K = TypeVar("K")

STEPS_MAX = 100_000
"""Listeners on circles, times server names, that are followed one by one. Beyond that any circle is an error."""

_LOCALHOST = ("127.0.0.1", "::1")
_ANY_IPV4, _ANY = "0.0.0.0", "::"


@dataclass(frozen=True, slots=True)
class ListenerRoutes:
    """A listener: its addresses, and the pools of its clients, by server name in lower case and for all others."""

    binds: Sequence[Address]
    pools: Collection[str]
    routes: Mapping[str, str]

    def all_pools(self) -> set[str]:
        return {*self.pools, *self.routes.values()}

    def pools_for(self, name: str | None) -> set[str]:
        """`*.suffix` matches a name below the suffix that is not listed itself."""
        if name is None:
            return set(self.pools)
        labels = name.split(".")
        for wanted in (name, *("*." + ".".join(labels[at:]) for at in range(1, len(labels)))):
            if wanted in self.routes:
                return {self.routes[wanted]}
        return set(self.pools)


@dataclass(frozen=True, slots=True)
class Loop(Generic[K]):
    """Backend `backend` of `pool` is `listener`, from which connections come back to it."""

    pool: str
    backend: K
    listener: str


Steps = Mapping[str, Sequence[Loop[K]]]
"""The backends of each pool that are listeners."""


def find_loops(
    doors: Mapping[str, ListenerRoutes],
    pools: Mapping[str, Mapping[K, Address]],
    own: Callable[[], Collection[str]] = own_addresses,
) -> list[Loop[K]]:
    """Every backend on a circle. Names that need a look-up are ignored, except for localhost."""
    places = _Places(doors, own)
    steps: dict[str, list[Loop[K]]] = defaultdict(list)
    for pool, backends in pools.items():
        for key, address in backends.items():
            steps[pool] += (Loop(pool, key, listener) for listener in places.at(address))
    circular = _circular({name: _next(door.all_pools(), steps) for name, door in doors.items()})
    names: set[str | None] = {None, *(route for name in circular for route in doors[name].routes)}
    if len(names) * len(circular) > STEPS_MAX:
        return _closed({name: doors[name].all_pools() for name in circular}, steps)
    loops: dict[Loop[K], None] = {}
    for asked in names:
        loops |= dict.fromkeys(_closed({name: doors[name].pools_for(asked) for name in circular}, steps))
    return list(loops)


def _closed(chosen: Mapping[str, Set[str]], steps: Steps[K]) -> list[Loop[K]]:
    """The edges of circles, if clients of these listeners use these pools."""
    circular = _circular({name: _next(pools, steps) for name, pools in chosen.items()})
    taken = {pool for name in circular for pool in chosen[name]}
    return [step for pool in taken for step in steps.get(pool, ()) if step.listener in circular]


def _next(pools: Set[str], steps: Steps[K]) -> set[str]:
    return {step.listener for pool in pools for step in steps.get(pool, ())}


def _circular(leads: Mapping[str, Set[str]]) -> set[str]:
    """The nodes on circles, and on paths between circles. Linear in the edges."""
    comes: dict[str, set[str]] = defaultdict(set)
    for name, others in leads.items():
        for other in others:
            comes[other].add(name)
    left = set(leads)
    for forward, backward in ((leads, comes), (comes, leads)):
        degrees = {name: len(forward.get(name, frozenset()) & left) for name in left}
        ends = [name for name, degree in degrees.items() if degree == 0]
        while ends:
            end = ends.pop()
            left.discard(end)
            for name in backward.get(end, frozenset()) & left:
                degrees[name] -= 1
                if degrees[name] == 0:
                    ends.append(name)
    return left


class _Places:
    """Finds the listener at an address."""

    def __init__(self, doors: Mapping[str, ListenerRoutes], own: Callable[[], Collection[str]]) -> None:
        self._find_own = own
        self._listeners: dict[tuple[str, int | None], str] = {}
        for name, door in doors.items():
            for bind in door.binds:
                self._listeners[_spot(bind)] = name

    @cached_property
    def _own(self) -> Collection[str]:
        return self._find_own()

    def at(self, address: Address) -> Iterator[str]:
        host = address.host or ""
        hosts = _LOCALHOST if known_to_peers(host) == "localhost" else (host,)
        for spot in [_spot(address)] if address.is_unix else [(host, address.port) for host in hosts]:
            if (name := self._listeners.get(spot) or self._at_any(*spot)) is not None:
                yield name

    def _at_any(self, host: str, port: int | None) -> str | None:
        """The wildcard listener at this port, if the address belongs to this host."""
        any_ipv4 = self._listeners.get((_ANY_IPV4, port)) if ":" not in host else None
        name = any_ipv4 or self._listeners.get((_ANY, port))
        return name if name is not None and self._is_own(host) else None

    def _is_own(self, host: str) -> bool:
        plain = known_to_peers(host)
        try:
            return ip_address(plain).is_loopback or plain in self._own
        except ValueError:
            return False


def _spot(address: Address) -> tuple[str, int | None]:
    """A key that is equal for all spellings of an address. Those of unix sockets begin with @ or /."""
    if address.path is not None:
        return (address.path if address.path.startswith("@") else os.path.normpath(address.path), None)
    return (address.host or "", address.port)
