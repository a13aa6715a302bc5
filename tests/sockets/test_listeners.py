"""Sockets of listeners: opened together or not at all, and never shared with another program."""

from __future__ import annotations

import contextlib
import select
import socket
from pathlib import Path

import pytest

from l4lb.config import Address
from l4lb.errors import StartError
from l4lb.sockets.bind import bind_key
from l4lb.sockets.inherited import Inherited
from l4lb.sockets.listeners import Sockets
from tests.helpers.balancer import parse_address
from tests.helpers.peers import connect, listen
from tests.helpers.tcp import TcpOptions, tcp_options
from tests.sockets.opening import ANY_PORT, listener, open_descriptors, shown_port, the_bind


def test_every_worker_has_a_socket_of_the_same_port(sockets: Sockets) -> None:
    (key,) = sockets.open_missing({"web": listener(ANY_PORT)})
    bind = sockets.binds[key]
    names = {sock.getsockname() for sock in bind.sockets}
    assert len(bind.sockets) == 2
    assert names == {("127.0.0.1", shown_port(bind))}
    assert sockets.fds() == {key: [[sock.fileno() for sock in bind.sockets]]}
    assert all(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) for sock in bind.sockets)
    assert all(not sock.getblocking() for sock in bind.sockets)


def test_port_zero_is_another_port_for_each_listener(sockets: Sockets) -> None:
    sockets.open_missing({"one": listener(ANY_PORT), "two": listener(ANY_PORT)})
    assert shown_port(the_bind(sockets, ANY_PORT, "one")) != shown_port(the_bind(sockets, ANY_PORT, "two"))


def test_what_is_open_stays_open(sockets: Sockets) -> None:
    listeners = {"web": listener(ANY_PORT)}
    sockets.open_missing(listeners)
    before = sockets.fds()
    assert sockets.open_missing(listeners) == []
    assert sockets.fds() == before


def test_fixed_address_keeps_its_sockets_when_another_listener_takes_it_over(sockets: Sockets, free_port: int) -> None:
    address = f"127.0.0.1:{free_port}"
    sockets.open_missing({"web": listener(address)})
    before = sockets.fds()
    assert sockets.open_missing({"other": listener(address)}) == []
    assert sockets.fds() == before


@pytest.mark.parametrize(
    ("given", "workers", "rows"),
    [
        (1, 3, [[0, 0, 0]]),
        (2, 3, [[0, 1, 0]]),
        (3, 2, [[0, 1], [2, 2]]),
        (5, 3, [[0, 1, 2], [3, 4, 3]]),
    ],
)
def test_sockets_taken_over_are_shared_out_among_workers(given: int, workers: int, rows: list[list[int]]) -> None:
    group = [listen() for _ in range(given)]
    key = bind_key("web", Address.parse(ANY_PORT))
    sockets = Sockets(workers, Inherited(named={key: list(group)}))
    assert sockets.open_missing({"web": listener(ANY_PORT)}) == [key]
    assert sockets.fds()[key] == [[group[index].fileno() for index in row] for row in rows]
    sockets.close([key])
    assert all(sock.fileno() == -1 for sock in group)


def test_second_bind_that_fails_takes_the_first_one_back(sockets: Sockets, free_port: int) -> None:
    with listen() as taken:
        busy = f"127.0.0.1:{taken.getsockname()[1]}"
        before = open_descriptors()
        with pytest.raises(StartError) as info:
            sockets.open_missing({"web": listener(f"127.0.0.1:{free_port}", busy)})
        assert sockets.binds == {}
        assert open_descriptors() == before
    assert str(info.value) == (
        f"listeners.web: cannot bind {busy}: Address already in use; stop what uses it, or choose another address"
    )
    with pytest.raises(ConnectionRefusedError):
        connect(("127.0.0.1", free_port))


def test_failure_leaves_what_was_open_before(sockets: Sockets) -> None:
    sockets.open_missing({"web": listener(ANY_PORT)})
    before = sockets.fds()
    with listen() as taken, pytest.raises(StartError):
        sockets.open_missing({"web": listener(ANY_PORT), "new": listener(f"127.0.0.1:{taken.getsockname()[1]}")})
    assert sockets.fds() == before


