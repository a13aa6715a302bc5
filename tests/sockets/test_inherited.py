"""Sockets lent by a service manager or stored with it: matched by address, and left to their owner."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from l4lb.config import Address
from l4lb.sockets.bind import BindKey
from l4lb.sockets.fd_store import Store
from l4lb.sockets.inherited import Inherited
from l4lb.sockets.listeners import Sockets
from l4lb.sockets.systemd import Notifier
from tests.helpers.peers import connect, listen
from tests.sockets.opening import ANY_PORT, listener, listening_unix


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
