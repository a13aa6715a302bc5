"""Upgrades in place: the new process has everything the old one had, and no client notices."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.helpers.balancer import Balancer, Json
from tests.helpers.leaks import holdings
from tests.helpers.load import Load
from tests.helpers.peers import Address, Backend, Background, Peer, Served, ask, connect, echo, named, read_name
from tests.helpers.upgrades import Installed, follow, taking_care_of_orphans, upgrade
from tests.helpers.waiting import settled, wait_until

SOURCES = [f"127.0.7.{number}" for number in range(1, 9)]


@pytest.fixture(autouse=True)
def orphans() -> Iterator[None]:
    with taking_care_of_orphans():
        yield


def config(*backends: Backend, pool: Json | None = None, listener: Json | None = None, **sections: Any) -> Json:
    entries = [{"name": f"b{number}", "address": str(backend)} for number, backend in enumerate(backends)]
    return {
        "process": {"workers": 2, "drain_timeout": "60s"},
        "listeners": {"main": {"bind": "127.0.0.1:0", "pool": "main"} | (listener or {})},
        "pools": {"main": {"backends": entries} | (pool or {})},
    } | sections


def exchange(peer: Peer, data: bytes = b"hello") -> None:
    peer.send(data)
    assert peer.receive(len(data)) == data


def backend_status(lb: Balancer, name: str = "b0") -> Json:
    status: Json = lb.status()["pools"]["main"]["backends"][name]
    return status


def leave(*old: subprocess.Popen[bytes]) -> None:
    """Wait until the old processes have left as they should."""
    assert [one.wait(20) for one in old] == [0] * len(old)


# ---- clients ---------------------------------------------------------------------------------------------------------


def test_turns_end_where_they_began_and_new_ones_begin_in_the_new_process(backend: Backend) -> None:
    with Balancer(config(backend)) as lb, contextlib.ExitStack() as stack:
        address = lb.address("main")
        quiet = stack.enter_context(connect(address)), stack.enter_context(backend.accept())
        before = in_a_turn(address, backend, stack)
        old = upgrade(lb)
        assert lb.address("main") == address
        after = in_a_turn(address, backend, stack)
        assert lb.session_count() == 1
        for one in quiet:
            assert one.read_all() == b""
        assert old.poll() is None
        finish(*before)
        leave(old)
        answer(*after)
        assert not lb.status()["stopping"]


def in_a_turn(address: Address, backend: Backend, stack: contextlib.ExitStack) -> tuple[Peer, Peer]:
    """A client that has asked, and the backend's end of its session, which owes the answer."""
    client = stack.enter_context(connect(address))
    server = stack.enter_context(backend.accept())
    client.send(b"question")
    assert server.receive(8) == b"question"
    return client, server


def answer(client: Peer, server: Peer) -> None:
    server.send(b"answer")
    assert client.receive(6) == b"answer"


def finish(client: Peer, server: Peer) -> None:
    """The answer, and the end of both."""
    answer(client, server)
    client.finish()
    assert server.read_all() == b""
    server.finish()
    assert client.read_all() == b""


def test_a_stop_waits_for_the_turns_of_the_process_before(backend: Backend) -> None:
    with Balancer(config(backend)) as lb, contextlib.ExitStack() as stack:
        turn = in_a_turn(lb.address("main"), backend, stack)
        old = upgrade(lb)
        lb.signal(signal.SIGTERM)
        lb.wait_notified("STOPPING=1")
        assert lb.session_count() == 0
        assert lb.status()["shutdown"]["sessions"] == 0
        finish(*turn)
        leave(old)
        lb.wait_exit()


def test_no_client_is_refused_or_cut_off_and_every_session_is_logged_through_upgrades_under_load() -> None:
    with Served(echo) as served, Balancer(config(served)) as lb:
        load, olds = Load(lb.address("main")), []
        for _ in range(5):
            seen = min(load.streamed)
            olds.append(upgrade(lb))
            assert load.alive()
            wait_until(lambda seen=seen: min(load.streamed) > seen)  # type: ignore[misc]
        sessions = load.stop()
        assert sessions > 100
        leave(*olds)
        wait_until(lambda: sum(1 for _ in lb.access()) == sessions, what=lambda: f"{sessions} sessions")
        assert {line["reason"] for line in lb.access()} <= {"normal", "drained"}


