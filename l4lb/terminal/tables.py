"""Draws responses of the admin API as tables for people."""

from __future__ import annotations

import os
from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from l4lb.admin.client import Json
from l4lb.base.text import clipped, plural, short_duration
from l4lb.terminal import columns
from l4lb.terminal.columns import Column

UNLIMITED_WIDTH = 500
"""Without a terminal the output goes to a file or a tool, where lines must not be cut."""

NAMES_SHOWN = 10
"""Backends named in a line; how many there are beyond is enough."""

_STYLES = {
    "up": "green",
    "ready": "green",
    "down": "bold red",
    "ejected": "bold red",
    "drain": "yellow",
    "maint": "yellow",
    "pending": "cyan",
    "cold": "cyan",
}


def print_status(status: Json) -> None:
    config = _mapping(status, "config")
    console = _console()
    console.print(
        f"[bold]l4lb {_text(status, 'version')}[/bold], pid {_text(status, 'pid')}, "
        f"up {short_duration(_float(status, 'uptime_seconds'))}, {_text(config, 'file')}",
        highlight=False,
    )
    if not config.get("last_reload_ok", True):
        console.print(f"[bold red]last reload rejected:[/bold red] {_text(config, 'last_error')}", highlight=False)
    notes = config.get("restart_notes")
    for note in notes if isinstance(notes, list) else ():
        console.print(f"[bold yellow]needs a restart:[/bold yellow] {_shown(str(note))}", highlight=False)
    if (failure := _mapping(status, "upgrade").get("last_error")) is not None:
        console.print(f"[bold red]last upgrade failed:[/bold red] {_shown(str(failure))}", highlight=False)
    if status.get("stopping"):
        console.print(_stopping(_mapping(status, "shutdown")), highlight=False)
    console.print(_listeners_table(_mapping(status, "listeners"), _width(console)))
    console.print(_backends_table(_mapping(status, "pools"), _width(console)))
    for name, pool in _items(_mapping(status, "pools")):
        if fault := pool.get("fault"):
            console.print(
                f"[bold red]pool {escape(name)} goes on with what it had:[/bold red] {escape(str(fault))}",
                highlight=False,
            )
        if pool.get("panic"):
            console.print(
                f"[bold red]pool {_shown(name)} panics:[/bold red] too few backends are usable, health is ignored",
                highlight=False,
            )
        if (failover := _mapping(pool, "failover")).get("held"):
            console.print(f"[yellow]pool {_shown(name)}[/yellow] {_text(failover, 'message')}", highlight=False)
        if discovery := _mapping(pool, "discovery"):
            console.print(_discovery(name, discovery), highlight=False)
        if queued := number(pool, "queued"):
            room = _text(pool, "queue_size")
            console.print(f"pool {_shown(name)}, queue: {queued} of {room} clients wait", highlight=False)
        if learnt := _learnt(pool):
            console.print(f"pool {_shown(name)}, max_busy: {learnt}", highlight=False)
        if edited := _edited(pool):
            console.print(f"pool {escape(name)}, at run time: {edited}; `l4lb status --yaml` writes it out")


def _stopping(shutdown: Json) -> str:
    """The progress of a stop; empty before it has begun."""
    if not shutdown:
        return "[bold yellow]stopping[/bold yellow]"
    left = f", {short_duration(_float(shutdown, 'left_s'))} left" if shutdown.get("left_s") is not None else ""
    sessions = plural(number(shutdown, "sessions"), "session")
    return (
        f"[bold yellow]stopping[/bold yellow] for {short_duration(_float(shutdown, 'age_s'))}: "
        f"waiting for {sessions} to end, {number(shutdown, 'busy')} of them busy{left}"
    )


_LISTENER = (
    Column("listener", least=12),
    Column("bind", least=21),
    Column("pool", least=12),
    Column("connections", right=True),
    Column("total", right=True, leaves=1),
    Column("rejected", right=True, leaves=2),
)


