"""Files of unix sockets that another program removes or replaces: readiness tells, and a reload puts them back."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.balancer import Balancer, Json
from tests.helpers.peers import Served, ask, connect, echo, named, read_name
from tests.helpers.upgrades import taking_care_of_orphans, upgrade
from tests.helpers.waiting import wait_until


@pytest.fixture
def served() -> Iterator[Served]:
    with Served(named("only")) as served:
        yield served


def config(path: Path, backend: object) -> Json:
    return {
        "listeners": {"main": {"bind": ["127.0.0.1:0", f"unix:{path}"], "pool": "main"}},
        "pools": {"main": {"backends": [str(backend)]}},
    }


def readiness(lb: Balancer) -> tuple[int, Json]:
    return lb.request("GET", "/readyz")


def test_a_file_that_is_gone_is_told_and_back_after_a_reload(tmp_path: Path) -> None:
    path = tmp_path / "listener"
    with Served(echo) as served, Balancer(config(path, served)) as lb, connect(str(path)) as established:
        established.send(b"a")
        assert established.receive(1) == b"a"
        assert readiness(lb)[0] == 200
        path.unlink()
        status, body = readiness(lb)
        assert status == 503
        assert f"the file of unix:{path} is gone or replaced" in body["error"]
        assert lb.status()["listeners"]["main"]["lost"] == [f"unix:{path}"]
        lb.reload()
        with connect(str(path)) as client:
            client.send(b"b")
            assert client.receive(1) == b"b"
        assert readiness(lb)[0] == 200
        established.send(b"c")
        assert established.receive(1) == b"c"
        descriptors = len(os.listdir(f"/proc/{lb.popen.pid}/fd"))
        for _ in range(3):
            path.unlink()
            lb.reload()
        wait_until(lambda: len(os.listdir(f"/proc/{lb.popen.pid}/fd")) <= descriptors)
    assert not path.exists()


def test_a_file_of_another_process_is_told_and_not_taken(tmp_path: Path, served: Served) -> None:
    path, aside = tmp_path / "listener", tmp_path / "aside"
    with Served(named("other"), path=str(path)) as other, Balancer(config(aside, served)) as lb:
        aside.unlink()
        path.rename(aside)
        assert readiness(lb)[0] == 503
        status, answer = lb.request("POST", "/api/v1/reload")
        assert status == 422
        assert f"cannot bind unix:{aside}: Address already in use" in answer["error"]
        assert ask(str(aside)) == "other"
        assert ask(lb.address("main")) == "only"
        del other
        aside.unlink()
        lb.reload()
        assert ask(str(aside)) == "only"


def test_a_successor_puts_back_what_its_predecessor_has_lost(tmp_path: Path, served: Served) -> None:
    path = tmp_path / "listener"
    with taking_care_of_orphans(), Balancer(config(path, served)) as lb:
        path.unlink()
        upgrade(lb)
        assert ask(str(path)) == "only"
        assert readiness(lb)[0] == 200


def test_the_admin_socket_comes_back(tmp_path: Path, served: Served) -> None:
    with Balancer(config(tmp_path / "listener", served)) as lb:
        lb.socket_path.unlink()
        lb.signal(signal.SIGHUP)
        lb.wait_log("the file of the admin socket was removed; created it again")
        assert lb.request("GET", "/healthz")[0] == 200
        assert lb.socket_path.stat().st_mode & 0o777 == 0o660
        assert readiness(lb) == (200, {"ready": True, "warnings": []})
    assert not lb.socket_path.exists()


def test_the_admin_socket_is_not_taken_from_another_process(tmp_path: Path, served: Served) -> None:
    with Balancer(config(tmp_path / "listener", served)) as lb:
        lb.socket_path.unlink()
        with Served(named("other"), path=str(lb.socket_path)):
            lb.signal(signal.SIGHUP)
            lb.wait_log("Address already in use")
            lb.wait_log("reloaded")
            with connect(str(lb.socket_path)) as client:
                assert read_name(client) == "other"