def test_a_storm_of_connects_is_served_through_upgrades() -> None:
    """Clients that only connect, and wait for a byte of the backend: a client in a queue has to be served, too."""

    def greet(peer: Peer) -> None:
        peer.send(b"!")

    with Served(greet) as served, Balancer(config(served)) as lb:
        address, stop, count = lb.address("main"), threading.Event(), [0] * 8

        def storm(number: int) -> Callable[[], None]:
            def run() -> None:
                while not stop.is_set():
                    with contextlib.ExitStack() as stack:
                        peers = [stack.enter_context(connect(address)) for _ in range(8)]
                        for peer in peers:
                            assert peer.receive(1) == b"!"
                            count[number] += 1

            return run

        running, olds = [Background(storm(number)) for number in range(len(count))], []
        try:
            for _ in range(4):
                before = sum(count)
                olds.append(upgrade(lb))
                wait_until(lambda before=before: sum(count) > before + 200)  # type: ignore[misc]
        finally:
            stop.set()
        for one in running:
            one.result()
        leave(*olds)


def test_clients_that_came_before_the_new_process_accepts_are_served() -> None:
    """All listening sockets are full of clients when the old process lets go, and the new one stands still."""
    with Served(named("b0")) as served:
        # The new process stops itself at the moment when no process accepts.
        body = """
import os, signal, sys
from l4lb.process.upgrade import predecessor
original = predecessor.Predecessor.wait_released
async def wait_released(*arguments):
    result = await original(*arguments)
    os.kill(os.getpid(), signal.SIGSTOP)
    return result
if "L4LB_HANDOVER" in os.environ:
    predecessor.Predecessor.wait_released = wait_released
"""
        with Installed(config(served), body) as lb:
            address = lb.address("main")
            asking = Background(lambda: lb.request("POST", "/api/v1/upgrade", deadline=60))
            stopped = wait_until(lambda: standing_still(lb))
            clients = [connect(address) for _ in range(200)]
            os.kill(stopped, signal.SIGCONT)
            for client in clients:
                assert read_name(client) == "b0"
                client.close()
            assert asking.result() != 422
            leave(follow(lb))


def standing_still(lb: Balancer) -> int | None:
    """The process that was stopped by a signal."""
    for process in psutil.process_iter(["cmdline", "status"]):
        if str(lb.file) in (process.info["cmdline"] or ()) and process.info["status"] == psutil.STATUS_STOPPED:
            return process.pid
    return None


def test_clients_of_a_unix_socket_find_it_at_its_path() -> None:
    with Served(echo) as served, Balancer() as lb:
        path = lb.directory / "app.sock"
        lb.reload(config(served, listener={"bind": ["127.0.0.1:0", f"unix:{path}", "unix:@l4lb-upgrade"]}))
        for _ in range(2):
            inode = path.stat().st_ino
            leave(upgrade(lb))
            assert path.stat().st_ino == inode
            for bind in range(3):
                with connect("\0l4lb-upgrade" if bind == 2 else lb.address("main", bind)) as client:
                    exchange(client)
        lb.stop()
        assert not path.exists()


# ---- what is handed over ---------------------------------------------------------------------------------------------


def test_what_an_operator_did_survives_until_the_file_changes_the_backend() -> None:
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(Served(named(f"b{number}"))) for number in range(3)]
        lb = stack.enter_context(Balancer(config(*servers)))
        lb.request("PATCH", "/api/v1/pools/main/backends/b0", {"state": "drain"})
        lb.request("PATCH", "/api/v1/pools/main/backends/b1", {"weight": 7})
        lb.request("PATCH", "/api/v1/pools/main/backends/b2", {"state": "maint", "weight": 9})
        changed = config(*servers)
        changed["pools"]["main"]["backends"][2]["max_connections"] = 10
        lb.write(changed)
        leave(upgrade(lb))
        assert backend_status(lb, "b0")["state"] == "drain"
        assert (backend_status(lb, "b1")["state"], backend_status(lb, "b1")["weight"]) == ("ready", 7)
        assert (backend_status(lb, "b2")["state"], backend_status(lb, "b2")["weight"]) == ("ready", 1)


def test_health_is_known_at_once() -> None:
    """The checks of the new process are so slow that it has to serve by what the old one knew."""
    with contextlib.ExitStack() as stack:
        good, bad = (stack.enter_context(Served(named(name))) for name in ("good", "bad"))
        health = {"type": "tcp", "interval": "50ms", "timeout": "40ms", "fall": 1}
        lb = stack.enter_context(Balancer(config(good, bad, pool={"health": health})))
        bad.close()
        wait_until(lambda: backend_status(lb, "b1")["health"] == "down")
        message = backend_status(lb, "b1")["health_message"]
        # A check of this pool takes its time, and no server responds.
        slow = {"type": "exec", "command": ["/bin/sleep", "60"], "interval": "60s", "timeout": "50s"}
        lb.write(config(good, bad, pool={"health": slow}))
        leave(upgrade(lb))
        assert [backend_status(lb, name)["health"] for name in ("b0", "b1")] == ["up", "down"]
        assert backend_status(lb, "b1")["health_message"] == message
        assert {ask(lb.address("main")) for _ in range(4)} == {"good"}


