"""Peers whose host is gone: the kernel finds out within seconds, the other side is told, and the books are exact."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.helpers.balancer import Balancer, Json
from tests.helpers.leaks import holdings
from tests.helpers.network import INSIDE, OUTSIDE, Network, cabled, vanish
from tests.helpers.peers import Address, Backend, End, Peer, connect
from tests.helpers.waiting import DEADLINE, observe, settled, wait_until

PROBES = {"keepalive": "1s", "keepalive_interval": "1s", "keepalive_probes": 1}
STUCK = {"user_timeout": "1s"}

QUESTION = b"q" * 100
ANSWER = b"a" * 100


class Place:
    """A balancer INSIDE, with the client or the backend OUTSIDE, behind the cable. Only TCP can notice that one left:
    every deadline of the session is far away."""

    def __init__(self, far: str, tcp: Json, stack: ExitStack) -> None:
        self.inside, self.outside = stack.enter_context(cabled())
        self.stack = stack
        self.far = far
        with self._home("backend").entered():
            host = OUTSIDE if far == "backend" else INSIDE
            self.backend = stack.enter_context(Backend(host, receive_buffer=8192))
        pool: Json = {
            "backends": [{"name": "b0", "address": str(self.backend)}],
            "retries": 0,
            "timeouts": {"connect": "1m"},
        }
        main: Json = {"bind": f"{INSIDE}:0", "pool": "main"}
        (pool if far == "backend" else main)["tcp"] = tcp
        with self.inside.entered():
            self.lb = stack.enter_context(Balancer({"listeners": {"main": main}, "pools": {"main": pool}}))
        self.address: Address = self.lb.address("main")
        self.before = settled(lambda: holdings(self.lb.pid))

    def _home(self, peer: str) -> Network:
        return self.outside if peer == self.far else self.inside

    def connect(self) -> Peer:
        with self._home("client").entered():
            return self.stack.enter_context(connect(self.address, receive_buffer=8192))

    def pair(self) -> tuple[Peer, Peer]:
        """A client and its backend's end, after a first turn."""
        client = self.connect()
        server = self.stack.enter_context(self.backend.accept())
        client.send(QUESTION)
        assert server.receive(len(QUESTION)) == QUESTION
        server.send(ANSWER)
        assert client.receive(len(ANSWER)) == ANSWER
        return client, server

    def vanish(self) -> None:
        vanish(self.outside, INSIDE)

    def assert_over(self, code: str, reason: str) -> Json:
        """Everything is counted once, nothing is held any more, and the log says why."""
        lb = self.lb
        wait_until(lambda: lb.session_count() == 0, what=lb.sessions)
        assert lb.metric("l4lb_closed_total") == lb.metric("l4lb_closed_total", reason=reason, code=code) == 1
        assert lb.metric("l4lb_listener_connections") == lb.metric("l4lb_backend_connections") == 0
        assert lb.metric("l4lb_backend_busy") == 0
        wait_until(lambda: list(lb.access()))
        (line,) = lb.access()
        assert (line["code"], line["reason"]) == (code, reason)
        wait_until(lambda: holdings(lb.pid) == self.before, what=lambda: f"{self.before}, now {holdings(lb.pid)}")
        return line


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def reset_of(far: str) -> tuple[str, str]:
    return ("CD", "client_lost") if far == "client" else ("SD", "server_lost")


@pytest.mark.parametrize("far", ["client", "backend"])
def test_lost_peer_of_a_silent_session_is_found_by_probes(stack: ExitStack, far: str) -> None:
    place = Place(far, PROBES, stack)
    client, server = place.pair()
    place.vanish()
    assert (server if far == "client" else client).ended() is End.RESET
    line = place.assert_over(*reset_of(far))
    assert (line["bytes_in"], line["bytes_out"], line["backend"]) == (len(QUESTION), len(ANSWER), "b0")


def test_peer_that_the_network_calls_unreachable_is_lost_too(stack: ExitStack) -> None:
    """No host responds for its address any more, so the kernel gives up with another error than a timeout."""
    place = Place("client", {"user_timeout": "5s"}, stack)
    _, server = place.pair()
    place.outside.run("ip", "link", "set", "wire", "arp", "off")
    place.inside.run("ip", "neigh", "flush", "dev", "wire")
    server.send(ANSWER)
    wait_until(server.broken, 2 * DEADLINE)
    place.assert_over("CD", "client_lost")


@pytest.mark.parametrize("far", ["client", "backend"])
def test_lost_peer_that_had_finished_is_found_by_probes(stack: ExitStack, far: str) -> None:
    """After its FIN nothing is read from it, so no read shows the error."""
    place = Place(far, PROBES, stack)
    client, server = place.pair()
    lost, left = (client, server) if far == "client" else (server, client)
    lost.finish()
    assert left.ended() is End.FIN
    place.vanish()
    wait_until(left.broken)
    place.assert_over(*reset_of(far))


@pytest.mark.parametrize("far", ["client", "backend"])
def test_lost_peer_is_found_in_the_middle_of_a_transfer_to_it(stack: ExitStack, far: str) -> None:
    """What was sent is never acknowledged: without a user timeout it would be sent again for 15 minutes."""
    place = Place(far, PROBES | STUCK, stack)
    client, server = place.pair()
    lost, left = (client, server) if far == "client" else (server, client)
    left.fill(1, quiet=0.1)
    lost.receive_pattern(1, 10_000)
    place.vanish()
    wait_until(left.broken)
    place.assert_over(*reset_of(far))


@pytest.mark.parametrize("far", ["client", "backend"])
def test_peer_that_lives_but_takes_nothing_counts_as_lost_with_a_user_timeout(stack: ExitStack, far: str) -> None:
    place = Place(far, STUCK, stack)
    client, server = place.pair()
    left = server if far == "client" else client
    left.fill(1, quiet=0.1)
    wait_until(left.broken)
    place.assert_over(*reset_of(far))


@pytest.mark.parametrize("far", ["client", "backend"])
def test_peer_that_answers_probes_is_kept_however_silent(stack: ExitStack, far: str) -> None:
    place = Place(far, PROBES, stack)
    client, server = place.pair()
    observe(3.5)
    client.send(QUESTION)
    assert server.receive(len(QUESTION)) == QUESTION
    client.close()
    server.close()
    place.assert_over("--", "normal")


def test_user_timeout_bounds_connecting_too(stack: ExitStack) -> None:
    place = Place("backend", STUCK, stack)
    place.vanish()
    client = place.connect()
    assert client.ended() is End.FIN
    place.assert_over("sC", "connect_timeout")
    assert place.lb.metric("l4lb_backend_connect_timeouts_total") == 1
