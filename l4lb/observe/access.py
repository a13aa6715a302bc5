"""The access log: one line for each event of a session, as JSON or as HAProxy's TCP log line."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from l4lb.engine.api import EventKind
from l4lb.observe.logs import timestamp
from l4lb.observe.writer import Writer
from l4lb.status import Session

if TYPE_CHECKING:
    from l4lb.config import model

QUEUE_LINES = 32_768  # about 20 MB of waiting sessions at worst
STDOUT = 1

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")  # in every locale
_WORD_BREAKS = dict.fromkeys((*range(33), *range(127, 161)), "_")

_log = logging.getLogger(__name__)


def client_address(session: Session) -> str:
    """`address:port` of the client, with brackets around IPv6; `unix` for a client of a unix socket."""
    record = session.record
    if not record.client or record.client == "unix":
        return "unix"
    host = f"[{record.client}]" if ":" in record.client else record.client
    return f"{host}:{record.client_port}"


def format_json(session: Session) -> str:
    """A JSON object with null for steps that were not reached. `bytes_in` came from the client."""
    fields = _request(session) if session.record.event == EventKind.REQUEST else _session(session)
    return json.dumps({**_common(session), **fields}, separators=(",", ":"))


def _common(session: Session) -> dict[str, object]:
    record = session.record
    return {
        "time": timestamp(record.started + record.duration),
        "event": record.event.name.lower() if record.event and record.event.name else None,
        "session": record.id,
        "listener": session.listener,
        "client": client_address(session),
        "pool": session.pool,
        "backend": session.backend,
    }


def _session(session: Session) -> dict[str, object]:
    record = session.record
    reason, code = record.close or (None, None)
    return {
        "duration_s": round(record.duration, 6),
        "connect_s": _rounded(record.connect),
        "queue_s": round(record.queue, 6),
        "first_byte_s": _rounded(record.first_byte),
        "bytes_in": record.bytes_in,
        "bytes_out": record.bytes_out,
        "retries": record.retries,
        "turns": record.turns,
        "moves": record.moves,
        "pin": record.pin,
        "code": code,
        "reason": reason,
        "path": record.path.name.lower(),
    }


def _request(session: Session) -> dict[str, object]:
    record = session.record
    return {
        "status": record.status,
        "duration_s": round(record.duration, 6),
        "queue_s": round(record.queue, 6),
        "first_byte_s": _rounded(record.first_byte),
        "bytes_in": record.bytes_in,
        "bytes_out": record.bytes_out,
        "moves": record.moves,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


def tcplog_formatter(host: str, pid: int) -> Callable[[Session], str]:
    """HAProxy's `option tcplog` line behind the prefix that a syslog daemon writes to a file.

    `halog` and similar tools skip that prefix by counting fields, so it has to be there. The counts of concurrent
    connections and the queue positions are 0: they are not part of a session's record. Before the end of a session
    the total time and the bytes carry a `+`, as with HAProxy's `option logasap`.
    """
    host = _word(host)

    def format_tcplog(session: Session) -> str:
        record = session.record
        now = datetime.fromtimestamp(record.started + record.duration)
        accepted = datetime.fromtimestamp(record.started)
        accepted_date = f"{accepted.day:02}/{_MONTHS[accepted.month - 1]}/{accepted:%Y:%H:%M:%S}"
        so_far = "" if record.event == EventKind.CLOSE else "+"
        _, code = record.close or (None, "--")
        queue_ms = -1 if session.backend is None else round(record.queue * 1000)
        connect_ms = -1 if record.connect is None else round(record.connect * 1000)
        return (
            f"{_MONTHS[now.month - 1]} {now.day:2} {now:%H:%M:%S} {host} l4lb[{pid}]: "
            f"{record.client or 'unix'}:{record.client_port} "
            f"[{accepted_date}.{accepted.microsecond // 1000:03}] "
            f"{_word(session.listener)} {_word(session.pool)}/{_word(session.backend or '<NOSRV>')} "
            f"{queue_ms}/{connect_ms}/{so_far}{round(record.duration * 1000)} {so_far}{record.bytes_out} {code} "
            f"0/0/0/0/{record.retries} 0/0"
        )

    return format_tcplog


def _word(text: str) -> str:
    """The text as one field of a line with fields divided by spaces."""
    return text.translate(_WORD_BREAKS)


class AccessLogWriter:
    """Writes session events to the file, FIFO or stdout that `settings` names. StartError when it cannot be opened."""

    def __init__(self, settings: model.AccessLog) -> None:
        formatter = format_json if settings.format == "json" else tcplog_formatter(socket.gethostname(), os.getpid())
        self._writer: Writer[Session] = Writer(
            STDOUT if settings.to == "-" else settings.to,
            lambda session: formatter(session).encode(errors="backslashreplace") + b"\n",
            capacity=QUEUE_LINES,
            name="l4lb-access",
            on_trouble=lambda message: _log.warning("access log: %s", message),
        )

    def write(self, sessions: Sequence[Session]) -> None:
        """Queue a line for each event. Never blocks: lines that do not fit are dropped and counted."""
        self._writer.put(sessions)

    def reopen(self) -> None:
        """Open the file again, as after a log rotation."""
        self._writer.reopen()

    def close(self) -> None:
        """Write the queued lines, and give up soon if the output is blocked. Idempotent."""
        self._writer.close()

    @property
    def dropped_total(self) -> int:
        """Lines lost since the start."""
        return self._writer.dropped_total
