"""An interpreter that stands still delays no client: the data plane does not need it."""

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
from tests.helpers.waiting import wait_until

STAND_STILL = """
import ctypes, os, sys
from l4lb.cli import main
from l4lb.process.daemon import Daemon

def stand_still(self):
    fifo = os.environ["L4LB_TEST_FIFO"]
    open(fifo + ".reached", "w").close()
    # PyDLL keeps the interpreter's lock: until the test opens the other end, no line of Python runs.
    ctypes.PyDLL(None).open(fifo.encode(), os.O_RDONLY)

Daemon._reopen_logs = stand_still
sys.argv = ["l4lb", *sys.argv[sys.argv.index("l4lb") + 1:]]
main()
"""
"""Takes the command line of the real process, and stands still when it gets SIGUSR1."""


def config(backend: object) -> Json:
    return {
        "listeners": {"main": {"bind": "127.0.0.1:0", "pool": "main"}},
        "pools": {"main": {"backends": [str(backend)], "timeouts": {"idle": "1s"}}},
    }


def exchange(peer: Peer, data: bytes = b"hello") -> None:
    peer.send(data)
    assert peer.receive(len(data)) == data


@contextlib.contextmanager
def standing_still(lb: Balancer, fifo: Path) -> Iterator[None]:
    """The interpreter of the balancer runs nothing for the length of the block."""
    lb.signal(signal.SIGUSR1)
    wait_until(fifo.with_suffix(".reached").exists)
    try:
        with pytest.raises(TimeoutError):
            lb.request("GET", "/healthz", deadline=0.2)
        yield
    finally:
        os.close(os.open(fifo, os.O_WRONLY))


def test_interpreter_that_stands_still_delays_no_client(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with (
        Served(echo) as served,
        Balancer(
            config(served),
            prefix=(sys.executable, "-c", STAND_STILL),
            env={"L4LB_TEST_FIFO": str(fifo)},
        ) as lb,
        contextlib.ExitStack() as stack,
    ):
        address = lb.address("main")
        established = stack.enter_context(connect(address))
        idle = stack.enter_context(connect(address))
        exchange(established)
        exchange(idle)
        with standing_still(lb, fifo):
            # Sessions go on, new ones begin and end, bulk flows, timers fire.
            for number in range(300):
                exchange(established, b"%d" % number)
                with connect(address) as client:
                    exchange(client)
                    client.finish()
                    assert client.read_all() == b""
            wait_until(idle.broken)
        exchange(established)
        assert lb.status()["listeners"]["main"]["connections_total"] == 302
        wait_until(lambda: sum(line["code"] == "--" for line in lb.access()) == 300)
