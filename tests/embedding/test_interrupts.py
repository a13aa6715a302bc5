"""Ctrl-C in a program with an embedded balancer ends what the program waits for, and nothing else."""

from __future__ import annotations

import signal
import threading

import pytest

import l4lb
from tests.embedding.build import config
from tests.embedding.traffic import busy
from tests.helpers.peers import Backend, Background
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.usefixtures("clean")


def test_an_interrupt_ends_the_wait_for_sessions() -> None:
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        wait_until(lambda: lb.status().stopping)
        signal.pthread_kill(main, signal.SIGINT)

    with Backend() as backend, l4lb.Balancer(config(backend)) as lb, busy(lb, backend) as (client, _):
        interrupting = Background(interrupt)
        with pytest.raises(KeyboardInterrupt):
            lb.close(60)
        interrupting.result()
        client.ended()


def test_an_interrupt_ends_the_start() -> None:
    main = threading.main_thread().ident
    assert main is not None
    with Backend() as backend:

        def interrupt() -> None:
            with backend.accept():
                signal.pthread_kill(main, signal.SIGINT)

        interrupting = Background(interrupt)
        checked = {"health": {"type": "http", "timeout": 60, "interval": 60}}
        with pytest.raises(KeyboardInterrupt):
            l4lb.Balancer(config(backend, pool=checked)).start()
        interrupting.result()


def test_an_interrupt_ends_the_wait_for_a_backend_and_no_more() -> None:
    main = threading.main_thread().ident
    assert main is not None
    with Backend() as backend, l4lb.Balancer(config(backend)) as lb, busy(lb, backend) as (client, server):
        # The handler runs in the middle of the call, as Python's own does for Ctrl-C.
        before = signal.signal(signal.SIGALRM, signal.default_int_handler)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(KeyboardInterrupt):
                lb.drained("app/b0")
        finally:
            signal.signal(signal.SIGALRM, before)
        client.send(b"still here")
        assert server.receive(10) == b"still here"
