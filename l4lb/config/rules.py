"""Rules between the sections of a configuration: references and conflicts.

The rules look at the plain data of a file, so they find problems between sections even if a section itself is invalid.
They never raise: the model reports data of the wrong shape.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from l4lb.base.text import quoted
from l4lb.config.address import Address
from l4lb.config.fields.addresses import read_backend, read_bind, read_source
from l4lb.config.fields.networks import ZONES_MAX, read_zone_entry
from l4lb.config.fields.shape import is_number, one_or_many
from l4lb.config.loops import ListenerRoutes, find_loops
from l4lb.config.plain import backend_name, get, read
from l4lb.config.sections.discover import SOURCES, Discover
from l4lb.config.units import parse_duration
from l4lb.geo.selector import Selector

LISTENERS_MAX = 16_000
POOLS_MAX = 16_000
BACKENDS_MAX = 64_000
"""Kept below the data plane's slots, so that a reload can replace some while their sessions end."""

DRAIN_TIMEOUT = "10m"
"""Of a pool that does not say."""

PROBE_KEYS = ("keepalive_interval", "keepalive_probes")

HTTP_TYPES = ("http", "https")
DATABASE_TYPES = ("redis", "pgsql", "mysql")
KEY_TYPES: Mapping[str, tuple[str, ...]] = {
    "method": HTTP_TYPES,
    "path": HTTP_TYPES,
    "send": HTTP_TYPES,
    "status": HTTP_TYPES,
    "host": (*HTTP_TYPES, "grpc"),
    "headers": HTTP_TYPES,
    "answer_headers": HTTP_TYPES,
    "body": HTTP_TYPES,
    "service": ("grpc",),
    "script": ("send_expect",),
    "command": ("exec",),
    "environment": ("exec",),
    "role": DATABASE_TYPES,
    "user": DATABASE_TYPES,
    "password": DATABASE_TYPES,
    "database": ("pgsql",),
    "hello": ("smtp",),
    "tls": ("tcp", "https", "grpc", "redis", "pgsql", "smtp", "send_expect"),
    "send_proxy": ("tcp", *HTTP_TYPES, "grpc", *DATABASE_TYPES, "smtp", "send_expect"),
    "progress": ("tcp", *HTTP_TYPES, "grpc", *DATABASE_TYPES, "smtp", "send_expect", "exec"),
}
"""Keys of checks that only some types of them use."""

Loc = tuple[str | int, ...]

