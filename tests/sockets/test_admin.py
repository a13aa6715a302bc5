"""The admin socket is never world-connectable, never takes another's place, and every failure says what to do."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from l4lb.config import Address
from l4lb.errors import StartError
from l4lb.sockets import admin as sockets


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_the_socket_has_mode_0660_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    path = str(tmp_path / "admin.sock")
    before = os.umask(umask)
    try:
        sock = sockets.listen_unix(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
    sock.close()


def test_the_umask_of_the_process_is_not_touched_and_nobody_else_gets_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "admin.sock")
    modes: list[int] = []
    chmod = os.chmod

    def looked_at(path: str, mode: int) -> None:
        modes.append(stat.S_IMODE(os.stat(path).st_mode))
        chmod(path, mode)

    before = os.umask(0)
    monkeypatch.setattr(os, "umask", None)
    monkeypatch.setattr(os, "chmod", looked_at)
    try:
        sockets.listen_unix(path).close()
    finally:
        monkeypatch.undo()
        os.umask(before)
    assert modes == [0o660], "between bind and chmod"


def test_a_dead_socket_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "admin.sock")
    sockets.listen_unix(path).close()
    assert os.path.exists(path)
    with sockets.listen_unix(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def test_a_live_socket_is_left_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "admin.sock")
    with sockets.listen_unix(path):
        with pytest.raises(StartError, match="another process listens there"):
            sockets.listen_unix(path)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)


@pytest.mark.parametrize("make", ["file", "folder", "link"])
def test_what_is_no_socket_is_left_alone(tmp_path: Path, make: str) -> None:
    path = tmp_path / "admin.sock"
    if make == "file":
        path.write_text("precious")
    elif make == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StartError, match="no socket"):
        sockets.listen_unix(str(path))
    assert path.is_symlink() or path.exists()
    assert make != "file" or path.read_text() == "precious"


def test_a_datagram_socket_is_left_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "admin.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(path)
        with pytest.raises(StartError, match="in use"):
            sockets.listen_unix(path)
        assert os.path.exists(path)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"nowhere/admin\.sock: No such file or directory; create its directory"):
        sockets.listen_unix(str(tmp_path / "nowhere" / "admin.sock"))


def test_a_path_too_long_for_a_socket_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="path too long"):
        sockets.listen_unix(str(tmp_path / ("x" * 120)))


def test_only_our_own_socket_file_is_removed(tmp_path: Path) -> None:
    path = str(tmp_path / "admin.sock")
    with sockets.listen_unix(path):
        identity = sockets.file_identity(path)
        os.unlink(path)
        with sockets.listen_unix(path):
            sockets.unlink_if_same(path, identity)
            assert os.path.exists(path), "the successor's socket was removed"
            sockets.unlink_if_same(path, sockets.file_identity(path))
            assert not os.path.exists(path)


@pytest.mark.parametrize(
    ("bind", "connect"), [("[::]:0", "127.0.0.1"), ("[::]:0", "::1"), ("127.0.0.1:0", "127.0.0.1")]
)
def test_every_address_means_both_protocols(bind: str, connect: str) -> None:
    with sockets.listen_tcp(Address.parse(bind)) as sock:
        socket.create_connection((connect, sock.getsockname()[1])).close()


def test_an_address_of_another_host_is_named() -> None:
    with pytest.raises(StartError, match=r"192\.0\.2\.1:0 .*use an address of this host"):
        sockets.listen_tcp(Address.parse("192.0.2.1:0"))
