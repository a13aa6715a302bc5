"""What record_http1.py asks ASGI servers for."""

from __future__ import annotations

import asyncio
import json
from typing import Any

JSON = (b"content-type", b"application/json")


async def respond(send: Any, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def stream(send: Any) -> None:
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for text in ("Hel", "lo", "[DONE]"):
        event = f"data: {text}\n\n".encode()
        await send({"type": "http.response.body", "body": event, "more_body": True})
        await asyncio.sleep(0.02)
    await send({"type": "http.response.body", "body": b""})


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        raise NotImplementedError
    received, more = 0, True
    while more:
        message = await receive()
        received += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = json.dumps({"object": "text_completion", "received": received}).encode()
    length = (b"content-length", str(len(body)).encode())
    match scope["path"]:
        case "/json":
            await respond(send, 200, [JSON, length], b"" if scope["method"] == "HEAD" else body)
        case "/stream":
            await stream(send)
        case "/empty":
            await respond(send, 204, [], b"")
        case "/same":
            await respond(send, 304, [(b"etag", b'"a"')], b"")
        case "/error":
            raise RuntimeError("as the client wants")
        case _:
            await respond(send, 404, [JSON], b'{"detail":"Not Found"}')
