"""What a service manager passes on: used, or refused with a sentence."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from l4lb.config import Address
from l4lb.sockets.fd_store import name_of
from l4lb.sockets.inherited import Inherited, shown
from l4lb.sockets.listen_fds import receive
from tests.helpers.peers import listen

FIRST = 700
"""Where no other descriptor of the tests is."""


def passed(count: int, names: str | None = None, pid: int | str | None = None) -> dict[str, str]:
    environment = {"PATH": "/bin", "LISTEN_FDS": str(count), "LISTEN_PID": str(os.getpid() if pid is None else pid)}
    return environment if names is None else environment | {"LISTEN_FDNAMES": names}


class Given:
    """Puts descriptors where a service manager would."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, sock: socket.socket | int) -> None:
        fd = sock if isinstance(sock, int) else sock.fileno()
        os.dup2(fd, FIRST + self.count, inheritable=True)
        self.count += 1


@pytest.fixture
def give() -> Iterator[Given]:
    give = Given()
    yield give
    for fd in range(FIRST, FIRST + give.count):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.close(fd)


def test_sockets_are_known_by_their_address_or_by_the_name_they_were_stored_under(give: Given) -> None:
    key = ("web", Address.parse("127.0.0.1:0"))
    environment = passed(3, f"l4lb.socket:{name_of(key)}:{name_of(key)}")
    with listen() as lent, listen() as one, listen() as other:
        for sock in (lent, one, other):
            give(sock)
        inherited = receive(environment, FIRST)
        assert [shown(sock) for sock in inherited.from_unit] == [shown(lent)]
        assert [shown(sock) for sock in inherited.named[key]] == [shown(one), shown(other)]
        assert not any(os.get_inheritable(FIRST + index) for index in range(3))
        inherited.close()
    assert environment == {"PATH": "/bin"}


def test_a_socket_that_is_both_lent_and_stored_is_the_lender_s(give: Given) -> None:
    with listen() as sock:
        give(sock)
        give(sock)
        inherited = receive(passed(2, f"{name_of(('', Address.parse('127.0.0.1:80')))}:l4lb.socket"), FIRST)
        assert (len(inherited.from_unit), inherited.named) == (1, {})
        inherited.close()


@pytest.mark.parametrize("names", [None, "", "one", "one:two:three:four"])
def test_names_may_be_missing(give: Given, names: str | None) -> None:
    with listen() as one, listen() as other:
        give(one)
        give(other)
        inherited = receive(passed(2, names), FIRST)
        assert len(inherited.from_unit) == 2
        inherited.close()


@pytest.mark.parametrize("environment", [{}, passed(1, pid=1), passed(1, pid=""), {"LISTEN_FDS": "1"}, passed(0)])
def test_descriptors_for_another_process_are_left_alone(environment: dict[str, str]) -> None:
    with listen() as sock:
        os.dup2(sock.fileno(), FIRST)
        assert len(receive(environment, FIRST)) == 0
        os.close(FIRST)
    assert not any(name.startswith("LISTEN") for name in environment)


def test_a_count_that_is_no_number_means_none() -> None:
    assert len(receive({"LISTEN_FDS": "-1", "LISTEN_PID": str(os.getpid())}, FIRST)) == 0


def datagram(_: Path) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock


def sequential(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.bind(str(path / "sequential"))
    sock.listen()
    return sock


def connected(_: Path) -> socket.socket:
    with listen() as sock:
        return socket.create_connection(sock.getsockname())


def netlink(_: Path) -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (datagram, "is not a stream socket; use ListenStream="),
        (sequential, "is not a stream socket; use ListenStream="),
        (connected, "does not listen; use Accept=no"),
        (netlink, "is neither TCP nor unix; use ListenStream="),
    ],
)
def test_a_socket_of_no_use_is_closed_and_said(
    give: Given,
    make: Callable[[Path], socket.socket],
    problem: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with make(tmp_path) as sock, listen() as good:
        where = "" if sock.family is socket.AF_NETLINK else f" of {shown(sock)}"
        give(sock)
        give(good)
        inherited = receive(passed(2, "odd:good"), FIRST)
        assert [shown(sock) for sock in inherited.from_unit] == [shown(good)]
        inherited.close()
    assert caplog.messages == [
        f"descriptor {FIRST} (odd) from the service manager is not used: the socket{where} {problem}"
    ]


def test_a_descriptor_that_is_no_socket_is_closed_and_said(give: Given, caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = os.pipe()
    give(reader)
    os.close(reader)
    os.close(writer)
    assert receive(passed(1, "pipe"), FIRST) == Inherited()
    assert caplog.messages == [f"descriptor {FIRST} (pipe) from the service manager is not a socket"]


def test_a_descriptor_that_is_not_there_is_said(caplog: pytest.LogCaptureFixture) -> None:
    assert receive(passed(1, "nothing"), FIRST) == Inherited()
    assert caplog.messages == [f"descriptor {FIRST} (nothing) from the service manager is not a socket"]