def test_a_backend_that_is_new_is_checked_before_clients_come() -> None:
    with contextlib.ExitStack() as stack:
        first, second = (stack.enter_context(Served(named(name))) for name in ("b0", "b1"))
        pool = {"health": {"type": "tcp", "interval": "30s"}}
        lb = stack.enter_context(Balancer(config(first, pool=pool)))
        lb.write(config(first, second, pool=pool))
        leave(upgrade(lb))
        assert [backend_status(lb, name)["health"] for name in ("b0", "b1")] == ["up", "up"]


def test_an_ejected_backend_stays_out() -> None:
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(Served(named(f"b{number}"))) for number in range(2)]
        gone = servers[1]
        lb = stack.enter_context(Balancer(config(*servers, pool={"passive": {"failures": 2, "eject": "10m"}})))
        gone.close()

        def ejected() -> bool:
            ask(lb.address("main"))
            return backend_status(lb, "b1")["ejection"]["cause"] is not None

        wait_until(ejected)
        left = backend_status(lb, "b1")["ejection"]["left_s"]
        leave(upgrade(lb))
        ejection = backend_status(lb, "b1")["ejection"]
        assert ejection["cause"] == "failures"
        assert 0 < ejection["left_s"] <= left
        assert backend_status(lb, "b1")["effective_weight"] == 0


def test_a_backend_that_is_warm_does_not_start_slowly_again_and_a_cold_one_goes_on_warming() -> None:
    with contextlib.ExitStack() as stack:
        warm, cold = (stack.enter_context(Served(named(name))) for name in ("b0", "b1"))
        pool = {"slow_start": {"duration": "1h", "turns": 2, "responses": 3}}
        lb = stack.enter_context(Balancer(config(warm, pool=pool)))
        lb.reload(config(warm, cold, pool=pool))

        def told() -> list[tuple[float, int]]:
            both = (backend_status(lb, name) for name in ("b0", "b1"))
            return [(backend["effective_weight"], backend["cold_left"]) for backend in both]

        before = told()
        assert before[0] == (1, 0)
        assert before[1] == (2 / 16, 3)
        leave(upgrade(lb))
        assert told() == before


@pytest.mark.parametrize("algorithm", ["round_robin", "random"])
def test_sticky_clients_stay_at_their_backends(algorithm: str) -> None:
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(Served(named(f"b{number}"))) for number in range(4)]
        pool = {"sticky": {"ttl": "10m"}, "balance": algorithm}
        lb = stack.enter_context(Balancer(config(*servers, pool=pool)))
        given = {source: ask(lb.address("main"), source=source) for source in SOURCES}
        assert len(set(given.values())) > 1
        # Backends have other slots in the new process, and one more that could be in the way.
        turned = config(*servers, pool=pool)
        turned["pools"]["main"]["backends"].reverse()
        for file in (turned, config(*servers, pool=pool)):
            lb.write(file)
            leave(upgrade(lb))
            assert {source: ask(lb.address("main"), source=source) for source in SOURCES} == given
            sticky = lb.status()["pools"]["main"]["sticky"]
            assert (sticky["hits_total"], sticky["misses_total"]) == (len(SOURCES), 0)


def test_backends_that_were_discovered_are_known_while_the_source_is_gone(tmp_path: Path) -> None:
    with Served(named("b0")) as served:
        source = tmp_path / "targets.json"
        source.write_text(f'[{{"targets": ["{served}"]}}]')
        file = config(pool={"discover": {"file": {"path": str(source)}}})
        with Balancer(file) as lb:
            assert ask(lb.address("main")) == "b0"
            source.unlink()
            for _ in range(2):
                leave(upgrade(lb))
                assert ask(lb.address("main")) == "b0"


# ---- what the file changes -------------------------------------------------------------------------------------------


