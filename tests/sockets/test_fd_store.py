"""What is left with the service manager: every bind once, no more than fits, and nothing after it was released."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

import pytest

from l4lb.config import Address
from l4lb.sockets import fd_store
from l4lb.sockets.fd_store import BindKey, Store, key_of, name_of
from l4lb.sockets.systemd import Notifier
from tests.helpers.peers import listen

FIXED: BindKey = ("", Address.parse("0.0.0.0:8000"))
CHOSEN: BindKey = ("we:b", Address.parse("[::1]:0"))
UNIX: BindKey = ("", Address.parse("unix:/run/app, of mine:ä.sock"))


class Manager(Notifier):
    """Keeps what it is given, as systemd does, and notes what it is told."""

    def __init__(self) -> None:
        super().__init__({})
        self.kept: dict[str, list[int]] = {}
        self.said: list[tuple[str, str, int]] = []
        self.works = True

    def store(self, name: str, fds: object) -> bool:
        assert isinstance(fds, list)
        if self.works:
            self.said.append(("store", name, len(fds)))
            known = self.kept.setdefault(name, [])
            known += [ino for fd in fds if (ino := os.fstat(fd).st_ino) not in known]
        return self.works

    def remove_stored(self, name: str) -> bool:
        if self.works:
            self.said.append(("remove", name, 0))
            self.kept.pop(name, None)
        return self.works


@pytest.fixture
def manager() -> Manager:
    return Manager()


@contextlib.contextmanager
def group(number: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(listen()) for _ in range(number)]


def inodes(sockets: list[socket.socket]) -> list[int]:
    return [os.fstat(sock.fileno()).st_ino for sock in sockets]


@pytest.mark.parametrize("key", [FIXED, CHOSEN, UNIX, ("", Address.parse("unix:@abstract"))])
def test_a_name_is_one_that_systemd_takes_and_leads_back(key: BindKey) -> None:
    name = name_of(key)
    assert name.isascii()
    assert name.isprintable()
    assert ":" not in name
    assert key_of(name) == key


@pytest.mark.parametrize("name", ["", "stored", "l4lb.socket", "l4lb,", "l4lb,web", "l4lb,,nonsense"])
def test_other_names_lead_nowhere(name: str) -> None:
    assert key_of(name) is None


def test_what_runs_is_kept_once(manager: Manager) -> None:
    store = Store(manager, 10)
    with group(2) as fixed, group(2) as chosen:
        for _ in range(3):
            store.keep({FIXED: fixed})
        assert manager.said == [("store", name_of(FIXED), 2)]
        store.keep({FIXED: fixed, CHOSEN: chosen})
        assert manager.kept == {name_of(FIXED): inodes(fixed), name_of(CHOSEN): inodes(chosen)}
        store.keep({CHOSEN: chosen})
        assert manager.kept == {name_of(CHOSEN): inodes(chosen)}
        assert not store.stays(CHOSEN)


def test_what_closes_is_forgotten(manager: Manager) -> None:
    store = Store(manager, 10)
    with group(1) as fixed:
        store.keep({FIXED: fixed})
        store.forget(FIXED)
        store.forget(CHOSEN)
    assert manager.kept == {}
    assert manager.said == [("store", name_of(FIXED), 1), ("remove", name_of(FIXED), 0)]


def test_what_a_predecessor_left_stays_until_it_is_known_what_runs(manager: Manager) -> None:
    store = Store(manager, 10, [FIXED, CHOSEN])
    store.forget(FIXED)
    assert store.stays(FIXED)
    assert manager.said == []
    with group(1) as fixed:
        store.keep({FIXED: fixed})
    assert manager.said == [("remove", name_of(CHOSEN), 0), ("store", name_of(FIXED), 1)]


def test_nothing_is_changed_once_it_is_released(manager: Manager) -> None:
    store = Store(manager, 10)
    with group(1) as fixed:
        store.keep({FIXED: fixed})
        store.release()
        store.forget(FIXED)
        store.keep({})
    assert len(manager.said) == 1
    assert store.stays(FIXED)


def test_without_a_store_nothing_is_said_or_held(manager: Manager) -> None:
    store = Store(manager, 0, [FIXED])
    with group(1) as fixed:
        store.keep({FIXED: fixed})
    store.forget(FIXED)
    assert manager.said == []
    assert not store.stays(FIXED)


def test_more_descriptors_than_one_message_takes_come_in_several(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fd_store, "CHUNK", 2)
    with group(5) as fixed:
        Store(manager, 10).keep({FIXED: fixed})
        assert manager.kept == {name_of(FIXED): inodes(fixed)}
    assert [count for _, _, count in manager.said] == [2, 2, 1]


def test_a_full_store_is_said_once_and_takes_what_fits(manager: Manager, caplog: pytest.LogCaptureFixture) -> None:
    store = Store(manager, 3)
    with group(2) as fixed, group(2) as chosen, group(1) as unix:
        for _ in range(2):
            store.keep({FIXED: fixed, CHOSEN: chosen, UNIX: unix})
        assert manager.kept.keys() == {name_of(FIXED), name_of(UNIX)}
        store.forget(FIXED)
        store.keep({CHOSEN: chosen, UNIX: unix})
        assert manager.kept.keys() == {name_of(CHOSEN), name_of(UNIX)}
    assert caplog.messages == [
        "the service manager's store has room for 3 sockets, but not for those of [::1]:0; raise "
        "FileDescriptorStoreMax= and FDSTORE= in the unit; if this process dies, clients may be refused until it is "
        "replaced"
    ]


def test_a_name_that_is_too_long_is_not_stored(manager: Manager, caplog: pytest.LogCaptureFixture) -> None:
    with group(1) as unix:
        Store(manager, 10).keep({("", Address(path="/" + "ä" * 50)): unix})
    assert manager.said == []
    assert len(caplog.messages) == 1


def test_a_manager_that_did_not_listen_is_told_again(manager: Manager, caplog: pytest.LogCaptureFixture) -> None:
    store = Store(manager, 10)
    with group(1) as fixed:
        manager.works = False
        store.keep({FIXED: fixed})
        manager.works = True
        store.keep({FIXED: fixed})
        assert manager.kept.keys() == {name_of(FIXED)}
        manager.works = False
        store.forget(FIXED)
        manager.works = True
        store.keep({})
    assert manager.kept == {}
    assert len(caplog.messages) == 1