KEY = "[key]"
"""Ends a Loc that means a key and not its value, here as in the model."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """A problem at `loc`. `first` is the place of the other half of a contradiction, if there is one."""

    loc: Loc
    message: str
    first: Loc | None = None


def find_conflicts(data: Mapping[str, Any]) -> Iterator[Conflict]:
    """Every contradiction between the sections of `data`, whose defaults are already merged."""
    listeners, pools, zones = data.get("listeners"), data.get("pools"), data.get("zones")
    if isinstance(listeners, Mapping):
        yield from _listener_conflicts(listeners, pools)
    if isinstance(pools, Mapping):
        yield from _pool_conflicts(pools)
        yield from _place_conflicts(pools, zones if isinstance(zones, Mapping) else {})
    if isinstance(listeners, Mapping) and isinstance(pools, Mapping):
        yield from _loop_conflicts(listeners, pools)
    if isinstance(zones, Mapping):
        yield from _zone_conflicts(zones, has_database=data.get("geo") is not None)
    yield from _log_conflicts(get(data.get("log"), "access"))


def _log_conflicts(access: Any) -> Iterator[Conflict]:
    events = list(one_or_many(get(access, "events")))
    if get(access, "format") == "tcplog" and "request" in events:
        message = "tcplog has no line for a request; write format: json"
        yield Conflict(("log", "access", "events", events.index("request")), message)


def _listener_conflicts(listeners: Mapping[Any, Any], pools: Any) -> Iterator[Conflict]:
    if not listeners:
        yield Conflict(("listeners",), "there is no listener; add at least one")
    if len(listeners) > LISTENERS_MAX:
        yield Conflict(("listeners",), f"{len(listeners)} listeners are more than the {LISTENERS_MAX} that fit")
    taken: dict[Address, Loc] = {}
    for name, listener in listeners.items():
        yield from _tcp_conflicts(("listeners", name, "tcp"), get(listener, "tcp"))
        pool = get(listener, "pool")
        if isinstance(pool, str) and isinstance(pools, Mapping) and pool not in pools:
            yield Conflict(("listeners", name, "pool"), f"there is no pool {quoted(pool)}")
        yield from _route_conflicts(("listeners", name, "sni"), get(listener, "sni"), pools)
        for index, item in enumerate(one_or_many(get(listener, "bind"))):
            address = read(read_bind, item)
            if address is None or address.port == 0:
                continue
            loc: Loc = ("listeners", name, "bind", index)
            first = taken.setdefault(address, loc)
            if first is not loc:
                yield Conflict(loc, f"{address} is already taken by listener {quoted(first[1])}", first)


def _route_conflicts(loc: Loc, routes: Any, pools: Any) -> Iterator[Conflict]:
    if not isinstance(routes, Mapping):
        return
    taken: dict[str, Loc] = {}
    for name, pool in routes.items():
        if isinstance(pool, str) and isinstance(pools, Mapping) and pool not in pools:
            yield Conflict((*loc, name), f"there is no pool {quoted(pool)}")
        key: Loc = (*loc, name, KEY)
        if (first := taken.setdefault(str(name).lower(), key)) is not key:
            yield Conflict(key, f"{quoted(name)} is there already; names ignore case", first)


def _pool_conflicts(pools: Mapping[Any, Any]) -> Iterator[Conflict]:
    total = 0
    for name, pool in pools.items():
        backends = get(pool, "backends")
        if isinstance(backends, Sequence) and not isinstance(backends, str):
            total += len(backends)
            yield from _backend_conflicts(name, pool, backends)
            yield from _source_conflicts(name, pool, backends)
        yield from _tcp_conflicts(("pools", name, "tcp"), get(pool, "tcp"))
        yield from _health_conflicts(("pools", name, "health"), get(pool, "health"), get(pool, "load"))
        yield from _load_conflicts(("pools", name, "load"), get(pool, "load"))
        if get(pool, "scale_to_zero") is True and get(pool, "queue") is None:
            message = "clients wait in the queue until a backend starts; give the pool one: queue: {timeout: 10m}"
            yield Conflict(("pools", name, "scale_to_zero"), message)
        yield from _discover_conflicts(("pools", name, "discover"), get(pool, "discover"))
        yield from _drain_conflicts(("pools", name), pool)
        yield from _limit_conflicts(("pools", name), pool)
        if get(get(pool, "passive"), "server_errors") is not None and get(pool, "protocol") != "http1":
            message = "statuses are known with protocol: http1 only; give it, or a preset that has it"
            yield Conflict(("pools", name, "passive", "server_errors"), message)
    if len(pools) > POOLS_MAX:
        yield Conflict(("pools",), f"{len(pools)} pools are more than the {POOLS_MAX} that fit")
    if total > BACKENDS_MAX:
        yield Conflict(("pools",), f"{total} backends are more than the {BACKENDS_MAX} that fit")


def _backend_conflicts(pool_name: Any, pool: Any, backends: Sequence[Any]) -> Iterator[Conflict]:
    seen: dict[str, Loc] = {}
    for index, backend in enumerate(backends):
        name = backend_name(backend)
        loc: Loc = ("pools", pool_name, "backends", index)
        if name is not None and (first := seen.setdefault(name, loc)) is not loc:
            yield Conflict(loc, f"the pool has a backend {quoted(name)} already; give this one another name", first)
        if get(backend, "agent") is not None and get(pool, "agent") is None:
            yield Conflict((*loc, "agent"), "the pool has no agent; give it one: agent: {port: 9401}")
    size = get(get(pool, "hash"), "table_size")
    if get(pool, "balance") in ("maglev", "source_hash") and isinstance(size, int) and len(backends) > size:
        message = f"{size} entries are too few for {len(backends)} backends; take a prime at least 100 times as large"
        yield Conflict(("pools", pool_name, "hash", "table_size"), message)


def _source_conflicts(pool_name: Any, pool: Any, backends: Sequence[Any]) -> Iterator[Conflict]:
    """Each source must be unique, and each backend needs a source of its family."""
    seen: dict[str, Loc] = {}
    for index, item in enumerate(one_or_many(get(pool, "source"))):
        source, loc = read(read_source, item), ("pools", pool_name, "source", index)
        if source is not None and (first := seen.setdefault(source, loc)) is not loc:
            yield Conflict(loc, f"{source} is there already; name it once", first)
    families = {":" in source for source in seen}
    for index, backend in enumerate(backends):
        address = read(read_backend, get(backend, "address") if isinstance(backend, Mapping) else backend)
        if not seen or address is None or address.is_unix or address.is_name or address.is_ipv6 in families:
            continue
        mine, other = ("IPv6", "IPv4") if address.is_ipv6 else ("IPv4", "IPv6")
        message = f"{address} is {mine}, and source has only {other} addresses; add one of {mine}"
        yield Conflict(("pools", pool_name, "backends", index), message)


def _loop_conflicts(listeners: Mapping[Any, Any], pools: Mapping[Any, Any]) -> Iterator[Conflict]:
    """Backends that are listeners of this process, in a circle."""
    doors = {name: _door(listener) for name, listener in listeners.items()}
    ports = {bind.port for door in doors.values() for bind in door.binds}
    addresses = {name: _addresses_at(get(pool, "backends"), ports) for name, pool in pools.items()}
    for loop in find_loops(doors, addresses):
        address = addresses[loop.pool][loop.backend]
        message = f"{address} is l4lb itself, so connections would loop for ever; give another server"
        yield Conflict(("pools", loop.pool, "backends", loop.backend), message, ("listeners", loop.listener, "bind"))


def _door(listener: Any) -> ListenerRoutes:
    binds = (read(read_bind, item) for item in one_or_many(get(listener, "bind")))
    pool, routes = get(listener, "pool"), get(listener, "sni")
    return ListenerRoutes(
        [bind for bind in binds if bind is not None and bind.port != 0],
        {pool} if isinstance(pool, str) else set(pool) if isinstance(pool, Mapping) else set(),
        {str(name).lower(): str(pool) for name, pool in routes.items()} if isinstance(routes, Mapping) else {},
    )


def _addresses_at(backends: Any, ports: Set[int | None]) -> dict[int, Address]:
    """The addresses with one of these ports, and those of unix sockets. Others, which may be many, are not parsed."""
    found: dict[int, Address] = {}
    for index, backend in enumerate(backends if isinstance(backends, Sequence) else ()):
        value = backend if isinstance(backend, str | Address) else get(backend, "address")
        port = str(value).rpartition(":")[2]
        if not port.isdecimal() or int(port) in ports:
            address = read(read_backend, value)
            found |= {} if address is None else {index: address}
    return found


def _tcp_conflicts(loc: Loc, tcp: Any) -> Iterator[Conflict]:
    """`keepalive: off` may override a default and leave the other keepalive keys without effect."""
    if isinstance(tcp, Mapping) and "keepalive" not in tcp:
        for key in PROBE_KEYS:
            if key in tcp:
                yield Conflict((*loc, key), "only keepalive uses it, and that is not given; write keepalive: 60s too")


def _drain_conflicts(loc: Loc, pool: Any) -> Iterator[Conflict]:
    """`drain_spread` must not be longer than `drain_timeout`, which closes the sessions anyway."""
    spread = _seconds(get(pool, "drain_spread"))
    patience = _seconds(pool.get("drain_timeout", DRAIN_TIMEOUT)) if isinstance(pool, Mapping) else None
    if spread is not None and patience is not None and spread > patience:
        message = "sessions of a removed backend are closed sooner, after drain_timeout; write a shorter drain_spread"
        yield Conflict((*loc, "drain_spread"), message)


def _limit_conflicts(loc: Loc, pool: Any) -> Iterator[Conflict]:
    """`max_busy: auto` learns from what the backend says of itself, and clients must be able to wait."""
    backends, signals = get(pool, "backends"), get(get(pool, "load"), "signals")
    places: list[tuple[Loc, Any]] = [((*loc, "discover"), get(pool, "discover"))]
    if isinstance(backends, Sequence) and not isinstance(backends, str):
        places += [((*loc, "backends", index), backend) for index, backend in enumerate(backends)]
    for place, item in places:
        if get(item, "max_busy") != "auto":
            continue
        if not get(signals, "running") or not get(signals, "queue"):
            message = "auto learns from running and waiting requests; give load.signals running and queue, or a preset"
            yield Conflict((*place, "max_busy"), message)
        if get(pool, "queue") is None:
            message = "auto holds requests back, which wait in the queue; give the pool one: queue: {timeout: 30s}"
            yield Conflict((*place, "max_busy"), message)


def _place_conflicts(pools: Mapping[Any, Any], zones: Mapping[Any, Any]) -> Iterator[Conflict]:
    """Backends in undefined zones."""
    for name, pool in pools.items():
        backends = get(pool, "backends")
        for index, backend in enumerate(backends if isinstance(backends, Sequence) else ()):
            zone = get(backend, "zone")
            if isinstance(zone, str) and zone not in zones:
                known = f"there are {', '.join(map(str, zones))}" if zones else "there are none; write some in zones"
                yield Conflict(("pools", name, "backends", index, "zone"), f"there is no zone {quoted(zone)}; {known}")


def _zone_conflicts(zones: Mapping[Any, Any], *, has_database: bool) -> Iterator[Conflict]:
    if len(zones) > ZONES_MAX:
        yield Conflict(("zones",), f"{len(zones)} zones are more than the {ZONES_MAX} that fit")
    seen: dict[object, Loc] = {}
    for name, entries in zones.items():
        for index, item in enumerate(one_or_many(entries)):
            entry = read(read_zone_entry, item)
            if entry is None:
                continue
            loc: Loc = ("zones", name, index)
            first = seen.setdefault(entry, loc)
            if first[1] != name:
                yield Conflict(loc, f"{entry} is already in zone {quoted(first[1])}", first)
            if isinstance(entry, Selector) and not has_database:
                yield Conflict(loc, f"{entry} needs a database; write geo: {{database: FILE}}")


def _health_conflicts(loc: Loc, health: Any, load: Any) -> Iterator[Conflict]:
    if not isinstance(health, Mapping):
        return
    kind = health.get("type", "tcp")
    for key in KEY_TYPES.keys() & health.keys():
        if kind not in KEY_TYPES[key] and isinstance(kind, str):
            yield Conflict((*loc, key), f"only {_either(KEY_TYPES[key])} checks use it, and the type is {kind}")
    needed = [("exec", "command"), ("send_expect", "script"), ("pgsql", "user")]
    if health.get("role", "any") != "any" or "password" in health:
        needed.append(("mysql", "user"))
    for type_, key in needed:
        if kind == type_ and key not in health:
            yield Conflict((*loc, "type"), f"{type_} needs the key '{key}'")
    for index, step in enumerate(one_or_many(health.get("script", ()))):
        if isinstance(step, Mapping) and not step.keys() & {"send", "expect", "match"}:
            yield Conflict((*loc, "script", index), "the step does nothing; give send, expect or match")
    if health.get("method") == "HEAD" and "body" in health:
        yield Conflict((*loc, "body"), "the answer to HEAD has no body; ask with GET")
    headers = health.get("headers")
    for name in headers if isinstance(headers, Mapping) else ():
        if str(name).lower() == "host":
            yield Conflict((*loc, "headers"), "the Host header has a key of its own; write health.host")
    tls = health.get("tls")
    if get(tls, "key") is not None and get(tls, "certificate") is None:
        yield Conflict((*loc, "tls", "key"), "a key needs its certificate; give tls.certificate too")
    if health.get("progress") is not None:
        yield from _progress_conflicts((*loc, "progress"), health["progress"], load)


def _either(types: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(types[:-1]), types[-1])))


def _progress_conflicts(loc: Loc, progress: Any, load: Any) -> Iterator[Conflict]:
    if load is None:
        yield Conflict(loc, "progress is read from what `load` scrapes; give load, or a preset that has it")
    elif not get(progress, "running") and not get(get(load, "signals"), "running"):
        yield Conflict(loc, "nothing says whether requests are running; give progress.running or load.signals.running")


def _load_conflicts(loc: Loc, load: Any) -> Iterator[Conflict]:
    if not isinstance(load, Mapping):
        return
    signals = load.get("signals")
    if not signals:
        yield Conflict(loc, "there is nothing to read; give signals, or a preset that has some")
    placeholders = set(re.findall(r"[{][^}]*[}]?|[}]", str(load.get("url", ""))))
    for unknown in sorted(placeholders - {"{host}", "{port}"}):
        yield Conflict((*loc, "url"), f"{quoted(unknown)} is not a placeholder; use {{host}} and {{port}}")


def _discover_conflicts(loc: Loc, discover: Any) -> Iterator[Conflict]:
    if not isinstance(discover, Mapping):
        return
    given = [name for name in SOURCES if discover.get(name) is not None]
    if not given and discover.keys() <= Discover.model_fields.keys():
        yield Conflict(loc, f"there is no source; give one of {', '.join(SOURCES)}")
    for name in given[1:]:
        message = f"there is a source already, {given[0]}; a pool has one, so give this one a pool of its own"
        yield Conflict((*loc, name), message, (*loc, given[0]))
    yield from _dns_conflicts((*loc, "dns"), discover.get("dns"))
    etcd = discover.get("etcd")
    for key, other in (("certificate", "key"), ("key", "certificate")):
        if get(etcd, key) is not None and get(etcd, other) is None:
            yield Conflict((*loc, "etcd", key), f"it needs {other}; give both or neither")


def _dns_conflicts(loc: Loc, dns: Any) -> Iterator[Conflict]:
    if not isinstance(dns, Mapping):
        return
    records = one_or_many(dns.get("record", "A"))
    if "SRV" not in records and dns.get("port") is None:
        yield Conflict(loc, "the key 'port' is missing; only SRV records have ports")
    if "SRV" in records and len(records) > 1:
        yield Conflict((*loc, "record"), "SRV stands alone: its records name hosts, whose addresses are looked up")
    if "SRV" in records and dns.get("port") is not None:
        yield Conflict((*loc, "port"), "SRV records have ports of their own; remove it, or ask for A")


def _seconds(duration: Any) -> float | None:
    """The duration in seconds; None if it is invalid or off."""
    return read(parse_duration, duration) if isinstance(duration, str) else duration if is_number(duration) else None
