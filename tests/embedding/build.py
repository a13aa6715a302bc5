"""Configurations of embedded balancers, and what a program holds before and after one."""

from __future__ import annotations

import asyncio
import contextlib
import operator
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple
from typing import Any

import uvloop

import l4lb
from tests.helpers.leaks import holdings
from tests.helpers.scene import BackendLike, backend_entry
from tests.helpers.waiting import wait_until

LOOPS: Mapping[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def config(
    *backends: BackendLike,
    listener: Mapping[str, Any] | None = None,
    pool: Mapping[str, Any] | None = None,
    **sections: Any,
) -> dict[str, Any]:
    """One listener `web` before one pool `app`, whose backends are b0, b1, ... unless they carry a name."""
    entries = [backend_entry(backend, f"b{index}") for index, backend in enumerate(backends)]
    data: dict[str, Any] = {
        "listeners": {"web": {"bind": "127.0.0.1:0", "pool": "app"} | dict(listener or {})},
        "pools": {"app": {"backends": entries} | dict(pool or {})},
    }
    return data | sections


def warm_up() -> None:
    """What is loaded and opened once for all balancers of a process is there after that."""
    with l4lb.Balancer(config()) as lb:
        lb.metrics()
    for make_loop in LOOPS.values():
        with asyncio.Runner(loop_factory=make_loop) as runner:
            runner.run(asyncio.sleep(0))


@contextlib.contextmanager
def spotless() -> Iterator[None]:
    """There are no more threads, sockets, pipes and other descriptors than before, in Python and out of it."""
    threads, before = set(threading.enumerate()), holdings(os.getpid())

    def back() -> bool:
        now = holdings(os.getpid())
        return set(threading.enumerate()) <= threads and all(map(operator.le, astuple(now), astuple(before)))

    yield
    wait_until(back, what=lambda: f"before {before}, {threads}; now {holdings(os.getpid())}, {threading.enumerate()}")
