"""How the process ends, and the other signals: drain, patience, a second signal, log rotation, the watchdog."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.balancer import Balancer, Json
from tests.helpers.peers import Address, Backend, Peer, Served, address_of, connect, echo, listen, spelled
from tests.helpers.waiting import observe, wait_until

STOPS = [signal.SIGTERM, signal.SIGINT]

ANSWER = b"a" * 100
"""More than a word that only says that the question has come."""


def config(backend: object, drain_timeout: str = "60s", **sections: Any) -> Json:
    return {
        "process": {"workers": 2, "drain_timeout": drain_timeout},
        "listeners": {"main": {"bind": "127.0.0.1:0", "pool": "main"}},
        "pools": {"main": {"backends": [str(backend)]}},
    } | sections


def exchange(peer: Peer, data: bytes = b"hello") -> None:
    peer.send(data)
    assert peer.receive(len(data)) == data


def wait_refused(address: Address) -> None:
    """Wait until no socket listens there."""

    def refused() -> bool:
        try:
            connect(address).close()
        except ConnectionRefusedError:
            return True
        except ConnectionResetError:
            return False
        return False

    wait_until(refused)


def in_a_turn(lb: Balancer, backend: Backend, stack: contextlib.ExitStack) -> tuple[Peer, Peer]:
    """A client that has asked, and the backend's end of its session, which owes the answer."""
    client = stack.enter_context(connect(lb.address("main")))
    server = stack.enter_context(backend.accept())
    client.send(b"question")
    assert server.receive(8) == b"question"
    return client, server


def answer(client: Peer, server: Peer) -> None:
    server.send(ANSWER)
    assert client.receive(len(ANSWER)) == ANSWER


@pytest.mark.parametrize("number", STOPS)
def test_stop_refuses_new_clients_and_ends_with_the_last_turn(number: int, backend: Backend) -> None:
    with Balancer(config(backend, "1h")) as lb, contextlib.ExitStack() as stack:
        address = lb.address("main")
        first, second = in_a_turn(lb, backend, stack), in_a_turn(lb, backend, stack)
        lb.signal(number)
        lb.wait_notified("STOPPING=1")
        wait_refused(address)
        answer(*first)
        first[0].finish()
        assert first[1].read_all() == b""
        first[1].finish()
        assert first[0].read_all() == b""
        # Between turns there is nothing to wait for.
        answer(*second)
        assert second[0].read_all() == second[1].read_all() == b""
        lb.wait_exit()
        assert {line["code"] for line in lb.access()} == {"--", "DD"}
        assert lb.log.splitlines()[-1].endswith("stopped; every session had ended")


def test_stop_closes_what_is_quiet_and_lets_the_rest_go_on(backend: Backend) -> None:
    with Balancer(config(backend, "1h")) as lb, contextlib.ExitStack() as stack:
        address = lb.address("main")
        silent = stack.enter_context(connect(address)), stack.enter_context(backend.accept())
        quiet = in_a_turn(lb, backend, stack)
        answer(*quiet)
        streaming, half_closed = in_a_turn(lb, backend, stack), in_a_turn(lb, backend, stack)
        half_closed[0].finish()
        assert half_closed[1].read_all() == b""
        lb.signal(signal.SIGTERM)
        for client, server in (silent, quiet):
            assert client.read_all() == server.read_all() == b""
        for _ in range(30):
            answer(*streaming)
            observe(0.05)
        wait_until(lambda: lb.session_count() == 2)
        answer(*half_closed)
        half_closed[1].finish()
        assert half_closed[0].read_all() == b""
        # Only the process leaves: a backend that is wanted again keeps no session.
        path = f"/api/v1/pools/main/backends/{backend}"
        for state in ("drain", "ready"):
            assert lb.request("PATCH", path, {"state": state})[0] == 200
        assert streaming[0].read_all() == b""
        lb.wait_exit()
        assert sorted(line["code"] for line in lb.access()) == ["--", "DD", "DD", "DD"]


