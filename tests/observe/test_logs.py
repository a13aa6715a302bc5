"""The process log writes what was logged, holds back repeats, and cannot be used to forge lines or to block."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from l4lb.observe import logs
from l4lb.observe.logs import ProcessLog, RepeatLimiter
from tests.helpers.waiting import wait_until

logger = logging.getLogger("l4lb.test")


@contextmanager
def process_log(level: logs.Level = "info", format: logs.Format = "text") -> Iterator[Callable[[], list[str]]]:  # noqa: A002
    """A process log on a pipe; the function ends it and returns its lines."""
    reading, writing = os.pipe()
    log = ProcessLog(level, format, writing)

    def lines() -> list[str]:
        log.close()
        os.close(writing)
        with open(reading, closefd=False) as file:
            return file.read().splitlines()

    try:
        yield lines
    finally:
        log.close()
        os.close(reading)


def test_text_lines_have_time_level_origin_and_message() -> None:
    with process_log() as lines:
        logger.warning("backend %s is %s", "a", "down")
        (line,) = lines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z warning l4lb\.test: backend a is down", line)


def test_json_lines_are_objects() -> None:
    with process_log(format="json") as lines:
        logger.info("hello\nthere")
        try:
            raise ValueError("no")
        except ValueError:
            logger.exception("failed")
        first, second = map(json.loads, lines())
    assert (first["level"], first["logger"], first["message"]) == ("info", "l4lb.test", "hello\nthere")
    assert "ValueError: no" in second["exception"]


def test_control_characters_cannot_forge_a_line() -> None:
    with process_log() as lines:
        logger.info("name %s", "x\n2026-01-01T00:00:00.000Z error l4lb: forged\x1b[2J\r\x00")
        (line,) = lines()
    assert line.endswith(r"name x\n2026-01-01T00:00:00.000Z error l4lb: forged\x1b[2J\r\x00")


def test_long_messages_and_tracebacks_are_cut_and_bear_no_control_characters() -> None:
    with process_log() as lines:
        logger.info("text %s", "\x1b" * 10**6)
        try:
            raise ValueError("\x1b[2J\u202e" * 10**5 + "\r")
        except ValueError:
            logger.exception("failed")
        found = lines()
    assert all(line.isprintable() for line in found)
    assert sum(map(len, found)) < 25_000
    assert len(found[0]) < 1100


def test_the_level_is_for_our_loggers_and_libraries_only_warn() -> None:
    with process_log("debug") as lines:
        logger.debug("ours")
        logging.getLogger("aiohttp").info("theirs")
        logging.getLogger("aiohttp").warning("their warning")
        found = lines()
    assert [line.rpartition(": ")[2] for line in found] == ["ours", "their warning"]


def test_level_and_format_can_change_while_running() -> None:
    reading, writing = os.pipe()
    log = ProcessLog("error", "text", writing)
    logger.info("hidden")
    log.configure("info", "json")
    logger.info("shown")
    log.close()
    assert json.loads(os.read(reading, 4096))["message"] == "shown"
    os.close(reading)
    os.close(writing)


def test_repeats_are_held_back_and_their_number_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(logs.time, "monotonic", lambda: now[0])
    with process_log() as lines:
        for _ in range(100):
            logger.error("accept failed: %s", "EMFILE")
        logger.error("something else")
        now[0] += logs.WINDOW
        logger.error("accept failed: %s", "EMFILE")
        monkeypatch.undo()
        found = [line.partition("l4lb.test: ")[2] for line in lines()]
    assert found[:-2] == ["accept failed: EMFILE"] * logs.SAME_MESSAGE_BURST
    assert found[-2:] == ["something else", "accept failed: EMFILE (95 more like this were not logged)"]


def test_a_flood_of_one_kind_with_changing_values_is_bounded() -> None:
    with process_log() as lines:
        for n in range(5_000):
            logger.warning("client %d was denied", n)
        found = lines()
    assert len(found) == logs.SAME_TEMPLATE_BURST


def test_the_limiter_forgets_old_keys_rather_than_grow() -> None:
    limiter = RepeatLimiter(1)
    for n in range(logs.KEYS_MAX + 1):
        limiter.admit(n, 0.0)
    assert limiter.admit(0, 0.0) == (True, 0), "the oldest key was not forgotten"
    assert limiter.admit(logs.KEYS_MAX, 0.0) == (False, 0)


@pytest.mark.slow
def test_a_blocked_stderr_does_not_block_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "SAME_TEMPLATE_BURST", 1 << 30)
    reading, writing = os.pipe()
    log = ProcessLog("info", "text", writing)
    n = 0
    while log.dropped_total == 0:
        n += 1
        logger.info("line %d", n)
    os.read(reading, 1 << 20)
    wait_until(lambda: os.read(reading, 1 << 20))
    log.close()
    os.close(reading)
    os.close(writing)


def test_closing_puts_the_logging_tree_back() -> None:
    root = logging.getLogger()
    before = (root.level, root.handlers[:])
    with process_log() as lines:
        assert root.handlers != before[1]
        lines()
    assert (root.level, root.handlers) == before


def test_failures_are_counted_also_where_they_are_not_logged_again() -> None:
    reading, writing = os.pipe()
    log = ProcessLog("info", "text", writing)
    logger.error("foreseen")
    for _ in range(2 * logs.SAME_MESSAGE_BURST):
        try:
            raise ValueError("once more")
        except ValueError:
            logger.exception("not foreseen")
    assert log.failures_total == 2 * logs.SAME_MESSAGE_BURST
    log.close()
    os.close(reading)
    os.close(writing)
