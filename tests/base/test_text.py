"""Messages that have text of others in them can be shown anywhere."""

from __future__ import annotations

import errno
import functools

import pytest

from l4lb.base.text import MESSAGE_MAX, QUOTED_MAX, clipped, quoted, reason


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("it fails", "it fails"),
        ("a\nb\tc\r\x00", r"a\nb\tc\r\x00"),
        ("\x1b[2J\x9b31m", r"\x1b[2J\x9b31m"),
        ("\u202e\u2028\ud800", r"\u202e\u2028\ud800"),
        ("größer 😀", "größer 😀"),
    ],
)
def test_control_characters_are_escaped(text: str, shown: str) -> None:
    assert clipped(text) == shown


@pytest.mark.parametrize("text", ["a" * 10**7, "\x00" * 10**7, "\U0001f600" * MESSAGE_MAX + "x"])
def test_long_messages_are_cut(text: str) -> None:
    assert len(clipped(text)) <= MESSAGE_MAX
    assert clipped(text).endswith("…")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "connect to 10.0.0.1"), "Connection refused"),
        (TimeoutError("no answer within 1s"), "no answer within 1s"),
        (ValueError("x" * 5000), "x" * (MESSAGE_MAX - 1) + "…"),
        (ValueError("\x1b"), r"\x1b"),
        (EOFError(), "EOFError"),
    ],
)
def test_why_something_failed_is_said_in_short(error: Exception, message: str) -> None:
    assert reason(error) == message


def test_quoted_values_fit_on_one_line() -> None:
    assert quoted("plain") == "'plain'"
    assert quoted(5) == "'5'"
    assert quoted("a\nb") == r"'a\nb'"
    assert len(quoted("x" * 1000)) < 70


@pytest.mark.parametrize(
    ("value", "begins"),
    [
        ("a" * 10**6, "'aaa"),
        ("\x00" * 10**6, "'\\x00"),
        ("\x1b[2J\n", "'\\x1b[2J\\n'"),
        ([0] * 10**6, "'[0, 0"),
        (dict.fromkeys(range(10**5), 0), "'{0: 0, 1: 0"),
        (b"\xff" * 10**6, r"'\xff"),
        (10**5000, "'a very large number'"),
        (functools.reduce(lambda inner, _: [inner], range(10**4), []), "'[[["),
    ],
    ids=["text", "unprintable", "escapes", "list", "mapping", "bytes", "number", "deep"],
)
def test_what_is_quoted_is_short_and_printable_whatever_it_is(value: object, begins: str) -> None:
    shown = quoted(value)
    assert shown.startswith(begins)
    assert shown.isprintable()
    assert len(shown) <= 2 * QUOTED_MAX + 3
