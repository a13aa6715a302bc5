"""Inferences through the balancer while one of two replicas is killed: who answered them, and was any lost?

Run `python run.py [INFERENCES]`. It exits with 0 if all were answered and the kill cost only what was in flight.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import click

HERE = Path(__file__).resolve().parent
HOST = os.environ.get("HOST", "127.0.0.1")
URL = f"http://{HOST}:8080"
REPLICAS = {"replica-1": 9101, "replica-2": 9102}
VICTIM = "replica-2"
INFERENCES = 400
CONCURRENCY = 16
ATTEMPTS_MAX = 3
START_SECONDS = 40.0
STOP_SECONDS = 10.0
POLL_SECONDS = 0.1
TIMEOUT = aiohttp.ClientTimeout(total=30)

SAMPLES = {
    "python": (HERE / "server.py").read_bytes(),
    "yaml": (HERE / "l4lb.yaml").read_bytes(),
    "html": b"<!doctype html><html><head><title>Replicas</title></head><body><h1>Replicas</h1></body></html>",
    "shell": b"#!/bin/sh\nset -e\nfor port in 9101 9102; do\n  curl -fsS http://127.0.0.1:$port/health\ndone\n",
    "c": b'#include <stdio.h>\n\nint main(void)\n{\n    puts("hello");\n    return 0;\n}\n',
    "sql": b"SELECT name, port FROM replicas WHERE healthy = 1 ORDER BY name;\nDELETE FROM replicas;\n",
}
"""What the model is asked about, by the label it should find."""


@dataclass(slots=True)
class Tally:
    """What the clients saw.

    `half` says that the victim is about to be killed, and `killed` is when it was gone for certain, on the monotonic
    clock. Only attempts that were under way in between may have been in flight on it; no other one must fail.
    """

    answers: Counter[str] = field(default_factory=Counter)
    wrong: int = 0
    in_flight_lost: int = 0
    other_lost: int = 0
    unanswered: int = 0
    killed: float | None = None
    answers_before_kill: int = 0
    half: asyncio.Event = field(default_factory=asyncio.Event)

    def lose(self, began: float) -> None:
        if self.half.is_set() and (self.killed is None or began <= self.killed):
            self.in_flight_lost += 1
        else:
            self.other_lost += 1


async def infer(http: aiohttp.ClientSession, label: str, tally: Tally) -> None:
    """One inference. Asking twice does no harm, so it is asked again when its replica dies under it."""
    for _ in range(ATTEMPTS_MAX):
        began = time.monotonic()
        try:
            async with http.post("/predict", data=SAMPLES[label]) as response:
                answer = await response.json()
        except (aiohttp.ClientError, TimeoutError):
            tally.lose(began)
            continue
        tally.answers[answer["replica"]] += 1
        tally.wrong += answer["label"] != label
        return
    tally.unanswered += 1


async def send(inferences: int, victim: asyncio.subprocess.Process) -> Tally:
    """All inferences from concurrent clients; the victim is killed when half of them are answered."""
    tally = Tally()
    labels = itertools.islice(itertools.cycle(SAMPLES), inferences)

    async def client(http: aiohttp.ClientSession) -> None:
        for label in labels:
            await infer(http, label, tally)
            if tally.answers.total() >= inferences // 2:
                tally.half.set()

    async def kill() -> None:
        await tally.half.wait()
        tally.answers_before_kill = tally.answers[VICTIM]
        victim.kill()
        await victim.wait()
        tally.killed = time.monotonic()

    # A connection for each inference: the balancer works on connections, so each of them is balanced.
    connector = aiohttp.TCPConnector(force_close=True, limit=CONCURRENCY)
    async with (
        aiohttp.ClientSession(URL, connector=connector, timeout=TIMEOUT, raise_for_status=True) as http,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(kill())
        for _ in range(CONCURRENCY):
            group.create_task(client(http))
    return tally


@contextlib.asynccontextmanager
async def process(*command: str, **environ: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A Python module as a child process for the length of the block."""
    child = await asyncio.create_subprocess_exec(sys.executable, "-m", *command, cwd=HERE, env=os.environ | environ)
    try:
        yield child
    finally:
        if child.returncode is None:
            child.terminate()
        try:
            await asyncio.wait_for(child.wait(), STOP_SECONDS)
        except TimeoutError:
            child.kill()
            await child.wait()


def replica(name: str, port: int) -> contextlib.AbstractAsyncContextManager[asyncio.subprocess.Process]:
    return process("uvicorn", "server:app", "--host", HOST, "--port", str(port), "--log-level", "warning", REPLICA=name)


async def wait_up(socket_path: str) -> None:
    """Wait until the balancer has found every replica healthy."""
    connector = aiohttp.UnixConnector(path=socket_path)
    async with asyncio.timeout(START_SECONDS), aiohttp.ClientSession("http://localhost", connector=connector) as admin:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with admin.get("/api/v1/status") as response:
                    backends = (await response.json())["pools"]["magika"]["backends"]
                if all(backend["health"] == "up" for backend in backends.values()):
                    return
            await asyncio.sleep(POLL_SECONDS)


async def main(inferences: int) -> int:
    async with contextlib.AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        replicas = {name: await stack.enter_async_context(replica(name, port)) for name, port in REPLICAS.items()}
        socket_path = f"{directory}/admin.sock"
        await stack.enter_async_context(process("l4lb", "run", "-c", str(HERE / "l4lb.yaml"), L4LB_SOCKET=socket_path))
        try:
            await wait_up(socket_path)
        except TimeoutError:
            raise SystemExit(
                f"not up after {START_SECONDS:g} s: are ports 8080, 9101 and 9102 of {HOST} free?"
            ) from None
        tally = await send(inferences, replicas[VICTIM])
    report(inferences, tally)
    return 0 if tally.answers.total() == inferences and not (tally.wrong or tally.other_lost) else 1


def report(inferences: int, tally: Tally) -> None:
    click.echo(f"answered                 {tally.answers.total():>5} of {inferences}, {tally.wrong} of them wrong")
    for name in REPLICAS:
        note = f" ({tally.answers_before_kill} when it was killed)" if name == VICTIM else ""
        click.echo(f"  by {name:<20}{tally.answers[name]:>5}{note}")
    click.echo(f"in flight when killed    {tally.in_flight_lost:>5} (sent again by the client)")
    click.echo(f"lost before or after it  {tally.other_lost:>5}")
    click.echo(f"never answered           {tally.unanswered:>5}")


if __name__ == "__main__":
    sys.exit(asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else INFERENCES)))