def _listeners_table(listeners: Json, width: int) -> Table:
    rows = []
    for name, listener in _items(listeners):
        bind = listener.get("bind")
        rejected = sum(
            number(_mapping(listener, "rejected_total"), key) for key in _mapping(listener, "rejected_total")
        )
        rows.append(
            (
                _shown(name),
                _shown(", ".join(map(str, bind)) if isinstance(bind, list) else ""),
                _text(listener, "pool"),
                _text(listener, "connections"),
                _text(listener, "connections_total"),
                str(rejected),
            )
        )
    return columns.table(_LISTENER, rows, width)


def _backend_columns(backends: list[tuple[str, Json]], *, with_statuses: bool) -> tuple[Column, ...]:
    """Columns without information about these backends are dropped first on a narrow terminal. Where requests are
    balanced, `busy` says more than `connections`."""
    is_named = any(backend.get("address") != name for name, backend in backends)
    is_loaded = any(_mapping(backend, "load") for _, backend in backends)
    is_placed = any(backend.get("tier") or backend.get("zone") for _, backend in backends)
    return (
        Column("pool", least=12),
        Column("backend", least=22),
        Column("address", least=21, leaves=7 if is_named else 1),
        *((Column("tier", right=True), Column("zone", least=8, leaves=6)) if is_placed else ()),
        Column("state"),
        Column("health"),
        Column("weight", right=True),
        Column("load", right=True, leaves=8 if is_loaded else 2),
        Column("connections", right=True, leaves=10 if with_statuses else None),
        Column("busy", right=True, leaves=None if with_statuses else 9),
        Column("total", right=True, leaves=5),
        *((Column("5xx", right=True, leaves=6),) if with_statuses else ()),
        Column("in", right=True, leaves=3),
        Column("out", right=True, leaves=4),
        Column("message", least=12),
    )


def _backends_table(pools: Json, width: int) -> Table:
    of_pools = [(pool, *item) for pool, found in _items(pools) for item in _items(_mapping(found, "backends"))]
    with_statuses = any(pool.get("protocol") == "http1" for _, pool in _items(pools))
    shown = _backend_columns([(name, backend) for _, name, backend in of_pools], with_statuses=with_statuses)
    is_placed = any(column.name == "tier" for column in shown)
    rows = []
    for pool, name, backend in of_pools:
        weight, effective = _text(backend, "weight"), _text(backend, "effective_weight")
        rows.append(
            (
                _shown(pool),
                _shown(name),
                _text(backend, "address"),
                *((_text(backend, "tier"), _text(backend, "zone")) if is_placed else ()),
                _styled(_state(backend)),
                _styled(_health(backend)),
                weight if weight == effective else f"{effective} of {weight}",
                _load(_mapping(backend, "load")),
                _text(backend, "connections"),
                _busy(backend),
                _text(backend, "connections_total"),
                *((_text(_mapping(backend, "responses_total"), "5xx"),) if with_statuses else ()),
                size(number(backend, "bytes_in")),
                size(number(backend, "bytes_out")),
                _text(backend, "health_message"),
            )
        )
    return columns.table(shown, rows, width)


def _discovery(pool: str, discovery: Json) -> str:
    """The state of a pool's source, in one line."""
    age = discovery.get("age_s")
    answer = f"{short_duration(_float(discovery, 'age_s'))} ago" if isinstance(age, int | float) else "never"
    working = discovery.get("working")
    state = "[green]works[/green]" if working else "[bold red]fails[/bold red]"
    line = f"pool {_shown(pool)}: {_text(discovery, 'source')} {state}: {_text(discovery, 'message')}"
    return (
        f"{line}; answered {answer}" if working else f"{line}; {_text(discovery, 'endpoints')} kept, answered {answer}"
    )


def _edited(pool: Json) -> str:
    """The edits of the file's backends, in words."""
    backends = list(_items(_mapping(pool, "backends")))
    added = [name for name, backend in backends if backend.get("origin") == "api"]
    changed = [name for name, backend in backends if backend.get("changed")]
    removed = pool.get("removed")
    parts = (("added", added), ("changed", changed), ("removed", removed if isinstance(removed, list) else []))
    return "; ".join(f"{word} {escape(_some(names))}" for word, names in parts if names)


def _learnt(pool: Json) -> str:
    """The limits that are learnt, and why they are what they are."""
    backends = _items(_mapping(pool, "backends"))
    return _some([f"{name} {found}" for name, backend in backends if (found := backend.get("max_busy_message"))])


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:NAMES_SHOWN])
    return shown if len(names) <= NAMES_SHOWN else f"{shown} and {len(names) - NAMES_SHOWN} more"


