"""An HTTP server in the test's own loop, for the length of a block."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from tests.helpers.loops import turns

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[str]:
    """Serve every request with `handler`; the origin, such as http://127.0.0.1:1234."""
    transports: set[asyncio.Transport] = set()

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            transports.add(request.transport)
        return await handler(request)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls)
        await site.start()
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
        for transport in transports:
            # Over TLS, one that closes in good manners waits for the client to do so too; one that has done so may know
            # no connection any more (CPython before 3.11.4).
            with contextlib.suppress(AttributeError):
                transport.abort()
        await turns()
