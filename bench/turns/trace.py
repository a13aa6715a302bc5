"""Traces: what passed a relay, with the requests that there were, as text that tests replay.

A line is `MICROSECONDS CONNECTION EVENT`, in the order of time, where EVENT is `> BYTES` for a piece of the client,
`< BYTES` for one of the server, `+` when the server began a request, and `-` when it had handed all of the answer to
the kernel. Connections are numbered from 0. Lines that begin with `#` are comments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench.turns.relay import Conversation
from bench.turns.truth import Interval


def write(
    path: Path,
    comments: Sequence[str],
    conversations: Sequence[Conversation],
    by_port: Mapping[int | None, Sequence[Interval]],
) -> None:
    """Requests whose connection is unknown belong to the only one that there is."""
    found = sorted(
        (at, number, event)
        for number, conversation in enumerate(conversations)
        for at, event in _events(conversation, _requests(conversation, conversations, by_port))
    )
    start = found[0][0]
    lines = [f"# {comment}" for comment in comments]
    lines += [f"{round((at - start) * 1e6)} {number} {event}" for at, number, event in found]
    path.write_text("\n".join(lines) + "\n")


def _requests(
    conversation: Conversation, conversations: Sequence[Conversation], by_port: Mapping[int | None, Sequence[Interval]]
) -> Sequence[Interval]:
    port = None if len(conversations) == 1 and None in by_port else conversation.port
    return by_port.get(port, ())


def _events(conversation: Conversation, requests: Sequence[Interval]) -> Iterator[tuple[float, str]]:
    for piece in conversation.pieces:
        yield piece.at, f"{'>' if piece.by_client else '<'} {piece.size}"
    for request in requests:
        yield request.begun, "+"
        yield request.ended, "-"
