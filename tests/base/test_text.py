"""Messages that have text of others in them can be shown anywhere."""

from __future__ import annotations

import errno

import pytest

from l4lb.base.text import MESSAGE_MAX, clipped, reason


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