def test_listeners_come_and_go_with_the_file() -> None:
    with Served(echo) as served, Balancer() as lb:
        listeners = {"main": {"bind": "127.0.0.1:0", "pool": "main"}, "gone": {"bind": "127.0.0.1:0", "pool": "main"}}
        lb.reload(config(served, listeners=listeners))
        main, gone = lb.address("main"), lb.address("gone")
        listeners = {"main": listeners["main"], "new": {"bind": "127.0.0.1:0", "pool": "main"}}
        lb.write(config(served, listeners=listeners))
        leave(upgrade(lb))
        assert lb.address("main") == main
        with pytest.raises(ConnectionRefusedError):
            connect(gone)
        for name in listeners:
            with connect(lb.address(name)) as client:
                exchange(client)


@pytest.mark.parametrize("workers", [(1, 3), (3, 1), (2, 3, 1)])
def test_the_number_of_workers_may_change(workers: tuple[int, ...]) -> None:
    with Served(echo) as served, Balancer(config(served, process=of_workers(workers[0]))) as lb:
        load, olds = Load(lb.address("main")), []
        for number in workers[1:]:
            lb.write(config(served, process=of_workers(number)))
            olds.append(upgrade(lb))
            assert len(lb.status()["workers"]) == number
        before = lb.status()["listeners"]["main"]["connections_total"]
        wait_until(lambda: lb.status()["listeners"]["main"]["connections_total"] > before + 50)
        load.stop()
        leave(*olds)


def of_workers(number: int) -> Json:
    return {"workers": number, "drain_timeout": "60s"}


# ---- the process -----------------------------------------------------------------------------------------------------


def test_what_is_installed_now_is_started_with_its_own_interpreter_line() -> None:
    with Served(echo) as served, Installed(config(served)) as lb:
        for version in ("9.9.1", "9.9.2"):
            lb.program.install(f"from l4lb import _version\n_version.__version__ = {version!r}")
            leave(upgrade(lb))
            assert lb.status()["version"] == version


def test_a_signal_upgrades_and_the_service_manager_is_told_in_order() -> None:
    with Served(echo) as served, Balancer(config(served)) as lb:
        pid = lb.popen.pid
        lb.notified.clear()
        lb.signal(signal.SIGUSR2)
        wait_until(lambda: lb.status()["pid"] != pid)
        old = follow(lb)
        lb.wait_notified(f"MAINPID={lb.popen.pid}")
        lb.wait_notified("READY=1")
        leave(old)
        assert lb.status()["upgrade"] == {"under_way": False, "done_total": 1, "failed_total": 0, "last_error": None}
        assert "STOPPING=1" not in lb.notified
        assert lb.metric("l4lb_upgrades_total", result="done") == 1


def test_the_admin_socket_answers_every_request_and_one_process_at_a_time() -> None:
    with Served(echo) as served, Balancer(config(served)) as lb:
        stop, seen = threading.Event(), []

        def ask_all_the_time() -> None:
            while not stop.is_set():
                pid = lb.status()["pid"]
                if not seen or seen[-1] != pid:
                    seen.append(pid)

        asking = Background(ask_all_the_time)
        pids = [lb.popen.pid]
        inode = lb.socket_path.stat().st_ino
        for _ in range(3):
            leave(upgrade(lb))
            pids.append(lb.popen.pid)
            wait_until(lambda: seen[-1:] == pids[-1:])
        stop.set()
        asking.result()
        assert seen == pids
        assert lb.socket_path.stat().st_ino == inode
        lb.stop()
        assert not lb.socket_path.exists()


def test_the_admin_address_is_kept() -> None:
    with Served(echo) as served:
        with Balancer() as lb:
            pass
        with Balancer(config(served, admin={"listen": "127.0.0.1:0"})) as lb:
            before = listening_ports(lb)
            leave(upgrade(lb))
            assert listening_ports(lb) == before


def listening_ports(lb: Balancer) -> set[int]:
    connections = psutil.Process(lb.popen.pid).net_connections("tcp")
    return {one.laddr.port for one in connections if one.status == psutil.CONN_LISTEN}


def test_a_chain_of_upgrades_leaves_nothing_behind() -> None:
    with Served(echo) as served, Balancer(config(served)) as lb:
        leave(upgrade(lb))
        lb.forget_notified()
        before = settled(lambda: holdings(lb.popen.pid))
        for _ in range(5):
            old = lb.popen.pid
            leave(upgrade(lb))
            assert not psutil.pid_exists(old)
            # As a service manager does: messages wait until it has room for them.
            lb.forget_notified()
        after = settled(lambda: holdings(lb.popen.pid))
        assert (after.sockets, after.other) == (before.sockets, before.other)
        assert after.threads <= before.threads + 2
        assert psutil.Process(lb.popen.pid).children() == []
        assert lb.status()["upgrade"]["done_total"] == 6
        with connect(lb.address("main")) as client:
            exchange(client)