def test_a_pool_may_keep_what_is_quiet(backend: Backend) -> None:
    pools: Json = {name: {"backends": [{"name": "b", "address": str(backend)}]} for name in ("closing", "keeping")}
    pools["keeping"]["drain_quiet"] = "keep"
    listeners = {name: {"bind": "127.0.0.1:0", "pool": name} for name in pools}
    with Balancer({"process": {"drain_timeout": "1h"}, "listeners": listeners, "pools": pools}) as lb:
        with contextlib.ExitStack() as stack:

            def quiet(listener: str) -> tuple[Peer, Peer]:
                client = stack.enter_context(connect(lb.address(listener)))
                server = stack.enter_context(backend.accept())
                client.send(b"question")
                assert server.receive(8) == b"question"
                answer(client, server)
                return client, server

            kept, drained, stopped = quiet("keeping"), quiet("closing"), quiet("closing")
            assert lb.request("PATCH", "/api/v1/pools/keeping/backends/b", {"state": "drain"})[0] == 200
            assert lb.request("PATCH", "/api/v1/pools/closing/backends/b", {"state": "drain"})[0] == 200
            # Those that were quiet for as long are gone.
            assert drained[0].read_all() == stopped[0].read_all() == b""
            answer(*kept)
            lb.signal(signal.SIGTERM)
            lb.wait_notified("STOPPING=1")
            wait_until(lambda: lb.status()["shutdown"] is not None)
            answer(*kept)
        lb.wait_exit()
        assert sorted(line["code"] for line in lb.access()) == ["--", "DD", "DD"]


def test_a_word_that_the_question_has_come_is_no_answer(backend: Backend) -> None:
    """As HTTP/2 does it, where a backend thinks about it for seconds then."""
    with Balancer(config(backend, "1h")) as lb, contextlib.ExitStack() as stack:
        client, server = in_a_turn(lb, backend, stack)
        server.send(b"heard")
        assert client.receive(5) == b"heard"
        wait_until(lambda: lb.sessions()[0]["phase"] == "quiet")
        lb.signal(signal.SIGTERM)
        lb.wait_log("stopping: no new clients; waiting for 1 session to end, 0 of them busy")
        observe(2)
        answer(client, server)
        answer(client, server)
        client.finish()
        server.finish()
        lb.wait_exit()
        assert [line["code"] for line in lb.access()] == ["--"]


def test_queued_clients_are_still_served_by_a_stopping_process(backend: Backend) -> None:
    pool = {"backends": [{"address": str(backend), "max_connections": 1}], "queue": {"size": 10, "timeout": "1h"}}
    with Balancer(config(backend, "1h", pools={"main": pool})) as lb, contextlib.ExitStack() as stack:
        address = lb.address("main")
        served = in_a_turn(lb, backend, stack)
        waiting = stack.enter_context(connect(address))
        waiting.send(b"question")
        wait_until(lambda: lb.status()["pools"]["main"]["queued"] == 1)
        lb.signal(signal.SIGTERM)
        wait_refused(address)
        answer(*served)
        with backend.accept() as server:
            assert server.receive(8) == b"question"
            answer(waiting, server)
            assert waiting.read_all() == b""
        lb.wait_exit()


def test_a_stopping_process_says_what_it_waits_for(backend: Backend) -> None:
    with Balancer(config(backend, "1h")) as lb, contextlib.ExitStack() as stack:
        assert lb.status()["shutdown"] is None
        client, server = in_a_turn(lb, backend, stack)
        quiet = in_a_turn(lb, backend, stack)
        answer(*quiet)
        lb.signal(signal.SIGTERM)
        lb.wait_notified("STOPPING=1")
        assert quiet[0].read_all() == b""
        wait_until(lambda: lb.status()["shutdown"]["sessions"] == 1)
        status = lb.status()
        assert status["stopping"] is True
        assert (status["shutdown"]["busy"], 0 < status["shutdown"]["left_s"] < 3600) == (1, True)
        assert lb.request("GET", "/readyz")[0] == 503
        assert lb.request("GET", "/healthz")[0] == 200
        assert lb.metric("l4lb_stopping") == 1
        lb.wait_log("stopping: waiting for 1 session to end, 1 of them busy, ")
        answer(client, server)
        lb.wait_exit()


def test_a_stop_may_wait_for_ever(backend: Backend) -> None:
    with Balancer(config(backend, "off")) as lb, contextlib.ExitStack() as stack:
        client, _ = in_a_turn(lb, backend, stack)
        quiet = in_a_turn(lb, backend, stack)
        answer(*quiet)
        lb.signal(signal.SIGTERM)
        lb.wait_notified("STATUS=waiting for 1 session to end, 1 of them busy")
        assert lb.status()["shutdown"]["left_s"] is None
        lb.signal(signal.SIGTERM)
        lb.wait_exit()
        assert client.broken()


