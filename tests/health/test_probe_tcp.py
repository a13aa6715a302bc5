"""TCP checks: the connection is all they ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from l4lb.health.probes import failure, success
from tests.health.probing import NO_ANSWER, SHORT, address_of, check
from tests.helpers.peers import Address, Backend, End, blackhole, refused


def test_tcp_connects(place: dict[str, Any]) -> None:
    with Backend(**place) as backend:
        assert check(address_of(backend)) == success("connected")


def test_tcp_check_ends_as_a_client_does_that_has_nothing_to_say(place: dict[str, Any]) -> None:
    """A server logs resets; and sockets in TIME_WAIT would fill tables of the kernel."""
    with Backend(**place) as backend:
        address = address_of(backend)
        before = waiting_sockets(address)
        check(address)
        with backend.accept() as peer:
            assert peer.ended() is End.FIN
            assert waiting_sockets(address) <= before


def waiting_sockets(address: Address) -> set[str]:
    """Connections of clients to this port that are in TIME_WAIT."""
    if isinstance(address, str):
        return set()
    lines = [line.split() for path in ("tcp", "tcp6") for line in Path("/proc/net", path).read_text().splitlines()[1:]]
    return {line[1] for line in lines if line[3] == "06" and int(line[2].rpartition(":")[2], 16) == address[1]}


def test_tcp_refused() -> None:
    with refused() as address:
        assert check(address) == failure("Connection refused")


def test_tcp_no_answer() -> None:
    with blackhole() as address:
        assert check(address, timeout=SHORT) == NO_ANSWER


def test_tcp_unix_socket_that_is_not_there(tmp_path: Path) -> None:
    assert check(str(tmp_path / "gone")) == failure("No such file or directory")
