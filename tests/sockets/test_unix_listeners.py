"""Listeners on unix sockets: their files are shared, replaced and removed with care."""

from __future__ import annotations

import os
import stat
import uuid
from pathlib import Path

import pytest

from l4lb.errors import StartError
from l4lb.sockets.listeners import Sockets
from tests.helpers.peers import connect, listen
from tests.sockets.opening import listener


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
