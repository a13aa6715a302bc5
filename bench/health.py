"""What health checks cost: CPU time, delay of the event loop, and whether checks keep their pace.

    python bench/health.py --backends 2000 --interval 1 --seconds 15

A server in a process of its own answers on as many addresses of 127.0.0.0/8 as there are backends. The scheduler and
the probes are those of the product, on the loop of the product, with nothing else in the process. There is no jitter,
so that every check that is not whole intervals after the one before is late.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import multiprocessing
import socket
import statistics
import time
from collections import defaultdict
from multiprocessing.connection import Connection

import uvloop

from l4lb.config.model import Health
from l4lb.health import scheduler as module
from l4lb.health.probes import NOBODY, Result, Subject, probe
from l4lb.health.scheduler import Check, Scheduler
from l4lb.net.target import Target
from l4lb.status import HealthState

CHECKS_AT_ONCE = 1024
WARM_UP = 3.0
LOOK = 0.005
"""Seconds between two looks at how late the loop is."""

ANSWERS = {"http": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "send_expect": b"+PONG\r\n"}


class Answering(asyncio.Protocol):
    def __init__(self, answer: bytes) -> None:
        self.answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.answer:
            self.transport.write(self.answer)  # type: ignore[attr-defined]


def serve(pipe: Connection, answer: bytes) -> None:
    async def main() -> None:
        sock = socket.create_server(("0.0.0.0", 0), backlog=4096)
        server = await asyncio.get_running_loop().create_server(lambda: Answering(answer), sock=sock)
        pipe.send(sock.getsockname()[1])
        await server.serve_forever()

    uvloop.run(main())


def settings(kind: str, interval: float) -> Health:
    more = {"script": {"send": "PING\r\n", "expect": "+PONG"}} if kind == "send_expect" else {}
    return Health.model_validate({"type": kind, "interval": interval, "timeout": 1.0, "jitter": 0.0} | more)


async def measure(kind: str, port: int, backends: int, interval: float, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    started: defaultdict[Target, list[float]] = defaultdict(list)
    failed, began = 0, math.inf

    async def noted(target: Target, health: Health, subject: Subject = NOBODY) -> Result:
        nonlocal failed
        started[target].append(loop.time())
        result = await probe(target, health, subject)
        failed += not result.ok and loop.time() >= began
        return result

    module.probe = noted
    targets = [
        Target(socket.AF_INET, (f"127.{1 + n // 65536}.{n // 256 % 256}.{n % 256}", port))
        for n in range(1, backends + 1)
    ]
    scheduler: Scheduler[Target] = Scheduler(lambda key, state, message: None, concurrency=CHECKS_AT_ONCE)
    health = settings(kind, interval)
    scheduler.apply({target: Check(target, health, HealthState.PENDING) for target in targets})
    await asyncio.sleep(WARM_UP + interval)
    began, cpu, lags = loop.time(), time.process_time(), []
    started.clear()
    while loop.time() < began + seconds:
        before = loop.time()
        await asyncio.sleep(LOOK)
        lags.append(loop.time() - before - LOOK)
    elapsed, cpu = loop.time() - began, time.process_time() - cpu
    await scheduler.close()
    done = sum(map(len, started.values()))
    # How far, at the end, a backend is from whole intervals after its first check.
    drifts = [abs(((starts[-1] - starts[0]) / interval + 0.5) % 1 - 0.5) * interval for starts in started.values()]
    lags.sort()
    print(
        f"{kind:12} {backends:8} {done / elapsed:9.0f} {backends / interval:9.0f} {failed:8} "
        f"{100 * cpu / elapsed:6.1f}% {1e6 * cpu / done:7.0f} {1e3 * lags[len(lags) // 2]:8.2f} "
        f"{1e3 * lags[len(lags) * 99 // 100]:8.2f} {1e3 * lags[-1]:8.2f} {1e3 * statistics.median(drifts):8.1f} "
        f"{1e3 * max(drifts):8.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", type=int, default=2000)
    parser.add_argument("--interval", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--types", nargs="+", default=["tcp", "http", "send_expect"])
    given = parser.parse_args()
    print(f"{'checks/s':>31} {'µs of':>32}   delay of the loop, ms      drift, ms")
    print(
        "type         backends      done       due   failed    CPU a check   median      p99      max   median      max"
    )
    for kind in given.types:
        ours, theirs = multiprocessing.Pipe()
        server = multiprocessing.Process(target=serve, args=(theirs, ANSWERS.get(kind, b"")), daemon=True)
        server.start()
        uvloop.run(measure(kind, ours.recv(), given.backends, given.interval, given.seconds))
        server.terminate()
        server.join()


if __name__ == "__main__":
    main()
