"""Sockets of listeners: opened together or not at all, never shared with another program, files handled with care."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from l4lb.config import Address
from l4lb.config.model import Listener
from l4lb.errors import StartError
from l4lb.sockets.bind import Bind, BindKey, bind_key
from l4lb.sockets.fd_store import Store
from l4lb.sockets.inherited import Inherited
from l4lb.sockets.listeners import Sockets
from l4lb.sockets.systemd import Notifier
from tests.helpers.balancer import parse_address
from tests.helpers.peers import connect, listen
from tests.helpers.tcp import TcpOptions, tcp_options

ANY_PORT = "127.0.0.1:0"


def listener(*bind: str, **values: object) -> Listener:
    return Listener.model_validate({"bind": list(bind), "pool": "app"} | values)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    sockets = Sockets(workers=2)
    yield sockets
    sockets.close(list(sockets.binds))


@pytest.fixture
def free_port() -> int:
    """Free on every address."""
    with socket.socket(socket.AF_INET6) as probe:
        probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        probe.bind(("::", 0))
        port: int = probe.getsockname()[1]
        return port


def the_bind(sockets: Sockets, address: str, name: str = "web") -> Bind:
    return sockets.binds[bind_key(name, Address.parse(address))]


def shown_port(bind: Bind) -> int:
    return int(bind.shown.rpartition(":")[2])


def listening_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(Address(path=path).unix_name)
    sock.listen()
    return sock


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


def test_a_lent_socket_is_known_by_its_address_and_stays_with_its_owner() -> None:
    with listen() as given, listen() as stranger:
        address = f"127.0.0.1:{given.getsockname()[1]}"
        inherited = Inherited(from_unit=[stranger, given])
        sockets = Sockets(1, inherited)
        for _ in range(2):
            (key,) = sockets.open_missing({"web": listener(address)})
            (taken,) = sockets.binds[key].sockets
            assert taken.getsockname() == given.getsockname()
            assert not taken.getblocking()
            assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            sockets.close([key])
            connect(given.getsockname()).close()
        inherited.close()
        assert stranger.fileno() == given.fileno() == -1


@pytest.mark.parametrize("name", ["@l4lb-inherited", "file"])
def test_an_inherited_unix_socket_is_taken_over(name: str, tmp_path: Path) -> None:
    path = name if name.startswith("@") else str(tmp_path / name)
    given = listening_unix(path)
    address = Address(path=path)
    sockets = Sockets(2, Inherited(named={("", address): [given]}))
    (key,) = sockets.open_missing({"web": listener(str(address))})
    assert sockets.fds()[key] == [[given.fileno()] * 2]
    connect(address.unix_name).close()
    sockets.close([key])
    assert not os.path.exists(path)


def test_the_file_of_a_lent_unix_socket_stays(tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    with listening_unix(path) as given:
        sockets = Sockets(2, Inherited(from_unit=[given]))
        sockets.close(sockets.open_missing({"web": listener(f"unix:{path}")}))
        connect(path).close()


def test_an_inherited_unix_socket_without_its_file_is_opened_anew(
    sockets: Sockets, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    address = Address(path=str(tmp_path / "file"))
    given = listening_unix(str(address.path))
    os.unlink(str(address.path))
    sockets.inherited.named["", address] = [given]
    sockets.open_missing({"web": listener(str(address))})
    assert given.fileno() == -1
    connect(address.unix_name).close()
    assert "is gone" in caplog.text


def listening_any(port: int, *, v6only: bool = False) -> socket.socket:
    sock = socket.socket(socket.AF_INET6)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(v6only))
    sock.bind(("::", port))
    sock.listen()
    return sock


def test_a_lent_socket_of_both_families_does_for_all_ipv4_addresses(free_port: int) -> None:
    with listening_any(free_port) as given:
        sockets = Sockets(1, Inherited(from_unit=[given]))
        (key,) = sockets.open_missing({"web": listener(f"*:{free_port}")})
        assert sockets.binds[key].shown == f"[::]:{free_port}"
        sockets.close([key])


def test_a_lent_socket_of_both_families_is_for_ipv6_where_both_are_configured(free_port: int) -> None:
    with listening_any(free_port) as given:
        inherited = Inherited(from_unit=[given])
        address, both = Address.parse(f"*:{free_port}"), Address.parse(f"[::]:{free_port}")
        assert inherited.take_over(("", address), {address, both}) is None
        taken = inherited.take_over(("", both), {address, both})
        assert taken is not None
        taken.close()


def test_a_lent_socket_of_ipv6_alone_does_not_do_for_ipv4(free_port: int) -> None:
    with listening_any(free_port, v6only=True) as given:
        assert Inherited(from_unit=[given]).take_over(("", Address.parse(f"*:{free_port}"))) is None


def test_sockets_left_over_are_logged_and_only_our_own_are_closed(caplog: pytest.LogCaptureFixture) -> None:
    with listen() as left, listen() as lent, listen() as used:
        left_at, lent_at, used_at = (Address.parse("{}:{}".format(*sock.getsockname())) for sock in (left, lent, used))
        inherited = Inherited(named={("", left_at): [left]}, from_unit=[lent, used])
        assert set(inherited.addresses()) == {left_at, lent_at, used_at}
        taken = inherited.take_over(("", used_at))
        inherited.close_unclaimed()
        assert left.fileno() == -1
        assert lent.fileno() != -1
        assert taken is not None
        taken.close()
    assert caplog.messages == [
        f"no listener uses the inherited socket of {left_at}; closing it",
        f"no listener uses {lent_at}, where a socket unit listens, so clients wait there in vain; "
        "add a listener, or remove the address from the unit",
    ]


def test_an_address_within_one_that_is_only_inherited_can_be_bound(sockets: Sockets, free_port: int) -> None:
    with socket.socket() as wide:
        wide.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        wide.bind(("0.0.0.0", free_port))
        wide.listen()
        sockets.inherited.named["", Address.parse(f"*:{free_port}")] = [wide]
        sockets.open_missing({"web": listener(f"127.0.0.1:{free_port}")})


class Kept(Store):
    """A store that notes what it is told."""

    def __init__(self, *stored: BindKey) -> None:
        super().__init__(Notifier({}), room=100, stored=stored)
        self.kept: dict[BindKey, list[socket.socket]] = {}

    def keep(self, binds: Mapping[BindKey, Sequence[socket.socket]]) -> None:
        self.kept = {key: list(group) for key, group in binds.items()}

    def forget(self, key: BindKey) -> None:
        self.kept.pop(key, None)


def test_listeners_that_run_are_kept_and_lent_ones_are_not() -> None:
    with listen() as given:
        store = Kept()
        sockets = Sockets(2, Inherited(from_unit=[given]), store)
        listeners = {"web": listener(ANY_PORT, "{}:{}".format(*given.getsockname()))}
        own, lent = sockets.open_missing(listeners)
        assert store.kept == {}
        sockets.apply_settings(listeners)
        assert store.kept == {own: sockets.binds[own].sockets}
        sockets.close([own, lent])
        assert store.kept == {}


def test_a_socket_that_stays_open_elsewhere_keeps_its_queue(free_port: int) -> None:
    kept = ("", Address.parse(f"127.0.0.1:{free_port}"))
    with listen() as given, listen(port=free_port) as stored:
        sockets = Sockets(1, Inherited(named={kept: [stored]}, from_unit=[given]), Kept(kept))
        opened = sockets.open_missing({"web": listener(str(kept[1]), "{}:{}".format(*given.getsockname()))})
        sockets.shrink_queues(opened)
        for address in (given.getsockname(), stored.getsockname()):
            with contextlib.ExitStack() as stack:
                # With an empty backlog, the third would wait for an answer.
                for _ in range(5):
                    stack.enter_context(connect(address))
        sockets.close(opened)


def test_the_file_of_a_unix_socket_stays_as_long_as_it_is_stored(tmp_path: Path) -> None:
    address = Address(path=str(tmp_path / "file"))
    with listening_unix(str(address.path)) as stored:
        sockets = Sockets(1, Inherited(named={("", address): [stored.dup()]}), Kept(("", address)))
        sockets.close(sockets.open_missing({"web": listener(str(address))}))
        connect(address.unix_name).close()


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


# ---- unix sockets ----------------------------------------------------------------------------------------------------


def test_unix_socket_is_shared_by_the_workers_and_open_to_all_users(sockets: Sockets, tmp_path: Path) -> None:
    path = str(tmp_path / "web.sock")
    (key,) = sockets.open_missing({"web": listener(f"unix:{path}")})
    ((first, second),) = sockets.fds()[key]
    assert first == second
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o666
    assert sockets.binds[key].shown == f"unix:{path}"
    connect(path).close()


def test_unix_socket_file_goes_with_its_socket(sockets: Sockets, tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    sockets.close(sockets.open_missing({"web": listener(f"unix:{path}")}))
    assert not path.exists()


def test_dead_unix_socket_is_replaced(sockets: Sockets, tmp_path: Path) -> None:
    path = str(tmp_path / "web.sock")
    listen(path=path).close()
    assert os.path.exists(path)
    sockets.open_missing({"web": listener(f"unix:{path}")})
    connect(path).close()


def test_live_unix_socket_is_left_alone(sockets: Sockets, tmp_path: Path) -> None:
    path = str(tmp_path / "web.sock")
    with listen(path=path):
        with pytest.raises(StartError, match=f"listeners.web: cannot bind unix:{path}: Address already in use"):
            sockets.open_missing({"web": listener(f"unix:{path}")})
        connect(path).close()


def test_a_file_that_is_not_a_socket_is_left_alone(sockets: Sockets, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(StartError, match="a file that is not a socket is there"):
        sockets.open_missing({"web": listener(f"unix:{path}")})
    assert path.read_text() == "data"


def test_a_file_of_another_process_is_not_removed(sockets: Sockets, tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    keys = sockets.open_missing({"web": listener(f"unix:{path}")})
    path.unlink()
    with listen(path=str(path)):
        sockets.close(keys)
        connect(str(path)).close()


def test_directory_that_is_missing_is_an_error_with_advice(sockets: Sockets, tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"No such file or directory; create its directory"):
        sockets.open_missing({"web": listener(f"unix:{tmp_path}/missing/web.sock")})


def test_abstract_unix_socket_has_no_file(sockets: Sockets) -> None:
    name = f"@l4lb-test-{uuid.uuid4()}"
    sockets.open_missing({"web": listener(f"unix:{name}")})
    connect("\0" + name[1:]).close()
    assert not os.path.exists(name)


def test_failed_reload_leaves_no_unix_socket_behind(sockets: Sockets, tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    with pytest.raises(StartError):
        sockets.open_missing({"web": listener(f"unix:{path}", "192.0.2.1:80")})
    assert not path.exists()