def _busy(backend: Json) -> str:
    """Turns in flight, and the limit in force."""
    busy, limit = _text(backend, "busy"), backend.get("max_busy")
    return busy if limit is None else f"{busy} of {limit}"


def _state(backend: Json) -> str:
    """What the operator wants, or that the backend has just become usable and is spared."""
    state = _text(backend, "state")
    return "cold" if state == "ready" and backend.get("cold_left") else state


def _health(backend: Json) -> str:
    """The health of the checks, or the ejection that overrides it."""
    return "ejected" if _mapping(backend, "ejection").get("cause") else _text(backend, "health")


def _load(load: Json) -> str:
    """The utilisation of the scarcest resource in percent, with its age once it is old."""
    if not isinstance(load.get("utilisation"), int | float):
        return "?" if load else "-"
    shown = f"{_float(load, 'utilisation'):.0%}"
    return f"{shown}, {short_duration(_float(load, 'age_s'))} old" if load.get("stale") else shown


def _session_columns(sessions: list[Json]) -> dict[str, Column]:
    """The columns by the keys of sessions. `moves` and `pin` are there if a session has them."""
    moves = {"moves": Column("moves", right=True, leaves=6)} if any(number(one, "moves") for one in sessions) else {}
    pin = {"pin": Column("pinned", leaves=7)} if any(one.get("pin") for one in sessions) else {}
    return {
        "session": Column("session", right=True),
        "listener": Column("listener", least=12, leaves=2),
        "client": Column("client", least=21),
        "pool": Column("pool", least=12, leaves=8),
        "backend": Column("backend", least=22),
        "state": Column("state", leaves=5),
        **moves,
        **pin,
        "duration_s": Column("age", right=True),
        "idle_s": Column("idle", right=True),
        "bytes_in": Column("in", right=True, leaves=3),
        "bytes_out": Column("out", right=True, leaves=4),
        "path": Column("path", leaves=1),
    }


def print_sessions(answer: Json) -> None:
    found = answer.get("sessions")
    sessions: list[Json] = found if isinstance(found, list) else []
    shown = _session_columns(sessions)
    rows = [[_session_cell(session, key) for key in shown] for session in sessions]
    console = _console()
    console.print(columns.table(tuple(shown.values()), rows, _width(console)) if rows else "no sessions")


def _session_cell(session: Json, key: str) -> str:
    if key.endswith("_s"):
        return short_duration(_float(session, key))
    return size(number(session, key)) if key.startswith("bytes_") else _text(session, key)


def size(count: int) -> str:
    """Bytes with a binary unit: `812`, `1.5 KiB`."""
    if count < 1024:
        return str(count)
    value = float(count)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        value /= 1024
        if value < 1024:
            return f"{value:.1f} {unit}"
    return f"{value / 1024:.1f} PiB"


def number(mapping: Json, key: str) -> int:
    value = mapping.get(key)
    return value if isinstance(value, int) else 0


def _float(mapping: Json, key: str) -> float:
    value = mapping.get(key)
    return float(value) if isinstance(value, int | float) else 0.0


def _shown(text: str) -> str:
    """Foreign text, made safe: it neither controls the terminal nor counts as markup."""
    return escape(clipped(text))


def _text(mapping: Json, key: str) -> str:
    value = mapping.get(key)
    return "-" if value is None else _shown(str(value))


def _mapping(mapping: Json, key: str) -> Json:
    value = mapping.get(key)
    return value if isinstance(value, dict) else {}


def _items(mapping: Json) -> Iterator[tuple[str, Json]]:
    for name in mapping:
        yield name, _mapping(mapping, name)


def _styled(word: str) -> str:
    style = _STYLES.get(word)
    return f"[{style}]{word}[/{style}]" if style else word


def _console() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=UNLIMITED_WIDTH)
    return console


def _width(console: Console) -> int:
    """The room for a table: that of the terminal; without one as much as COLUMNS says, else without a limit."""
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if not console.is_terminal and columns.isdecimal() else console.width