def test_stop_without_sessions_is_immediate() -> None:
    with Served(echo) as served, Balancer(config(served, "1h")) as lb:
        lb.signal(signal.SIGTERM)
        lb.wait_exit()
        assert not lb.socket_path.exists()


@pytest.mark.parametrize("number", STOPS)
def test_second_signal_stops_at_once(number: int, backend: Backend) -> None:
    with Balancer(config(backend, "1h")) as lb, contextlib.ExitStack() as stack:
        client, _ = in_a_turn(lb, backend, stack)
        lb.signal(signal.SIGTERM)
        lb.wait_notified("STOPPING=1")
        assert lb.session_count() == 1
        lb.signal(number)
        lb.wait_exit()
        assert client.broken()
        assert [(line["code"], line["reason"]) for line in lb.access()] == [("KD", "shutdown")]
        assert "it was told to stop once more; 1 session did not end in time" in lb.log


def test_signals_that_come_while_it_ends_change_nothing() -> None:
    with Served(echo) as served, Balancer(config(served)) as lb:
        while lb.popen.poll() is None:
            for number in STOPS:
                lb.signal(number)
        lb.wait_exit()


@pytest.mark.parametrize("patience", ["0s", "300ms"])
def test_turns_are_waited_for_no_longer_than_the_drain_timeout(patience: str, backend: Backend) -> None:
    with Balancer(config(backend, patience)) as lb, contextlib.ExitStack() as stack:
        client, _ = in_a_turn(lb, backend, stack)
        lb.signal(signal.SIGTERM)
        lb.wait_exit()
        assert client.broken()
        assert [line["reason"] for line in lb.access()] == ["shutdown"]
        assert "process.drain_timeout is over; 1 session did not end in time" in lb.log
        assert lb.log.splitlines()[-1].endswith("stopped; 1 session had to be closed")


def test_clients_that_came_before_the_stop_are_served() -> None:
    """While the process stands still, clients queue, and then the signal comes."""
    with Served(echo) as served, Balancer(config(served)) as lb:
        address = lb.address("main")
        lb.signal(signal.SIGSTOP)
        try:
            clients = [connect(address) for _ in range(100)]
            lb.signal(signal.SIGTERM)
        finally:
            lb.signal(signal.SIGCONT)
        for client in clients:
            exchange(client)
            client.close()
        lb.wait_exit()


def test_no_configuration_is_taken_while_stopping(backend: Backend) -> None:
    with Balancer(config(backend)) as lb, contextlib.ExitStack() as stack:
        address = lb.address("main")
        turn = in_a_turn(lb, backend, stack)
        lb.signal(signal.SIGTERM)
        lb.wait_notified("STOPPING=1")
        wait_refused(address)
        status, body = lb.request("POST", "/api/v1/reload")
        assert status == 422
        assert "stopping" in body["error"]
        wait_refused(address)
        answer(*turn)
        lb.wait_exit()


def test_backend_that_refuses_while_stopping_is_retried_elsewhere() -> None:
    """A session that is still connecting belongs to those that are let end in their own time."""
    with Served(echo) as served, Balancer(config(served)) as lb:
        pools = {"main": {"backends": [{"address": "127.0.0.1:9", "name": "dead"}, str(served)], "retries": 2}}
        lb.reload(config(served, pools=pools))
        address = lb.address("main")
        lb.signal(signal.SIGSTOP)
        try:
            clients = [connect(address) for _ in range(4)]
            lb.signal(signal.SIGTERM)
        finally:
            lb.signal(signal.SIGCONT)
        for client in clients:
            exchange(client)
            client.close()
        lb.wait_exit()


def test_rotated_access_log_is_opened_again() -> None:
    with Served(echo) as served, Balancer(config(served)) as lb:
        address = lb.address("main")

        def session() -> None:
            with connect(address) as client:
                exchange(client)

        session()
        wait_until(lambda: len(list(lb.access())) == 1)
        rotated = lb.access_path.rename(lb.directory / "access.log.1")
        session()
        wait_until(lambda: rotated.read_text().count("\n") == 2)
        assert not lb.access_path.exists()
        lb.signal(signal.SIGUSR1)
        wait_until(lb.access_path.exists)
        session()
        wait_until(lambda: len(list(lb.access())) == 1)
        assert rotated.read_text().count("\n") == 2


