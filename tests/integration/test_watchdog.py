"""What the service manager hears while parts of the process stand still: a restart would end every session."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.balancer import Balancer, Json
from tests.helpers.peers import Peer, Served, connect, echo
from tests.helpers.stuck import stuck
from tests.helpers.upgrades import taking_care_of_orphans, upgrade
from tests.helpers.waiting import wait_until
from tests.integration.test_stop_control import STAND_STILL

WATCHDOG_US = 300_000
PINGS = 3
"""In the time that the service manager waits for one."""

SIGN = "WATCHDOG=1"
STUCK = "stuck worker"


def config(backend: object) -> Json:
    return {
        "listeners": {"main": {"bind": "127.0.0.1:0", "pool": "main"}},
        "pools": {"main": {"backends": [str(backend)]}},
    }


def exchange(peer: Peer) -> None:
    peer.send(b"hello")
    assert peer.receive(5) == b"hello"


@contextlib.contextmanager
def standing_still(lb: Balancer, fifo: Path) -> Iterator[None]:
    """The interpreter of the balancer runs nothing for the length of the block: its lock is held."""
    lb.signal(signal.SIGUSR1)
    wait_until(fifo.with_suffix(".reached").exists)
    lb.forget_notified()
    try:
        yield
    finally:
        os.close(os.open(fifo, os.O_WRONLY))


def test_a_control_plane_that_stands_still_costs_no_session(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    env = {"L4LB_TEST_FIFO": str(fifo), "WATCHDOG_USEC": str(WATCHDOG_US)}
    prefix = (sys.executable, "-c", STAND_STILL)
    with Served(echo) as served, Balancer(config(served), prefix=prefix, env=env) as lb:
        address = lb.address("main")
        with connect(address) as established:
            with standing_still(lb, fifo):
                # For three times as long as the service manager waits for one.
                for _ in range(3 * PINGS + 1):
                    lb.wait_notified(SIGN)
                    exchange(established)
                    with connect(address) as client:
                        exchange(client)
            exchange(established)


@pytest.mark.slow
def test_a_worker_that_is_stuck_ends_the_signs_of_life() -> None:
    with Served(echo) as served, Balancer(config(served), env={"WATCHDOG_USEC": str(WATCHDOG_US)}) as lb:
        lb.wait_notified(SIGN)
        with stuck(lb.popen.pid, "l4lb-worker-1"):
            wait_until(lambda: lb.log.count(STUCK) >= 2, 30)
            lb.forget_notified()
            wait_until(lambda: lb.log.count(STUCK) >= 4, 30)
            assert not lb.said(SIGN)
        lb.wait_notified(SIGN)


def test_the_successor_takes_over_the_signs_of_life() -> None:
    """The service manager would not listen to the process that was replaced."""
    env = {"WATCHDOG_USEC": str(WATCHDOG_US)}
    with (
        taking_care_of_orphans(),
        Served(echo) as served,
        Balancer(config(served), env=env) as lb,
        connect(lb.address("main")) as client,
    ):
        exchange(client)
        old = upgrade(lb)
        names = [path.read_text().strip() for path in Path(f"/proc/{old.pid}/task").glob("*/comm")]
        assert "l4lb-watchdog" not in names
        assert "l4lb-worker-0" in names
        lb.forget_notified()
        for _ in range(PINGS):
            lb.wait_notified(SIGN)