def test_port_of_another_process_is_refused_even_when_it_would_share(sockets: Sockets) -> None:
    with socket.socket() as foreign:
        foreign.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        foreign.bind(("127.0.0.1", 0))
        foreign.listen()
        with pytest.raises(StartError, match="Address already in use"):
            sockets.open_missing({"web": listener(f"127.0.0.1:{foreign.getsockname()[1]}")})


def test_same_port_of_another_address_is_looked_at_too(sockets: Sockets) -> None:
    with socket.socket() as foreign:
        foreign.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        foreign.bind(("127.0.0.2", 0))
        foreign.listen()
        port = foreign.getsockname()[1]
        with pytest.raises(StartError, match=f"cannot bind 127.0.0.2:{port}: Address already in use"):
            sockets.open_missing({"web": listener(f"127.0.0.1:{port}", f"127.0.0.2:{port}")})


def test_own_addresses_may_overlap(sockets: Sockets, free_port: int) -> None:
    for address in (f"127.0.0.1:{free_port}", f"0.0.0.0:{free_port}", f"127.0.0.2:{free_port}"):
        sockets.open_missing({"web": listener(address)})
    with connect(("127.0.0.2", free_port)):
        assert _accepted(the_bind(sockets, f"127.0.0.2:{free_port}").sockets) == 1


def test_port_whose_connections_linger_is_taken(sockets: Sockets) -> None:
    """After a restart the port is still in TIME_WAIT."""
    with listen() as before:
        port = before.getsockname()[1]
        with connect(("127.0.0.1", port)):
            accepted, _ = before.accept()
            accepted.close()
    sockets.open_missing({"web": listener(f"127.0.0.1:{port}")})


def test_address_of_another_host_is_refused_with_advice(sockets: Sockets) -> None:
    with pytest.raises(StartError, match=r"listeners\.web: cannot bind 192\.0\.2\.1:80.*use an address of this host"):
        sockets.open_missing({"web": listener("192.0.2.1:80")})


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_an_address_that_is_not_there_yet_can_be_bound_if_the_listener_says_so(sockets: Sockets, host: str) -> None:
    address = Address(host=host, port=8080)
    wanted = listener(str(address)).model_copy(update={"freebind": True})
    (key,) = sockets.open_missing({"web": wanted})
    bind = sockets.binds[key]
    assert bind.shown == str(address)
    assert len(bind.sockets) == sockets.workers
    sockets.close([key])
    with pytest.raises(StartError, match="set freebind: true for one that appears later"):
        sockets.open_missing({"web": listener(str(address))})


def test_closing_ends_listening(sockets: Sockets, free_port: int) -> None:
    keys = sockets.open_missing({"web": listener(f"127.0.0.1:{free_port}")})
    before = open_descriptors()
    sockets.close(keys)
    assert open_descriptors() == before - 2
    with pytest.raises(ConnectionRefusedError):
        connect(("127.0.0.1", free_port))


def test_backlog_follows_the_configuration() -> None:
    """Where the queue is too short, the kernel lets a client wait for ever."""
    sockets = Sockets(workers=1)
    sockets.open_missing({"web": listener(ANY_PORT, backlog=1)})
    try:
        port = shown_port(the_bind(sockets, ANY_PORT))
        sockets.apply_settings({"web": listener(ANY_PORT, backlog=64)})
        clients = [connect(("127.0.0.1", port)) for _ in range(32)]
        for client in clients:
            client.close()
    finally:
        sockets.close(list(sockets.binds))


def test_hardly_any_client_queues_at_a_socket_that_is_about_to_be_closed() -> None:
    """A client that finds the queue full gets no answer, and so cannot be reset."""
    sockets = Sockets(workers=1)
    (key,) = sockets.open_missing({"web": listener(ANY_PORT)})
    try:
        port = shown_port(the_bind(sockets, ANY_PORT))
        sockets.shrink_queues([key])
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(socket.socket()) for _ in range(8)]
            for client in clients:
                client.setblocking(False)
                client.connect_ex(("127.0.0.1", port))
            _, established, _ = select.select([], clients, [], 0.1)
            assert len(established) == 1
        sockets.apply_settings({"web": listener(ANY_PORT)})
        for _ in range(32):
            connect(("127.0.0.1", port)).close()
    finally:
        sockets.close(list(sockets.binds))


