"""The admin HTTP server: everything over the unix socket, reading only over TCP.

Handlers run on the control loop and only call `Control`. Work that is slow for a big fleet (rendering metrics, dumping
JSON) runs on a thread of its own, so that a scrape does not delay a health check.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import socket
import zlib
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

from aiohttp import hdrs, web

from l4lb.admin import metrics, readiness, views
from l4lb.admin.accepting import Acceptor, Reserve
from l4lb.admin.backends import Backends
from l4lb.admin.connections import ANSWER_TIMEOUT, REQUEST_TIMEOUT, ConnectionGuard, ConnectionLimits
from l4lb.admin.encoding import accepts_gzip
from l4lb.admin.hosts import is_expected
from l4lb.admin.listening import TCP, UNIX, Listening
from l4lb.admin.protocol import UNREADABLE, Protocol, error_answer
from l4lb.base.text import clipped, quoted
from l4lb.config.address import Address
from l4lb.errors import ControlError
from l4lb.sockets.inherited import Inherited
from l4lb.status import Control

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

BODY_BYTES_MAX = 64 * 1024
LINE_BYTES_MAX = 8190
# For each socket: even if scrapers fill the TCP one, the operator can connect to the unix one.
CONNECTIONS_MAX = 64
OF_ONE_ADDRESS_MAX = {UNIX: CONNECTIONS_MAX, TCP: CONNECTIONS_MAX // 2}
SHUTDOWN_TIMEOUT = 2.0
COMPRESS_FROM = 16 * 1024
SAFE_METHODS = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})

_log = logging.getLogger(__name__)


class AdminServer:
    """Serves `control` on a unix socket, a TCP address, both, or neither. Takes over `inherited` sockets of these
    addresses."""

    def __init__(
        self,
        control: Control,
        socket_path: str | None,
        listen: Address | None,
        inherited: Inherited | None = None,
        hosts: Sequence[str] = (),
    ) -> None:
        self._control = control
        self._hosts = hosts
        self._reserve = Reserve()
        self._listening = Listening(socket_path, listen, inherited or Inherited())
        self._process_metrics = metrics.ProcessMetrics()
        self._executor = ThreadPoolExecutor(1, "l4lb-admin")
        self._runner = web.AppRunner(
            self._application(),
            access_log=None,
            shutdown_timeout=SHUTDOWN_TIMEOUT,
        )
        self._doors: dict[str, ConnectionLimits] = {}
        self._acceptors: dict[str, Acceptor] = {}

    @property
    def tcp_address(self) -> tuple[str, int] | None:
        """The address of the TCP socket, with the port the kernel chose for port 0."""
        for sock in self._listening.sockets.values():
            name = sock.getsockname()
            if isinstance(name, tuple):
                return name[0], name[1]
        return None

    @property
    def listening(self) -> Listening:
        return self._listening

    @property
    def resources(self) -> list[web.AbstractResource]:
        """Every path with its routes. The description of the API is made of them and of their handlers' docstrings."""
        return list(self._runner.app.router.resources())

    async def start(self) -> None:
        """Accept requests. StartError when an address cannot be used; nothing is left open then."""
        try:
            self.listen()
            await self.serve()
        except BaseException:
            await self.close()
            raise

    def listen(self) -> None:
        """Open the sockets; requests wait until `serve`. StartError when an address cannot be used."""
        self._listening.open()

    async def serve(self) -> None:
        """Accept requests on the open sockets."""
        if self._runner.server is None:
            await self._runner.setup()
        for name, sock in self._listening.sockets.items():
            self._open(name, sock)

    def _open(self, name: str, listening: socket.socket) -> None:
        server = self._runner.server
        assert server is not None
        door = self._doors.setdefault(
            name, ConnectionLimits(name, name == UNIX, CONNECTIONS_MAX, OF_ONE_ADDRESS_MAX[name], self._reserve.fill)
        )
        loop = asyncio.get_running_loop()
        protocol = functools.partial(
            Protocol,
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # aiohttp takes None for no log
            keepalive_timeout=ANSWER_TIMEOUT,
            max_line_size=LINE_BYTES_MAX,
            max_field_size=LINE_BYTES_MAX,
            lingering_time=REQUEST_TIMEOUT,
            auto_decompress=False,
        )
        self._acceptors[name] = Acceptor(listening, lambda: ConnectionGuard(door, protocol), self._reserve)

    def mend(self) -> None:
        """Open the unix socket again if its file was removed. StartError if another file is in its place."""
        if self._listening.is_lost:
            if (before := self._acceptors.pop(UNIX, None)) is not None:
                before.close()
            try:
                self._listening.reopen()
            finally:
                if before is not None:
                    self._open(UNIX, self._listening.sockets[UNIX])
            _log.warning("the file of the admin socket was removed; created it again")

    def pause(self) -> None:
        """Accept no connections for now. Close idle ones at once, and the others with their next response."""
        for acceptor in self._acceptors.values():
            acceptor.close()
        self._acceptors.clear()
        for door in self._doors.values():
            for guard in list(door.guards.values()):
                guard.leave()

    async def close(self) -> None:
        """Stop accepting, let requests in progress end for a moment, close everything. Idempotent."""
        for acceptor in self._acceptors.values():
            acceptor.close()
        self._acceptors.clear()
        self._listening.close()
        await self._runner.cleanup()
        for door in self._doors.values():
            for transport in list(door.guards):
                transport.abort()
        self._reserve.close()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _application(self) -> web.Application:
        application = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[self._middleware])
        application.on_response_prepare.append(_set_headers)
        router = application.router
        router.add_get("/", self._get_root)
        _add_get(router, "/metrics", self._get_metrics)
        _add_get(router, "/healthz", self._get_healthz)
        _add_get(router, "/readyz", self._get_readyz)
        _add_get(router, "/api/v1/status", self._get_status)
        _add_get(router, "/api/v1/sessions", self._get_sessions)
        router.add_delete("/api/v1/sessions/{session}", self._delete_session)
        Backends(self._control, self._is_public).add_to(router)
        router.add_get("/api/v1/autoscale/{pool}", self._get_autoscale)
        router.add_post("/api/v1/reload", self._post_reload)
        router.add_post("/api/v1/upgrade", self._post_upgrade)
        return application

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        guard = self._guard(request)
        if guard is None:
            return error_answer(HTTPStatus.SERVICE_UNAVAILABLE, "the connection is closed")
        guard.begins()
        try:
            answer = await self._answer(request, handler, guard)
        finally:
            guard.done()
        if guard.leaving:
            answer.force_close()
        return answer

    async def _answer(self, request: web.Request, handler: Handler, guard: ConnectionGuard) -> web.StreamResponse:
        try:
            host = request.headers.get(hdrs.HOST, "")
            if not guard.door.may_change and not is_expected(host, self._hosts):
                raise ControlError(
                    f"the Host {quoted(host)} is not known to be this one; ask by address, or add it to admin.hosts",
                    HTTPStatus.FORBIDDEN,
                )
            if request.method not in SAFE_METHODS and not guard.door.may_change:
                return error_answer(
                    HTTPStatus.FORBIDDEN, "changes need the admin socket; this address is for reading only"
                )
            return await handler(request)
        except web.HTTPException as error:
            answer = error_answer(error.status, _http_sentence(request, error))
            if hdrs.ALLOW in error.headers:
                answer.headers[hdrs.ALLOW] = error.headers[hdrs.ALLOW]
            return answer
        except ControlError as error:
            return error_answer(error.status, str(error))
        except UNREADABLE:
            return error_answer(HTTPStatus.BAD_REQUEST, "the request body cannot be read to its end")
        except Exception:
            _log.exception("the admin request %s %s failed", request.method, request.path)
            return error_answer(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error; the process log has the details")

    def _is_public(self, request: web.Request) -> bool:
        """Whether the request came by the read-only address."""
        guard = self._guard(request)
        return guard is None or not guard.door.may_change

    def _guard(self, request: web.Request) -> ConnectionGuard | None:
        transport = request.transport
        if transport is None:
            return None
        return next((door.guards[transport] for door in self._doors.values() if transport in door.guards), None)

    async def _get_root(self, request: web.Request) -> web.Response:
        """Every path with its methods."""
        paths: dict[str, list[str]] = {}
        for resource in request.app.router.resources():
            if resource.canonical.endswith("/") and resource.canonical != "/":
                continue
            methods = sorted(route.method for route in resource if route.method != hdrs.METH_HEAD)
            paths.setdefault(resource.canonical, []).extend(methods)
        return web.json_response({"paths": paths})

    async def _get_metrics(self, request: web.Request) -> web.Response:
        """The [metrics](metrics.md) as Prometheus text, or as OpenMetrics if `Accept` asks for it."""
        openmetrics = metrics.wants_openmetrics(request.headers.get(hdrs.ACCEPT, ""))
        status = self._control.status()

        def render() -> bytes:
            families = [*metrics.render(status), *self._process_metrics.families()]
            return metrics.encode(families, openmetrics=openmetrics)

        return await self._respond(request, render, metrics.OPENMETRICS if openmetrics else metrics.TEXT)

    async def _get_healthz(self, _request: web.Request) -> web.Response:
        """200 while the control plane responds, also during a stop."""
        return web.json_response({"healthy": True})

    async def _get_readyz(self, request: web.Request) -> web.Response:
        """200 if clients should be sent to this process, else 503: see [readiness](#readiness)."""
        status = self._control.status()
        wanted = readiness.wanted_pools(request.query.items(), status.pools)
        problems = readiness.problems(status, wanted)
        warnings = readiness.warnings(status, wanted)
        if self._listening.is_lost:
            warnings.append("the file of the admin socket is gone or replaced; reload (SIGHUP) to create it again")
        body = readiness.body(problems, warnings)
        return web.json_response(body, status=HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK)

    async def _get_status(self, request: web.Request) -> web.Response:
        """The whole state: listeners, pools, backends, workers."""
        status = self._control.status()
        status = views.public(status) if self._is_public(request) else status
        return await self._respond(request, lambda: _dump(views.status_view(status)), "application/json")

    async def _get_sessions(self, request: web.Request) -> web.Response:
        """Every live session."""
        sessions = await self._control.sessions()
        return await self._respond(
            request, lambda: _dump({"sessions": [views.session_view(item) for item in sessions]}), "application/json"
        )

    async def _delete_session(self, request: web.Request) -> web.Response:
        """Close a session."""
        session = request.match_info["session"]
        # 64 bits are at most 20 digits; the bound keeps int() from being a way to burn CPU.
        if not (session.isascii() and session.isdigit() and len(session) <= 20):
            raise ControlError(f"{quoted(session)} is not a session number; the list of sessions shows them", 400)
        await self._control.kill_session(int(session))
        return web.json_response({"session": int(session), "killed": True})

    async def _get_autoscale(self, request: web.Request) -> web.Response:
        """Demand and backends of a pool, for [autoscalers](../guides/scaling.md#what-to-scale-on)."""
        name = request.match_info["pool"]
        pool = self._control.status().pools.get(name)
        if pool is None:
            raise ControlError(f"there is no pool '{name}'", HTTPStatus.NOT_FOUND)
        return web.json_response(views.autoscale_view(name, pool))

    async def _post_reload(self, _request: web.Request) -> web.Response:
        """Reload the configuration as SIGHUP does, and wait for the outcome."""
        outcome = await self._control.reload()
        if outcome.applied:
            return web.json_response({"applied": True, "notes": list(outcome.notes)})
        problems = list(outcome.problems)
        error = clipped(f"the reload was rejected: {'; '.join(problems)}")
        body = {"error": error, "applied": False, "problems": problems}
        return web.json_response(body, status=HTTPStatus.UNPROCESSABLE_ENTITY)

    async def _post_upgrade(self, _request: web.Request) -> web.Response:
        """Upgrade in place as SIGUSR2 does, and wait for the outcome."""
        outcome = await self._control.upgrade()
        if outcome.reason is None:
            return web.json_response({"upgraded": True, "pid": outcome.pid, "version": outcome.version})
        body = {"error": f"the upgrade failed: {clipped(outcome.reason)}; nothing has changed", "upgraded": False}
        return web.json_response(body, status=HTTPStatus.UNPROCESSABLE_ENTITY)

    async def _respond(self, request: web.Request, make_body: Callable[[], bytes], content_type: str) -> web.Response:
        """Make the body on the thread, and compress it if it is large."""
        gzip = accepts_gzip(",".join(request.headers.getall(hdrs.ACCEPT_ENCODING, [])))

        def make() -> tuple[bytes, bool]:
            body = make_body()
            if gzip and len(body) >= COMPRESS_FROM:
                compressor = zlib.compressobj(1, wbits=31)
                return compressor.compress(body) + compressor.flush(), True
            return body, False

        body, compressed = await asyncio.get_running_loop().run_in_executor(self._executor, make)
        headers = {hdrs.CONTENT_TYPE: content_type, hdrs.VARY: "Accept, Accept-Encoding"}
        if compressed:
            headers[hdrs.CONTENT_ENCODING] = "gzip"
        return web.Response(body=body, headers=headers)


def _add_get(router: web.UrlDispatcher, path: str, handler: Handler) -> None:
    """With and without a slash at the end, since people write these paths by hand."""
    router.add_get(path, handler)
    router.add_get(f"{path}/", handler)


async def _set_headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers[hdrs.SERVER] = "l4lb"
    response.headers[hdrs.CACHE_CONTROL] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _http_sentence(request: web.Request, error: web.HTTPException) -> str:
    match error.status:
        case HTTPStatus.NOT_FOUND:
            return f"there is nothing at {request.path}"
        case HTTPStatus.METHOD_NOT_ALLOWED:
            return f"{request.path} does not take {request.method}"
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return f"the request body is larger than {BODY_BYTES_MAX} bytes"
        case _:
            return error.reason
