"""The access log follows the configuration: replaced as a whole, or not at all."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from l4lb.config.model import AccessLog as Settings
from l4lb.errors import StartError
from l4lb.observe.session_log import SessionLog
from tests.admin.fake_control import make_session
from tests.helpers.leaks import holdings


def lines(path: Path) -> int:
    return sum(json.loads(line)["event"] == "close" for line in path.read_text().splitlines())


def test_it_writes_where_the_last_change_said(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    log = SessionLog()
    log.write([make_session()])
    with log.replacing(Settings(to=str(one))):
        log.write([make_session()])
    log.write([make_session()])
    with log.replacing(Settings(to=str(two))):
        log.write([make_session()])
    log.write([make_session()] * 5)
    with log.replacing(Settings(to=str(two))):
        pass
    log.write([make_session()])
    log.close()
    log.close()
    log.write([make_session()])
    assert (lines(one), lines(two), log.dropped_total) == (2, 6, 0)


def test_a_change_that_fails_leaves_it_as_it_was(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    log = SessionLog()
    with log.replacing(Settings(to=str(one))):
        pass
    before, threads = holdings(os.getpid()), threading.active_count()

    def change() -> None:
        with log.replacing(Settings(to=str(two))):
            raise StartError("no")

    with pytest.raises(StartError, match="no"):
        change()
    with (
        pytest.raises(StartError, match="cannot open log file"),
        log.replacing(Settings(to=str(tmp_path / "no" / "x"))),
    ):
        raise AssertionError("there was nothing to write to")
    assert (holdings(os.getpid()).other, threading.active_count()) == (before.other, threads)
    log.write([make_session()])
    log.close()
    assert (lines(one), lines(two)) == (1, 0)


def test_it_can_be_taken_away_and_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = SessionLog()
    log.reopen()
    with log.replacing(Settings(to=str(path))):
        pass
    with log.replacing(None):
        pass
    log.write([make_session()])
    assert path.read_text() == ""


def test_lines_lost_by_all_logs_count(tmp_path: Path) -> None:
    log = SessionLog()
    for name in ("one", "two"):
        with log.replacing(Settings(to="/dev/full" if name == "one" else str(tmp_path / name))):
            pass
        log.write([make_session()] * 3)
    log.close()
    assert log.dropped_total == 3