# ---- options of TCP --------------------------------------------------------------------------------------------------

WATCHFUL = {"tcp": {"keepalive": 7, "keepalive_interval": 3, "keepalive_probes": 2, "user_timeout": 1.5}}


def tcp_of_next_client(sockets: Sockets, address: str = ANY_PORT) -> TcpOptions:
    bind = the_bind(sockets, address)
    with connect(parse_address(bind.shown)):
        for sock in bind.sockets:
            with contextlib.suppress(BlockingIOError):
                accepted, _ = sock.accept()
                with accepted:
                    return tcp_options(accepted)
    raise AssertionError("no client to accept")


def test_accepted_clients_inherit_the_options_of_tcp(sockets: Sockets) -> None:
    sockets.open_missing({"web": listener(ANY_PORT, **WATCHFUL)})
    assert tcp_of_next_client(sockets) == TcpOptions(keepalive=(7, 3, 2), user_timeout_ms=1500)


def test_options_of_tcp_follow_the_configuration_and_can_be_taken_back(sockets: Sockets) -> None:
    sockets.open_missing({"web": listener(ANY_PORT)})
    assert tcp_of_next_client(sockets) == TcpOptions()
    sockets.apply_settings({"web": listener(ANY_PORT, **WATCHFUL)})
    assert tcp_of_next_client(sockets) == TcpOptions(keepalive=(7, 3, 2), user_timeout_ms=1500)
    sockets.apply_settings({"web": listener(ANY_PORT)})
    assert tcp_of_next_client(sockets) == TcpOptions()


def test_unix_sockets_have_no_options_of_tcp(sockets: Sockets, tmp_path: Path) -> None:
    path = str(tmp_path / "web.sock")
    watchful = {"web": listener(f"unix:{path}", **WATCHFUL)}
    (key,) = sockets.open_missing(watchful)
    sockets.apply_settings(watchful)
    (sock,) = sockets.binds[key].sockets
    assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    connect(path).close()


# ---- IPv6 ------------------------------------------------------------------------------------------------------------


def test_wildcard_of_ipv6_takes_ipv4_too(sockets: Sockets, free_port: int) -> None:
    sockets.open_missing({"web": listener(f"[::]:{free_port}")})
    for host in ("127.0.0.1", "::1"):
        connect((host, free_port)).close()


def test_wildcard_of_ipv6_leaves_ipv4_to_the_one_of_ipv4_while_that_is_there(sockets: Sockets, free_port: int) -> None:
    both = listener(f"[::]:{free_port}", f"0.0.0.0:{free_port}")
    sockets.open_missing({"web": both})
    six = the_bind(sockets, f"[::]:{free_port}").sockets
    four = the_bind(sockets, f"0.0.0.0:{free_port}").sockets
    for host, expected in (("127.0.0.1", four), ("::1", six)):
        for _ in range(16):
            with connect((host, free_port)):
                assert _accepted(expected) == 1
    sockets.close([bind_key("web", Address.parse(f"0.0.0.0:{free_port}"))])
    for host in ("127.0.0.1", "::1"):
        with connect((host, free_port)):
            assert _accepted(six) == 1


def test_single_ipv6_address_takes_no_ipv4(sockets: Sockets, free_port: int) -> None:
    sockets.open_missing({"web": listener(f"[::1]:{free_port}")})
    connect(("::1", free_port)).close()
    with pytest.raises(ConnectionRefusedError):
        connect(("127.0.0.1", free_port))


def _accepted(listening: list[socket.socket]) -> int:
    number = 0
    for sock in listening:
        try:
            accepted, _ = sock.accept()
        except BlockingIOError:
            continue
        accepted.close()
        number += 1
    return number
