"""Each timeout of a session ends it for a reason of its own, which counters and both forms of the access log tell."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from l4lb.config.model import Timeouts
from tests.conftest import MakeScene
from tests.helpers.peers import Backend, Peer
from tests.helpers.waiting import wait_until

QUESTION = b"q" * 100
ANSWER = b"a" * 100

TCPLOG_CODE = re.compile(r" (\S\S) 0/0/0/0/0 0/0$")

Script = Callable[[Peer, Peer], None]


def silence(client: Peer, server: Peer) -> None:
    pass


def ask(client: Peer, server: Peer) -> None:
    client.send(QUESTION)
    assert server.receive(len(QUESTION)) == QUESTION


def ask_and_answer(client: Peer, server: Peer) -> None:
    ask(client, server)
    server.send(ANSWER)
    assert client.receive(len(ANSWER)) == ANSWER


def ask_and_read_nothing(client: Peer, server: Peer) -> None:
    ask(client, server)
    server.fill(1, quiet=0.1)


def client_finishes(client: Peer, server: Peer) -> None:
    client.finish()


def backend_finishes(client: Peer, server: Peer) -> None:
    server.finish()


CASES: list[tuple[str, str, Script, str]] = [
    ("idle", "300ms", silence, "cD"),
    ("idle", "300ms", ask, "sD"),
    ("half_close", "300ms", backend_finishes, "cD"),
    ("half_close", "300ms", client_finishes, "sD"),
    ("first_byte", "300ms", silence, "cD"),
    ("first_byte", "300ms", ask, "sD"),
    ("response", "300ms", ask, "sD"),
    ("stream_gap", "800ms", ask_and_read_nothing, "cD"),
    # Shorter than the patience with a first piece: later, silence would be the end of the answer.
    ("stream_gap", "100ms", ask_and_answer, "sD"),
    ("keepalive", "600ms", ask_and_answer, "cD"),
    ("lifetime", "300ms", silence, "LD"),
]


@pytest.fixture
def small_backend() -> Iterator[Backend]:
    with Backend(receive_buffer=8192) as backend:
        yield backend


@pytest.mark.parametrize("form", ["json", "tcplog"])
@pytest.mark.parametrize(
    ("timeout", "after", "script", "code"), CASES, ids=[f"{code}-{timeout}" for timeout, _, _, code in CASES]
)
def test_timeout_has_a_reason_of_its_own_in_the_log(
    balance: MakeScene, small_backend: Backend, timeout: str, after: str, script: Script, code: str, form: str
) -> None:
    scene = balance(
        small_backend,
        pool={"timeouts": {"idle": "1m", "half_close": "1m"} | {timeout: after}},
        log={"access": {"format": form}},
    )
    client, server = scene.pair(small_backend, receive_buffer=8192)
    script(client, server)
    scene.wait_closed(f"{code} {timeout}")
    if form == "json":
        (line,) = scene.access()
        assert (line["code"], line["reason"], line["backend"]) == (code, timeout, "b0")
    else:
        (text,) = wait_until(lambda: [line for line in scene.lb.access_lines() if f" {scene.listener} " in line])
        match = TCPLOG_CODE.search(text)
        assert match is not None, text
        assert match[1] == code


def test_every_timeout_of_a_session_is_tried() -> None:
    """`connect`, `hello` and `backend_keepalive` end attempts, waits and backend connections, not sessions."""
    assert {timeout for timeout, *_ in CASES} == set(Timeouts.model_fields) - {"connect", "hello", "backend_keepalive"}
