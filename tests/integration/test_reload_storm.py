"""Hundreds of reloads under load: nothing is lost, nothing grows, established sessions do not notice."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest

from tests.health.certificates import SecureServer, authority
from tests.helpers.balancer import Balancer
from tests.helpers.keepalive import LATE, SLOW, Crowd, respond
from tests.helpers.leaks import holdings, resident_bytes
from tests.helpers.load import Load
from tests.helpers.peers import Background, Peer, Served, connect, echo
from tests.helpers.waiting import settled, wait_until
from tests.helpers.weather import Weather, storm_config

RELOADS = int(os.environ.get("STORM_RELOADS", "200"))
WARM_UP = 50
TURN_SECONDS = 0.5
"""A reload on a busy machine, at most."""

MIB = 1 << 20

POOLED_THREADS = 16
"""More than the helper threads that stay for the next piece of work, fewer than one for each reload."""


# Python's ssl leaves the socket of a peer that is reset at just the wrong moment for the garbage.
@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
@pytest.mark.timeout(120 + RELOADS * TURN_SECONDS)
@pytest.mark.parametrize("by", ["api", "signal"])
def test_storm_loses_nothing_and_grows_nothing(by: str, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        backends = [stack.enter_context(Served(echo)) for _ in range(3)]
        trusted = authority(tmp_path)
        secure = stack.enter_context(SecureServer(trusted.server_context("b.test"), echo))
        answering = stack.enter_context(Served(respond))
        weather = Weather(tmp_path, [str(backend) for backend in backends], str(secure), trusted.file, str(answering))
        lb = stack.enter_context(Balancer(weather.config(0)))

        def reload(turn: int) -> None:
            if by == "api":
                lb.reload(weather.config(turn))
                lb.hear()
                return
            lb.write(weather.config(turn))
            lb.signal(signal.SIGHUP)
            lb.wait_notified("READY=1")
            assert lb.status()["config"]["last_reload_ok"], lb.log

        held = [stack.enter_context(connect(lb.address("main"))) for _ in range(4)]
        for client in held:
            _exchange(client)
        before = settled(lambda: holdings(lb.pid))
        load = Load(lb.address("main"))
        readers = Crowd(lb.address("answers"), SLOW, LATE)
        for turn in range(WARM_UP):
            reload(turn)
        memory = resident_bytes(lb.pid)
        address = lb.address("main")
        for turn in range(WARM_UP, RELOADS):
            reload(turn)
            if turn % WARM_UP == 0:
                # Servers of tests are not patient with clients that are silent.
                for client in held:
                    _exchange(client)
        # As at the start, so everything has to be as it was.
        reload(0)
        assert load.alive()
        readers.finish()
        assert all(reader.requests > 0 for reader in readers.clients)
        assert resident_bytes(lb.pid) - memory < 12 * MIB
        assert lb.address("main") == address
        sessions = load.stop()
        assert min(load.streamed) > 0
        for client in held:
            _exchange(client)
        wait_until(lambda: lb.session_count() == len(held))
        # Reclaimer may be asking a worker something at any moment, through a descriptor of its own.
        for kind in ("sockets", "other"):
            wait_until(
                lambda k=kind: getattr(holdings(lb.pid), k) == getattr(before, k),  # type: ignore[misc]
                what=lambda: f"{before}, {holdings(lb.pid)}",
            )
        assert holdings(lb.pid).threads <= before.threads + POOLED_THREADS
        status = lb.status()
        assert status["listeners"]["main"]["connections_total"] == sessions + len(held)
        closed = {
            reason: sum(codes.values())
            for reason, codes in status["pools"]["main"]["closed_total"].items()
            if any(codes.values())
        }
        assert closed == {"normal": sessions}
        wait_until(lambda: sum(line["pool"] == "main" for line in lb.access()) == sessions)
        backends_of_main = {line["backend"] for line in lb.access() if line["pool"] == "main"}
        assert backends_of_main <= {"first", "second", "third"}
        for client in held:
            client.close()


def _exchange(client: Peer) -> None:
    client.send(b"held")
    assert client.receive(4) == b"held"


def test_signals_in_a_row_are_served_together_and_the_last_file_counts() -> None:
    with contextlib.ExitStack() as stack:
        backends = [stack.enter_context(Served(echo)) for _ in range(3)]
        lb = stack.enter_context(Balancer(storm_config(0, *backends)))
        for turn in range(1, 60):
            lb.write(storm_config(turn, *backends))
            lb.signal(signal.SIGHUP)
        wanted = {backend["name"] for backend in storm_config(59, *backends)["pools"]["main"]["backends"]}
        wait_until(
            lambda: lb.status()["pools"]["main"]["backends"].keys() == wanted and "extra" in lb.status()["pools"]
        )
        assert lb.status()["config"]["last_reload_ok"]


def test_reloads_asked_for_at_once_all_get_an_answer() -> None:
    with Served(echo) as served, Balancer(storm_config(0, served, served, served)) as lb:
        asking = [Background(lambda: lb.request("POST", "/api/v1/reload")[0]) for _ in range(24)]
        assert [one.result() for one in asking] == [200] * 24
