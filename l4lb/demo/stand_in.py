"""A stand-in for a model server: it streams tokens like one, but sleeps instead of computing.

Run as `python -m l4lb.demo.stand_in NAME FD`, where FD is a listening socket to serve on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

MODEL = "stand-in"
BATCH_MAX = 16
"""Requests that run at once; the others wait, as in a model server with its memory full."""

PREFILL_SECONDS = (0.05, 0.3)
TOKEN_SECONDS = 0.03
TOKENS_DEFAULT = 16
TOKENS_MAX = 4096
SHUTDOWN_SECONDS = 1.0
WORDS = ("the", "model", "balances", "tokens", "over", "many", "small", "streams", "and", "waits")


class StandIn:
    """The routes of one server, and its numbers under vLLM's names."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._batch = asyncio.Semaphore(BATCH_MAX)
        self._registry = CollectorRegistry()
        self._running = Gauge(
            "vllm:num_requests_running", "Requests that run.", ["model_name"], registry=self._registry
        )
        self._waiting = Gauge(
            "vllm:num_requests_waiting", "Requests that wait.", ["model_name"], registry=self._registry
        )
        self._finished = Counter("vllm:request_success", "Finished requests.", ["model_name"], registry=self._registry)
        self._tokens = Counter("vllm:generation_tokens", "Generated tokens.", ["model_name"], registry=self._registry)

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes(
            [
                web.post("/v1/completions", self.complete),
                web.get("/health", self.health),
                web.get("/metrics", self.metrics),
            ]
        )
        return app

    async def health(self, _request: web.Request) -> web.Response:
        return web.Response(headers=self._headers())

    async def metrics(self, _request: web.Request) -> web.Response:
        for family in (self._running, self._waiting, self._finished, self._tokens):
            family.labels(MODEL)
        return web.Response(body=generate_latest(self._registry), content_type="text/plain", headers=self._headers())

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """OpenAI's `/v1/completions`, with `max_tokens` and `stream` only."""
        try:
            wanted = await request.json()
            tokens = min(max(int(wanted.get("max_tokens", TOKENS_DEFAULT)), 1), TOKENS_MAX)
            stream = bool(wanted.get("stream", False))
        except (ValueError, TypeError, AttributeError):
            return web.json_response({"error": {"message": "send a JSON object; max_tokens is a number"}}, status=400)
        async with self._turn():
            response = await self._stream(request, tokens) if stream else await self._whole(tokens)
        self._finished.labels(MODEL).inc()
        return response

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        with _counted(self._waiting.labels(MODEL)):
            await self._batch.acquire()
        try:
            with _counted(self._running.labels(MODEL)):
                yield
        finally:
            self._batch.release()

    async def _stream(self, request: web.Request, tokens: int) -> web.StreamResponse:
        response = web.StreamResponse(headers=self._headers() | {"Cache-Control": "no-store"})
        response.content_type = "text/event-stream"
        await response.prepare(request)
        async for word in self._generate(tokens):
            await response.write(b"data: " + json.dumps(_completion(f"{word} ")).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    async def _whole(self, tokens: int) -> web.Response:
        text = " ".join([word async for word in self._generate(tokens)])
        return web.json_response(_completion(text), headers=self._headers())

    async def _generate(self, tokens: int) -> AsyncIterator[str]:
        await asyncio.sleep(random.uniform(*PREFILL_SECONDS))
        for index in range(tokens):
            if index:
                await asyncio.sleep(TOKEN_SECONDS)
            self._tokens.labels(MODEL).inc()
            yield random.choice(WORDS)

    def _headers(self) -> dict[str, str]:
        return {"X-Served-By": self.name}


@contextlib.contextmanager
def _counted(gauge: Gauge) -> Iterator[None]:
    gauge.inc()
    try:
        yield
    finally:
        gauge.dec()


def _completion(text: str) -> dict[str, object]:
    return {
        "object": "text_completion",
        "created": int(time.time()),
        "model": MODEL,
        "choices": [{"index": 0, "text": text}],
    }


def main(name: str, fd: int) -> None:
    web.run_app(
        StandIn(name).app(),
        sock=socket.socket(fileno=fd),
        handler_cancellation=True,
        shutdown_timeout=SHUTDOWN_SECONDS,
        access_log=None,
        print=None,
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
