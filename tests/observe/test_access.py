"""The access log's lines are what their readers expect: JSON with the promised fields, or what halog understands."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from l4lb.config.model import AccessLog as Settings
from l4lb.engine.api import EventKind
from l4lb.engine.api import Path as RelayPath
from l4lb.observe.access import AccessLogWriter, format_json, tcplog_formatter
from tests.admin.fake_control import make_session
from tests.helpers.waiting import wait_until

FIELDS = [
    *("time", "event", "session", "listener", "client", "pool", "backend", "duration_s", "connect_s", "queue_s"),
    *("first_byte_s", "bytes_in", "bytes_out", "retries", "turns", "moves", "pin", "code", "reason", "path"),
]

REQUEST_FIELDS = [
    *("time", "event", "session", "listener", "client", "pool", "backend", "status", "duration_s", "queue_s"),
    *("first_byte_s", "bytes_in", "bytes_out", "moves"),
]

# As HAProxy 2.6 wrote it with `option tcplog`, in a file made by a syslog daemon.
HAPROXY = (
    "Nov 21 06:43:31 host haproxy[4892]: 127.0.0.1:42250 [21/Nov/2026:06:43:31.375] fe be/s1 1/0/0 7 -- 1/1/0/0/0 0/0"
)
TCPLOG = re.compile(
    r"[A-Z][a-z]{2} [ 1-3]\d \d\d:\d\d:\d\d \S+ \w+\[\d+\]: "
    r"\S+:\d+ \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d\.\d{3}\] \S+ \S+/\S+ "
    r"-?\d+/-?\d+/\+?\d+ \+?\d+ [-a-zA-Z]{2} \d+/\d+/\d+/\d+/\d+ \d+/\d+"
)

tcplog = tcplog_formatter("host", 4711)


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def test_json_has_exactly_the_promised_fields() -> None:
    line = json.loads(format_json(make_session()))
    assert list(line) == FIELDS
    assert line == {
        "time": "2023-11-14T22:13:21.750Z",
        "event": "close",
        "session": 81_604_378_625,
        "listener": "front",
        "client": "192.0.2.7:40001",
        "pool": "llama",
        "backend": "a",
        "duration_s": 1.5,
        "connect_s": 0.002,
        "queue_s": 0,
        "first_byte_s": 0.25,
        "bytes_in": 120,
        "bytes_out": 4096,
        "retries": 0,
        "turns": 1,
        "moves": 0,
        "pin": None,
        "code": "--",
        "reason": "normal",
        "path": "splice",
    }


def test_a_request_has_a_line_of_its_own_with_its_status() -> None:
    line = json.loads(format_json(make_session(event=EventKind.REQUEST, close=None, status=503, moves=2, turns=7)))
    assert list(line) == REQUEST_FIELDS
    assert [line[key] for key in ("event", "status", "moves", "duration_s", "backend")] == ["request", 503, 2, 1.5, "a"]
    interim = json.loads(format_json(make_session(event=EventKind.REQUEST, close=None, first_byte=None)))
    assert (interim["status"], interim["first_byte_s"]) == (None, None)


def test_a_pinned_session_says_why() -> None:
    line = json.loads(format_json(make_session(pin="upgrade", moves=3)))
    assert (line["pin"], line["moves"]) == ("upgrade", 3)


def test_json_is_null_where_nothing_was_reached() -> None:
    session = make_session(
        backend=None, connect=None, first_byte=None, close=None, event=EventKind.OPEN, path=RelayPath.COPY
    )
    line = json.loads(format_json(session))
    assert list(line) == FIELDS
    assert line["event"] == "open"
    assert line["path"] == "copy"
    assert [line[key] for key in ("backend", "connect_s", "first_byte_s", "code", "reason")] == [None] * 5


@pytest.mark.parametrize(
    ("client", "port", "shown"),
    [("2001:db8::1", 5, "[2001:db8::1]:5"), ("", 0, "unix"), ("192.0.2.1", 9, "192.0.2.1:9")],
)
def test_json_shows_the_client_as_an_address(client: str, port: int, shown: str) -> None:
    assert json.loads(format_json(make_session(client=client, client_port=port)))["client"] == shown


@pytest.mark.usefixtures("utc")
def test_tcplog_is_the_line_haproxy_writes() -> None:
    assert TCPLOG.fullmatch(HAPROXY)
    assert tcplog(make_session(started=1_795_243_411.375, retries=2)) == (
        "Nov 21 06:43:32 host l4lb[4711]: 192.0.2.7:40001 [21/Nov/2026:06:43:31.375] front llama/a "
        "0/2/1500 4096 -- 0/0/0/0/2 0/0"
    )


def test_tcplog_marks_phases_that_were_not_reached() -> None:
    refused = tcplog(make_session(connect=None, close=("connect_failed", "SC"), bytes_out=0))
    assert " llama/a 0/-1/1500 0 SC " in refused
    without_backend = tcplog(make_session(backend=None, connect=None, close=("no_backend", "SC"), bytes_out=0))
    assert " llama/<NOSRV> -1/-1/1500 0 SC " in without_backend


def test_tcplog_before_the_end_carries_plus_signs() -> None:
    line = tcplog(make_session(event=EventKind.INTERVAL, close=None))
    assert " 0/2/+1500 +4096 -- " in line
    assert TCPLOG.fullmatch(line)


@pytest.mark.parametrize("client", ["2001:db8::1", "", "unix"])
def test_tcplog_has_as_many_fields_whatever_the_names(client: str) -> None:
    line = tcplog(make_session(client=client, backend="unix:/run/a b\n\x1b.sock"))
    assert TCPLOG.fullmatch(line)


@pytest.mark.skipif(shutil.which("halog") is None, reason="halog is not installed")
@pytest.mark.usefixtures("utc")
@pytest.mark.parametrize(
    "arguments",
    [("-c",), ("-time", "1795243411:1795243411", "-c"), ("-time", "1795243412:", "-c"), ("-srv",), ("-E", "-c")],
    ids=" ".join,
)
def test_halog_says_of_our_lines_what_it_says_of_haproxys(arguments: tuple[str, ...]) -> None:
    session = make_session(
        started=1_795_243_411.375,
        duration=0.0,
        connect=0.0,
        bytes_out=7,
        client="127.0.0.1",
        client_port=42250,
        listener="fe",
        pool="be",
        backend="s1",
    )

    def halog(line: str) -> tuple[str, str]:
        done = subprocess.run(
            ["halog", *arguments], input=f"{line}\n" * 3, capture_output=True, text=True, check=True, timeout=10
        )
        return done.stdout, done.stderr

    assert halog(tcplog(session)) == halog(HAPROXY)


def test_events_are_written_to_the_file_and_after_rotation_to_the_next(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLogWriter(Settings(to=str(path)))
    log.write([make_session(1), make_session(2)])
    wait_until(lambda: path.read_text().count("\n") == 2)
    path.rename(tmp_path / "access.log.1")
    log.reopen()
    wait_until(path.exists)
    log.write([make_session(3)])
    log.close()
    assert json.loads(path.read_text())["session"] == 3
    assert log.dropped_total == 0


@pytest.mark.usefixtures("utc")
def test_the_format_is_the_configured_one(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLogWriter(Settings(to=str(path), format="tcplog"))
    log.write([make_session()])
    log.close()
    assert TCPLOG.fullmatch(path.read_text().rstrip("\n"))
    assert f" l4lb[{os.getpid()}]: " in path.read_text()


@pytest.mark.slow
def test_a_full_fifo_never_blocks_its_writer(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log = AccessLogWriter(Settings(to=str(path)))
    sessions = [make_session(n) for n in range(1000)]
    while log.dropped_total == 0:
        log.write(sessions)
    log.close()
    os.close(reading)


def test_stdout_is_a_dash(capfd: pytest.CaptureFixture[str]) -> None:
    log = AccessLogWriter(Settings(to="-"))
    log.write([make_session(42)])
    log.close()
    assert json.loads(capfd.readouterr().out)["session"] == 42