def test_killed_session_is_closed_on_both_sides_and_logged_as_killed() -> None:
    with Served(echo) as served, Balancer(config(served)) as lb:
        address = lb.address("main")
        with connect(address) as victim:
            exchange(victim)
            (session,) = lb.sessions()
            with connect(address) as bystander:
                exchange(bystander)
                assert lb.request("DELETE", f"/api/v1/sessions/{session['session']}")[0] == 200
                wait_until(victim.broken)
                wait_until(lambda: len(list(lb.access())) == 1)
                (line,) = lb.access()
                assert (line["session"], line["code"], line["reason"]) == (session["session"], "KD", "killed")
                exchange(bystander)
                wait_until(lambda: len(served.live) == 1)
                assert lb.request("DELETE", f"/api/v1/sessions/{session['session']}")[0] == 404


def test_watchdog_hears_signs_of_life() -> None:
    with Served(echo) as served, Balancer(config(served), env={"WATCHDOG_USEC": "100000"}) as lb:
        for _ in range(3):
            lb.wait_notified("WATCHDOG=1")


def test_watchdog_hears_of_the_start_at_once() -> None:
    # An hour runs from the last sign of life, and that may have been a predecessor's.
    with Served(echo) as served, Balancer(config(served), env={"WATCHDOG_USEC": "3600000000"}) as lb:
        lb.wait_notified("WATCHDOG=1")


def test_watchdog_of_another_process_hears_nothing() -> None:
    env = {"WATCHDOG_USEC": "2000", "WATCHDOG_PID": "1"}
    with Served(echo) as served, Balancer(config(served), env=env) as lb:
        lb.reload()
        lb.wait_notified("READY=1")
        assert "WATCHDOG=1" not in lb.notified


def test_service_manager_hears_of_start_reload_and_stop() -> None:
    with Served(echo) as served, Balancer(config(served)) as lb:
        lb.signal(signal.SIGHUP)
        lb.wait_notified("RELOADING=1")
        lb.wait_notified("READY=1")
        lb.signal(signal.SIGTERM)
        lb.wait_notified("STOPPING=1")
        lb.wait_exit()


def test_start_that_fails_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    unix = tmp_path / "web.sock"
    with Served(echo) as served, listen() as taken, contextlib.closing(Balancer()) as lb:
        busy = spelled(address_of(taken))
        lb.write(config(served, listeners={"main": {"bind": [f"unix:{unix}", busy], "pool": "main"}}))
        lb.spawn()
        lb.wait_exit(1)
        assert lb.log.splitlines()[-1].endswith(
            f"listeners.main: cannot bind {busy}: Address already in use; stop what uses it, or choose another address"
        )
        assert not unix.exists()
        assert not lb.socket_path.exists()


def test_restart_takes_the_same_addresses_at_once(tmp_path: Path) -> None:
    with Served(echo) as served, listen() as reserve, contextlib.ExitStack() as stack:
        binds = [spelled(address_of(reserve)), f"unix:{tmp_path}/web.sock"]
        reserve.close()
        wanted = config(served, "0s", listeners={"main": {"bind": binds, "pool": "main"}})
        for _ in range(2):
            with Balancer(wanted) as lb:
                for bind in range(2):
                    exchange(stack.enter_context(connect(lb.address("main", bind))))


def test_sudden_death_leaves_nothing_that_hinders_the_next_start(tmp_path: Path) -> None:
    with Served(echo) as served:
        wanted = config(served, listeners={"main": {"bind": f"unix:{tmp_path}/web.sock", "pool": "main"}})
        with Balancer(wanted) as lb:
            lb.signal(signal.SIGKILL)
            lb.wait_exit(-signal.SIGKILL)
            assert lb.socket_path.exists()
            lb.start()
            with connect(lb.address("main")) as client:
                exchange(client)


def test_client_whose_proxy_header_is_still_coming_is_served_by_a_stopping_process() -> None:
    listener = {"bind": "127.0.0.1:0", "pool": "main", "proxy_protocol": {"from": ["127.0.0.0/8"]}}
    with Served(echo) as served, Balancer(config(served, listeners={"main": listener})) as lb:
        address = lb.address("main")
        with connect(address) as client:
            client.send(b"PROXY TCP4 192.0.2.1 192.0.2.2 ")
            wait_until(lambda: lb.session_count() == 1)
            lb.signal(signal.SIGTERM)
            lb.wait_log("stopping")
            wait_refused(address)
            client.send(b"1000 80\r\n")
            exchange(client)
        lb.wait_exit()
