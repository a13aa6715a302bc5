"""Opening sockets: unix sockets get their mode at once, no other process loses its socket, errors say what to do."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from l4lb.config import Address
from l4lb.sockets.listen import cannot_bind, file_identity, open_tcp, open_unix, unlink_if_same

MODE = 0o660


def opened(path: str | Path) -> socket.socket:
    return open_unix(Address(path=str(path)), MODE, backlog=1)


def sentence(address: Address, error: OSError, *, takes_freebind: bool = False) -> str:
    return str(cannot_bind("admin.listen", address, error, takes_freebind=takes_freebind))


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_the_socket_has_mode_0660_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    path = str(tmp_path / "admin.sock")
    before = os.umask(umask)
    try:
        sock = opened(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
    sock.close()


def test_the_umask_of_the_process_is_not_touched_and_no_other_user_gets_in(
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
        opened(path).close()
    finally:
        monkeypatch.undo()
        os.umask(before)
    assert modes == [0o660], "between bind and chmod"


def test_a_dead_socket_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "admin.sock")
    opened(path).close()
    assert os.path.exists(path)
    with opened(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def test_a_live_socket_is_left_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "admin.sock")
    with opened(path):
        with pytest.raises(OSError, match="Address already in use"):
            opened(path)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)


@pytest.mark.parametrize("make", ["file", "folder", "link"])
def test_a_file_that_is_not_a_socket_is_left_alone(tmp_path: Path, make: str) -> None:
    path = tmp_path / "admin.sock"
    if make == "file":
        path.write_text("precious")
    elif make == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError, match="a file that is not a socket"):
        opened(path)
    assert path.is_symlink() or path.exists()
    assert make != "file" or path.read_text() == "precious"


def test_a_datagram_socket_is_left_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "admin.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(path)
        with pytest.raises(OSError, match="in use"):
            opened(path)
        assert os.path.exists(path)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    address = Address(path=f"{tmp_path}/nowhere/admin.sock")
    with pytest.raises(OSError, match="No such file") as info:
        open_unix(address, MODE, 1)
    assert sentence(address, info.value) == (
        f"admin.listen: cannot bind {address}: No such file or directory; create its directory"
    )


def test_a_path_too_long_for_a_socket_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="path too long"):
        opened(tmp_path / ("x" * 120))


def test_only_our_own_socket_file_is_removed(tmp_path: Path) -> None:
    address = Address(path=str(tmp_path / "admin.sock"))
    path = tmp_path / "admin.sock"
    with opened(path):
        identity = file_identity(address)
        assert identity is not None
        path.unlink()
        with opened(path):
            unlink_if_same(address, identity)
            assert path.exists(), "the successor's socket was removed"
            now = file_identity(address)
            assert now is not None
            unlink_if_same(address, now)
            assert not path.exists()
    assert file_identity(address) is None


@pytest.mark.parametrize(
    ("bind", "connect"), [("[::]:0", "127.0.0.1"), ("[::]:0", "::1"), ("127.0.0.1:0", "127.0.0.1")]
)
def test_every_address_means_both_protocols(bind: str, connect: str) -> None:
    (sock,) = open_tcp(Address.parse(bind), backlog=1)
    with sock:
        socket.create_connection((connect, sock.getsockname()[1])).close()


@pytest.mark.parametrize(
    ("takes_freebind", "advice"),
    [(False, "use an address of this host"), (True, "set freebind: true for one that appears later")],
)
def test_an_address_of_another_host_is_named(takes_freebind: bool, advice: str) -> None:
    address = Address.parse("192.0.2.1:0")
    with pytest.raises(OSError, match="Cannot assign") as info:
        open_tcp(address, backlog=1)
    said = sentence(address, info.value, takes_freebind=takes_freebind)
    assert said.startswith("admin.listen: cannot bind 192.0.2.1:0: Cannot assign requested address; ")
    assert said.endswith(advice)


@pytest.mark.parametrize(
    ("address", "advice"),
    [("unix:/x", "write access to its directory"), ("*:80", "ports below 1024 need CAP_NET_BIND_SERVICE")],
)
def test_a_right_that_is_missing_is_named(address: str, advice: str) -> None:
    error = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    assert sentence(Address.parse(address), error).endswith(advice)
