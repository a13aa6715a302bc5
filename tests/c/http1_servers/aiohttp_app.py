"""What record_http1.py asks aiohttp for: `aiohttp_app.py PORT`."""

from __future__ import annotations

import asyncio
import sys

from aiohttp import web


async def completion(request: web.Request) -> web.Response:
    return web.json_response({"object": "text_completion", "received": len(await request.read())})


async def stream(request: web.Request) -> web.StreamResponse:
    await request.read()
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    for text in ("Hel", "lo", "[DONE]"):
        await response.write(f"data: {text}\n\n".encode())
        await asyncio.sleep(0.02)
    await response.write_eof()
    return response


async def empty(_: web.Request) -> web.Response:
    return web.Response(status=204)


async def same(_: web.Request) -> web.Response:
    return web.Response(status=304, headers={"ETag": '"a"'})


async def error(_: web.Request) -> web.Response:
    raise RuntimeError("as the client wants")


app = web.Application()
app.router.add_route("*", "/json", completion)
app.router.add_route("*", "/stream", stream)
app.router.add_route("*", "/empty", empty)
app.router.add_route("*", "/same", same)
app.router.add_route("*", "/error", error)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
