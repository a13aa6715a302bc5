"""What the servers of all protocols share: the response that a request asks for, and the record of a request."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from bench.turns.rows import Question

NAME_HEADER = "x-turn"
"""The name that a client gives its request."""
STOP_SECONDS = 2


@dataclass(slots=True)
class Truth:
    """A request as the server saw it: times of the monotonic clock, which all processes share."""

    name: str
    begun: float
    ended: float


@dataclass(frozen=True, slots=True)
class Certificate:
    """Paths of PEM files."""

    chain: Path
    key: Path
    authority: Path


def question_of(body: bytes) -> Question:
    """The question in a request's body: JSON on its first line; the prompt follows."""
    return Question(**json.loads(body.partition(b"\n")[0]))


def token_event(rng: random.Random, *, last: bool) -> bytes:
    """A chunk of a completion, as vLLM words it; its length differs with the token, as in any answer of one model."""
    choice = {
        "index": 0,
        "text": " " + "x" * rng.choice((1, 2, 2, 3, 3, 3, 4, 4, 5, 6, 7, 9)),
        "logprobs": None,
        "finish_reason": "stop" if last else None,
        "stop_reason": None,
    }
    chunk = {
        "id": "cmpl-0123456789abcdef0123456789abcdef",
        "object": "text_completion",
        "created": 1700000000,
        "model": "meta-llama/Llama-3.1-8B-Instruct",
        "choices": [choice],
        "usage": None,
    }
    return b"data: %s\n\n" % json.dumps(chunk, separators=(",", ":")).encode()


async def pieces_of(question: Question, rng: random.Random, *, waited: bool = False) -> AsyncIterator[bytes]:
    """The answer, each piece when it is due; `waited` says that the first one is due at once."""
    for number, wait in enumerate(question.waits(rng)):
        if not (waited and number == 0):
            await asyncio.sleep(wait)
        if question.piece_bytes is None:
            yield token_event(rng, last=number == question.pieces - 1)
        else:
            yield bytes(question.piece_bytes)
