"""A model server that streams tokens as server-sent events, on uvicorn: HOST PORT NAME.

It stands for vLLM: the same paths, and metrics of the same names. Streams go on until SIGUSR1.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

TOKEN_SECONDS = 0.02
END = b"data: [DONE]\n\n"
KEPT_SECONDS = 60
"""How long a quiet connection is kept. No less than a test takes: a close by the balancer is what they look for."""


def token(stream: str, index: int) -> bytes:
    """The bytes of one token; no two are alike."""
    return f'data: {{"id": "{stream}", "choices": [{{"index": 0, "text": " token {index}"}}]}}\n\n'.encode()


class TokenServer:
    def __init__(self, name: str) -> None:
        self._name = name
        self._running = 0
        self._steps = 0
        self._ending = False

    def end(self) -> None:
        """Let all streams come to their end."""
        self._ending = True

    @property
    def application(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/health", self._health),
                Route("/metrics", self._metrics),
                Route("/v1/completions", self._complete, methods=["POST"]),
            ]
        )

    async def _health(self, _request: Request) -> Response:
        return Response()

    async def _metrics(self, _request: Request) -> Response:
        numbers = {
            "vllm:num_requests_waiting": 0,
            "vllm:num_requests_running": self._running,
            "vllm:kv_cache_usage_perc": 0,
            "vllm:iteration_tokens_total_count": self._steps,
        }
        return PlainTextResponse("".join(f"{name} {number}\n" for name, number in numbers.items()))

    async def _complete(self, request: Request) -> Response:
        asked = await request.json()
        headers = {"X-Replica": self._name}
        if asked["stream"]:
            tokens = self._tokens(asked["prompt"])
            return StreamingResponse(tokens, media_type="text/event-stream", headers=headers)
        return JSONResponse({"text": asked["prompt"].upper()}, headers=headers)

    async def _tokens(self, stream: str) -> AsyncIterator[bytes]:
        self._running += 1
        try:
            index = 0
            while not self._ending:
                yield token(stream, index)
                index += 1
                self._steps += 1
                await asyncio.sleep(TOKEN_SECONDS)
            yield END
        finally:
            self._running -= 1


async def main(host: str, port: int, name: str) -> None:
    tokens = TokenServer(name)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, tokens.end)
    config = uvicorn.Config(
        tokens.application, host, port, log_level="error", timeout_keep_alive=KEPT_SECONDS, timeout_graceful_shutdown=1
    )
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
