"""Reloads: what stays is not disturbed, what goes is drained, and a reload that cannot be made changes nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import MakeScene
from tests.helpers.balancer import Balancer, Json, merge
from tests.helpers.leaks import Holdings, holdings
from tests.helpers.peers import Address, Backend, Peer, Served, ask, connect, echo, listen, named, read_name, spelled
from tests.helpers.waiting import settled, wait_until


def config(*backends: object, pool: Json | None = None, listener: Json | None = None, **sections: Any) -> Json:
    """One listener `main` before one pool `main`."""
    return {
        "listeners": {"main": {"bind": "127.0.0.1:0", "pool": "main"} | (listener or {})},
        "pools": {
            "main": {"backends": [one if isinstance(one, dict) else str(one) for one in backends]} | (pool or {})
        },
    } | sections


def entry(name: str, backend: Backend, **values: object) -> Json:
    return {"name": name, "address": str(backend)} | values


def exchange(peer: Peer, data: bytes = b"hello") -> None:
    peer.send(data)
    assert peer.receive(len(data)) == data


def refuses(address: Address) -> bool:
    try:
        connect(address).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        return False
    return False


def rejected(lb: Balancer) -> str:
    """Ask for a reload that is refused; the error."""
    status, body = lb.request("POST", "/api/v1/reload")
    assert status == 422, body
    return str(body["error"])


def settled_holdings(pid: int, expected: Holdings) -> None:
    """Wait until the process holds what it held: sockets exactly, threads within those a pool may keep."""

    def back() -> bool:
        now = holdings(pid)
        return now.sockets == expected.sockets and now.other == expected.other and now.threads <= expected.threads + 2

    wait_until(back, what=lambda: f"expected {expected}, now {holdings(pid)}")


# ---- what stays ------------------------------------------------------------------------------------------------------


def test_reload_keeps_the_sockets_and_the_numbers(balance: MakeScene) -> None:
    with Served(echo) as served:
        scene = balance(served)
        with scene.connect() as client:
            exchange(client)
            address, before = scene.lb.address(scene.listener), scene.backend_status()
            scene.reload(pool={"balance": "random", "retries": 0}, listener={"max_connections": 100})
            assert scene.lb.address(scene.listener) == address
            after = scene.backend_status()
            assert after["connections_total"] == before["connections_total"] == 1
            assert after["connections"] == 1
            exchange(client)


def test_listener_renamed_is_never_without_its_port() -> None:
    with Served(echo) as served, listen() as reserve:
        address = f"127.0.0.1:{reserve.getsockname()[1]}"
        reserve.close()

        def names(name: str) -> Json:
            return merge(config(served), {"listeners": {}}) | {"listeners": {name: {"bind": address, "pool": "main"}}}

        with Balancer(names("one")) as lb, connect(lb.address("one")) as old:
            exchange(old)
            for name in ("two", "one", "three"):
                lb.reload(names(name))
                with connect(lb.address(name)) as new:
                    exchange(new)
            exchange(old)


def test_runtime_changes_survive_until_the_file_changes_that_backend(balance: MakeScene) -> None:
    with Served(named("a")) as a, Served(named("b")) as b:
        scene = balance(entry("b0", a, weight=3), entry("b1", b))
        path = f"/api/v1/pools/{scene.pool}/backends"
        assert scene.lb.request("PATCH", f"{path}/b0", {"weight": 9})[0] == 200
        assert scene.lb.request("PATCH", f"{path}/b1", {"state": "drain"})[0] == 200
        scene.reload(pool={"balance": "least_connections"})
        assert (scene.backend_status("b0")["weight"], scene.backend_status("b1")["state"]) == (9, "drain")
        assert {ask(scene.address) for _ in range(6)} == {"a"}
        scene.reload([entry("b0", a, weight=4), entry("b1", b)])
        assert (scene.backend_status("b0")["weight"], scene.backend_status("b1")["state"]) == (4, "drain")
        scene.reload([entry("b0", a, weight=4), entry("b1", b, weight=2)])
        assert scene.backend_status("b1")["state"] == "ready"
        assert {ask(scene.address) for _ in range(6)} == {"a", "b"}


# ---- what goes -------------------------------------------------------------------------------------------------------


def test_backend_that_left_keeps_its_sessions_and_gets_no_new_one(balance: MakeScene) -> None:
    with Served(named("a")) as a, Served(named("b")) as b:
        scene = balance(entry("a", a), entry("b", b))
        clients = [scene.connect() for _ in range(2)]
        by_name = {read_name(client): client for client in clients}
        assert sorted(by_name) == ["a", "b"]
        scene.reload([entry("b", b)])
        assert {ask(scene.address) for _ in range(4)} == {"b"}
        for client in clients:
            exchange(client)
        assert sorted(session["backend"] for session in scene.lb.sessions()) == ["a", "b"]
        by_name["a"].close()
        wait_until(lambda: "a" in [line["backend"] for line in scene.access()])


def test_backend_that_left_is_cut_off_after_its_drain_timeout(balance: MakeScene) -> None:
    with Served(named("a")) as a, Served(named("b")) as b:
        scene = balance(entry("a", a), entry("b", b), pool={"drain_timeout": "300ms"})
        by_name = {read_name(client): client for client in [scene.connect() for _ in range(2)]}
        scene.reload([entry("b", b)])
        wait_until(by_name["a"].broken)
        exchange(by_name["b"])
        scene.wait_closed("DD drained")
        (line,) = scene.access()
        assert (line["backend"], line["code"], line["reason"]) == ("a", "DD", "drained")


def test_backend_that_left_and_came_back_is_used_again_while_the_old_one_drains(balance: MakeScene) -> None:
    with Served(named("a")) as a, Served(named("b")) as b:
        scene = balance(entry("a", a), entry("b", b))
        clients = [scene.connect() for _ in range(2)]
        for client in clients:
            read_name(client)
        scene.reload([entry("b", b)])
        scene.reload([entry("a", a), entry("b", b)])
        assert {ask(scene.address) for _ in range(4)} == {"a", "b"}
        for client in clients:
            exchange(client)


def test_removed_listener_serves_connected_clients_and_then_refuses() -> None:
    with Served(echo) as served, contextlib.ExitStack() as stack:
        extra = {"bind": "127.0.0.1:0", "pool": "main"}
        one = config(served)
        with Balancer(merge(one, {"listeners": {"extra": extra}})) as lb:
            address, before = lb.address("extra"), settled(lambda: holdings(lb.pid))
            established = stack.enter_context(connect(address))
            exchange(established)
            queued = [stack.enter_context(connect(address)) for _ in range(200)]
            lb.reload(one)
            for client in queued:
                exchange(client)
                client.close()
            wait_until(lambda: refuses(address))
            exchange(established)
            assert {session["listener"] for session in lb.sessions()} == {"extra"}
            established.close()
            wait_until(lambda: lb.session_count() == 0)
            wait_until(lambda: holdings(lb.pid).sockets == before.sockets - 2)


def test_changed_bind_moves_new_clients_and_no_old_one() -> None:
    with Served(echo) as served, Balancer(config(served)) as lb:
        old_address = lb.address("main")
        with connect(old_address) as old:
            exchange(old)
            lb.reload(config(served, listener={"bind": "127.0.0.2:0"}))
            new_address = lb.address("main")
            assert new_address[0] == "127.0.0.2"
            with connect(new_address) as new:
                exchange(new)
            wait_until(lambda: refuses(old_address))
            exchange(old)
            assert lb.status()["listeners"]["main"]["connections"] == 1


def test_unix_socket_of_a_listener_comes_and_goes(tmp_path: Path) -> None:
    path = str(tmp_path / "web.sock")
    with Served(echo) as served, Balancer(config(served)) as lb:
        lb.reload(config(served, listener={"bind": ["127.0.0.1:0", f"unix:{path}"]}))
        with connect(path) as client:
            exchange(client)
            lb.reload(config(served))
            wait_until(lambda: not os.path.exists(path))
            exchange(client)


# ---- what cannot be made ---------------------------------------------------------------------------------------------

BAD_FILES = {
    "not YAML": "listeners: [",
    "unknown key": "listeners: {main: {bind: '127.0.0.1:0', pool: main, colour: red}}\npools: {main: {backends: []}}\n",
    "dangling pool": "listeners: {main: {bind: '127.0.0.1:0', pool: nowhere}}\npools: {main: {backends: []}}\n",
    "empty": "",
}


@pytest.mark.parametrize("text", BAD_FILES.values(), ids=BAD_FILES)
@pytest.mark.parametrize("by", ["signal", "api"])
def test_bad_file_changes_nothing(balance: MakeScene, text: str, by: str) -> None:
    with Served(echo) as served:
        scene = balance(served)
        lb, client = scene.lb, scene.connect()
        exchange(client)
        before = lb.status()
        lb.file.write_text(text)
        if by == "signal":
            lb.signal(signal.SIGHUP)
            wait_until(lambda: not lb.status()["config"]["last_reload_ok"])
        else:
            assert str(lb.file) in rejected(lb)
        after = lb.status()
        assert str(lb.file) in after["config"]["last_error"]
        assert after["config"]["loaded_at"] == before["config"]["loaded_at"]
        assert lb.metric("l4lb_config_last_reload_successful") == 0
        assert "the running configuration is unchanged" in lb.log
        assert (after["listeners"].keys(), after["pools"].keys()) == (
            before["listeners"].keys(),
            before["pools"].keys(),
        )
        exchange(client)
        exchange(scene.connect())
        scene.reload()
        assert lb.metric("l4lb_config_last_reload_successful") == 1
        assert lb.status()["config"]["last_error"] is None
        exchange(client)


def test_file_that_is_gone_changes_nothing(balance: MakeScene) -> None:
    with Served(echo) as served:
        scene = balance(served)
        scene.lb.file.unlink()
        assert "No such file or directory" in rejected(scene.lb)
        exchange(scene.connect())
        scene.reload()


def test_every_problem_of_a_bad_file_is_told_at_once(balance: MakeScene) -> None:
    with Served(echo) as served:
        scene = balance(served)
        bad = merge(scene.config, {"pools": {scene.pool: {"retries": -1, "balance": "fastest"}}})
        scene.lb.file.write_text(yaml.safe_dump(bad))
        status, body = scene.lb.request("POST", "/api/v1/reload")
        assert (status, body["applied"], len(body["problems"])) == (422, False, 2)
        assert all(problem.startswith(f"{scene.lb.file}:") for problem in body["problems"])


def test_address_that_is_taken_changes_nothing() -> None:
    with Served(echo) as served, Served(echo) as other, listen() as taken, Balancer(config(served)) as lb:
        busy = spelled(taken.getsockname())
        with connect(lb.address("main")) as client:
            exchange(client)
            status, before = lb.status(), settled(lambda: holdings(lb.pid))
            for bind in ([busy], ["127.0.0.3:0", busy], ["127.0.0.1:0", "127.0.0.3:0", busy]):
                lb.write(config(other, listener={"bind": bind}))
                assert f"cannot bind {busy}: Address already in use" in rejected(lb)
            settled_holdings(lb.pid, before)
            assert lb.status()["pools"]["main"]["backends"].keys() == {str(served)}
            assert lb.status()["listeners"]["main"]["bind"] == status["listeners"]["main"]["bind"]
            exchange(client)
            with connect(lb.address("main")) as new:
                exchange(new)
            lb.reload(config(other))


def test_access_log_that_cannot_be_opened_changes_nothing(balance: MakeScene, tmp_path: Path) -> None:
    with Served(echo) as served:
        scene = balance(served)
        lost = {"log": {"access": {"to": str(tmp_path / "missing" / "access.log")}}}
        scene.lb.write(merge(scene.config, lost))
        assert "No such file or directory" in rejected(scene.lb)
        scene.connect().close()
        scene.reload()
        scene.access(1)


# ---- what else a file says -------------------------------------------------------------------------------------------


def test_access_log_is_switched_by_a_reload(balance: MakeScene, tmp_path: Path) -> None:
    with Served(echo) as served:
        scene = balance(served)
        lb, other = scene.lb, tmp_path / "other.log"

        def use(access: object) -> None:
            changed = scene.config | {"log": {"access": access}}
            lb.file.write_text(yaml.safe_dump(merge({**lb.base, "log": {}}, changed)))
            lb.reload()

        def session() -> None:
            with connect(scene.address) as client:
                exchange(client)
            scene.wait_connections(0)

        session()
        scene.access(1)
        use({"to": str(other), "format": "tcplog"})
        session()
        wait_until(lambda: other.exists() and other.read_text().count("\n") == 1)
        assert f" {scene.listener} {scene.pool}/b0 " in other.read_text()
        use(None)
        session()
        use({"to": str(other), "format": "json", "events": ["open", "close"]})
        session()
        wait_until(lambda: other.read_text().count("\n") == 3)
        assert '"event":"open"' in other.read_text()
        assert len(scene.access(1)) == 1


def test_keys_that_need_a_restart_are_noted_and_change_nothing(balance: MakeScene) -> None:
    with Served(echo) as served:
        scene = balance(served)
        changed = merge(scene.config, {"process": {"workers": 1, "max_connections": 77, "drain_timeout": "7s"}})
        scene.lb.write(changed)
        status, body = scene.lb.request("POST", "/api/v1/reload")
        assert status == 200
        assert [note.partition(":")[0] for note in body["notes"]] == ["process.workers", "process.max_connections"]
        assert len(scene.lb.status()["workers"]) == 2
        wait_until(lambda: "process.workers: 1 takes effect at the next start; 2 stays until then" in scene.lb.log)
        assert scene.lb.status()["config"]["restart_notes"] == body["notes"]
        scene.reload()
        assert scene.lb.status()["config"]["restart_notes"] == []


def test_checks_may_come_and_go_without_an_outage(balance: MakeScene) -> None:
    with Served(echo) as served:
        scene = balance(served)
        for health in ({"type": "tcp", "interval": "50ms"}, {"type": "none"}, {"type": "tcp", "interval": "1h"}):
            scene.reload(pool={"health": health})
            for _ in range(3):
                with connect(scene.address) as client:
                    exchange(client)


def test_checked_backend_that_moves_comes_back() -> None:
    """Its checks go to one port, wherever it moves on its host."""
    with Served(named("a")) as a, Served(named("b")) as b, Served(echo) as agent:
        pool = {"health": {"type": "tcp", "interval": "50ms", "port": agent.address[1]}}
        with Balancer(config(entry("x", a), pool=pool)) as lb:

            def serving() -> str:
                with connect(lb.address("main")) as client:
                    return client.read_first().decode().strip()

            wait_until(lambda: serving() == "a")
            lb.reload(config(entry("x", b), pool=pool))
            wait_until(lambda: serving() == "b")


WAIT_BEFORE_LOADING = """
import os, sys
from l4lb.cli import main
from l4lb.process import daemon

load_config = daemon.load_config

def load_later(path):
    daemon.load_config = load_config
    open(os.environ["L4LB_TEST_FIFO"]).read()
    return load_config(path)

daemon.load_config = load_later
sys.argv = ["l4lb", *sys.argv[sys.argv.index("l4lb") + 1:]]
main()
"""
"""Takes the command line of the real process, and waits for a FIFO before it reads its configuration."""


def test_signals_during_start_up_are_kept_for_later(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    prefix, env = (sys.executable, "-c", WAIT_BEFORE_LOADING), {"L4LB_TEST_FIFO": str(fifo)}
    with Served(named("a")) as served, contextlib.closing(Balancer(config(served), prefix=prefix, env=env)) as lb:
        lb.spawn()
        with fifo.open("w"):
            # Opening it has waited for the process to come that far.
            lb.signal(signal.SIGHUP)
            lb.signal(signal.SIGUSR1)
        lb.wait_notified("READY=1", 30)
        wait_until(lambda: "log files are opened again" in lb.log and "reloaded" in lb.log, what=lambda: lb.log)
        assert ask(lb.address("main")) == "a"
        lb.stop()
