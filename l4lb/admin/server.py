"""The admin HTTP server: everything over the unix socket, reading only over TCP.

Handlers run on the control loop and only call `Control`. What is long for a big fleet (rendering metrics, dumping
JSON) runs on one thread of its own, so that a scrape does not delay a health check.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import zlib
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

from aiohttp import hdrs, web
from pydantic import ValidationError

from l4lb.admin import metrics, sockets, views
from l4lb.admin.guard import ANSWER_TIMEOUT, HANDLER_TIMEOUT, REQUEST_TIMEOUT, Door, Guard
from l4lb.admin.requests import BackendChange, validation_sentence
from l4lb.config.address import Address
from l4lb.control.api import AdminState, BackendStatus, Control, PoolStatus, Status
from l4lb.control.inherited import Inherited
from l4lb.errors import ControlError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

BODY_BYTES_MAX = 64 * 1024
LINE_BYTES_MAX = 8190
# Apart for each socket: however many scrapers hold the TCP one, the operator still gets in by the unix one.
CONNECTIONS_MAX = 64
SHUTDOWN_TIMEOUT = 2.0
COMPRESS_FROM = 16 * 1024
SAFE_METHODS = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})

_log = logging.getLogger(__name__)


class AdminServer:
    """Serves `control` on a unix socket, on a TCP address, on both, or on neither. Sockets for them that a socket unit
    lends are used."""

    def __init__(
        self, control: Control, socket_path: str | None, listen: Address | None, inherited: Inherited | None = None
    ) -> None:
        self._control = control
        self._inherited = inherited or Inherited()
        self._socket_path = socket_path
        self._listen = listen
        self._socket_identity: tuple[int, int] | None = None
        self._process_metrics = metrics.ProcessMetrics()
        self._executor = ThreadPoolExecutor(1, "l4lb-admin")
        self._runner = web.AppRunner(
            self._application(),
            access_log=None,
            keepalive_timeout=ANSWER_TIMEOUT,
            max_line_size=LINE_BYTES_MAX,
            max_field_size=LINE_BYTES_MAX,
            lingering_time=REQUEST_TIMEOUT,
            shutdown_timeout=SHUTDOWN_TIMEOUT,
        )
        self._doors: list[Door] = []
        self._servers: list[asyncio.Server] = []

    @property
    def tcp_address(self) -> tuple[str, int] | None:
        """The address of the TCP socket, with the port the kernel chose for port 0."""
        for server in self._servers:
            for sock in server.sockets:
                name = sock.getsockname()
                if isinstance(name, tuple):
                    return name[0], name[1]
        return None

    async def start(self) -> None:
        """Accept requests. StartError when an address cannot be used; nothing is left open then."""
        await self._runner.setup()
        try:
            if self._socket_path is not None:
                lent = self._inherited.borrow(Address(path=self._socket_path))
                sock = lent[0] if lent else sockets.listen_unix(self._socket_path)
                # The file of a lent socket belongs to the socket unit.
                self._socket_identity = None if lent else sockets.file_identity(self._socket_path)
                await self._open(Door("admin socket", may_change=True, connections_max=CONNECTIONS_MAX), sock)
            if self._listen is not None:
                lent = self._inherited.borrow(self._listen)
                sock = lent[0] if lent else sockets.listen_tcp(self._listen)
                await self._open(Door("admin address", may_change=False, connections_max=CONNECTIONS_MAX), sock)
        except BaseException:
            await self.close()
            raise

    async def _open(self, door: Door, sock: socket.socket) -> None:
        server = self._runner.server
        assert server is not None
        self._doors.append(door)
        loop = asyncio.get_running_loop()
        create = loop.create_unix_server if sock.family == socket.AF_UNIX else loop.create_server
        self._servers.append(await create(lambda: Guard(door, server), sock=sock, backlog=sockets.BACKLOG))

    async def close(self) -> None:
        """Stop accepting, let requests in progress end for a moment, close everything. Idempotent."""
        if self._socket_path is not None and self._socket_identity is not None:
            # Before the socket closes: until then no other file can have its identity.
            sockets.unlink_if_same(self._socket_path, self._socket_identity)
            self._socket_identity = None
        for server in self._servers:
            server.close()
        await self._runner.cleanup()
        for door in self._doors:
            for transport in list(door.guards):
                transport.abort()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _application(self) -> web.Application:
        application = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[self._middleware])
        application.on_response_prepare.append(_set_headers)
        router = application.router
        router.add_get("/metrics", self._get_metrics)
        router.add_get("/healthz", self._get_healthz)
        router.add_get("/readyz", self._get_readyz)
        router.add_get("/api/v1/status", self._get_status)
        router.add_get("/api/v1/sessions", self._get_sessions)
        router.add_delete("/api/v1/sessions/{session}", self._delete_session)
        # A backend's default name is its address, which holds slashes when it is a unix path.
        router.add_get("/api/v1/pools/{pool}/backends/{backend:.+}", self._get_backend)
        router.add_patch("/api/v1/pools/{pool}/backends/{backend:.+}", self._patch_backend)
        router.add_delete("/api/v1/pools/{pool}/backends/{backend:.+}/sessions", self._delete_sessions)
        router.add_get("/api/v1/autoscale/{pool}", self._get_autoscale)
        router.add_post("/api/v1/reload", self._post_reload)
        return application

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        guard = self._guard(request)
        if guard is None:
            return _error(HTTPStatus.SERVICE_UNAVAILABLE, "the connection is closed")
        guard.set_deadline(HANDLER_TIMEOUT)
        try:
            if request.method not in SAFE_METHODS and not guard.door.may_change:
                return _error(HTTPStatus.FORBIDDEN, "changes need the admin socket; this address is for reading only")
            return await handler(request)
        except web.HTTPException as error:
            answer = _error(error.status, _http_sentence(request, error))
            if hdrs.ALLOW in error.headers:
                answer.headers[hdrs.ALLOW] = error.headers[hdrs.ALLOW]
            return answer
        except ControlError as error:
            return _error(error.status, str(error))
        except Exception:
            _log.exception("the admin request %s %s failed", request.method, request.path)
            return _error(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error; the process log has the details")
        finally:
            guard.set_deadline(ANSWER_TIMEOUT)

    def _guard(self, request: web.Request) -> Guard | None:
        transport = request.transport
        if transport is None:
            return None
        return next((door.guards[transport] for door in self._doors if transport in door.guards), None)

    async def _get_metrics(self, request: web.Request) -> web.Response:
        openmetrics = metrics.wants_openmetrics(request.headers.get(hdrs.ACCEPT, ""))
        status = self._control.status()

        def render() -> bytes:
            families = [*metrics.render(status), *self._process_metrics.families()]
            return metrics.encode(families, openmetrics=openmetrics)

        return await self._respond(request, render, metrics.OPENMETRICS if openmetrics else metrics.TEXT)

    async def _get_healthz(self, _request: web.Request) -> web.Response:
        return web.json_response({"healthy": True})

    async def _get_readyz(self, _request: web.Request) -> web.Response:
        problems = views.readiness_problems(self._control.status())
        if problems:
            body = {"ready": False, "error": "; ".join(problems), "problems": problems}
            return web.json_response(body, status=HTTPStatus.SERVICE_UNAVAILABLE)
        return web.json_response({"ready": True})

    async def _get_status(self, request: web.Request) -> web.Response:
        status = self._control.status()
        return await self._respond(request, lambda: _dump(views.status_view(status)), "application/json")

    async def _get_sessions(self, request: web.Request) -> web.Response:
        sessions = await self._control.sessions()
        return await self._respond(
            request, lambda: _dump({"sessions": [views.session_view(item) for item in sessions]}), "application/json"
        )

    async def _delete_session(self, request: web.Request) -> web.Response:
        session = request.match_info["session"]
        # 64 bits are at most 20 digits; the bound keeps int() from being a way to burn CPU.
        if not (session.isascii() and session.isdigit() and len(session) <= 20):
            raise ControlError(f"'{session}' is no session id: it is the number that the list of sessions shows", 400)
        await self._control.kill_session(int(session))
        return web.json_response({"session": int(session), "killed": True})

    async def _delete_sessions(self, request: web.Request) -> web.Response:
        pool, backend = request.match_info["pool"], request.match_info["backend"]
        return web.json_response({"killed": await self._control.kill_sessions(pool, backend)})

    async def _get_backend(self, request: web.Request) -> web.Response:
        """The backend, and the process that counts its connections: another one may have some too."""
        status = self._control.status()
        return web.json_response(views.backend_view(self._find_backend(status, request)) | {"pid": status.pid})

    async def _patch_backend(self, request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                body = await request.read()
        except TimeoutError as error:
            raise ControlError("the request body did not arrive in time", HTTPStatus.REQUEST_TIMEOUT) from error
        try:
            change = BackendChange.model_validate_json(body)
        except ValidationError as error:
            raise ControlError(validation_sentence(error), HTTPStatus.BAD_REQUEST) from error
        self._control.set_backend(
            request.match_info["pool"],
            request.match_info["backend"],
            state=None if change.state is None else AdminState(change.state),
            weight=change.weight,
        )
        return await self._get_backend(request)

    async def _get_autoscale(self, request: web.Request) -> web.Response:
        name = request.match_info["pool"]
        return web.json_response(views.autoscale_view(name, self._find_pool(self._control.status(), name)))

    async def _post_reload(self, _request: web.Request) -> web.Response:
        outcome = await self._control.reload()
        if outcome.applied:
            return web.json_response({"applied": True, "notes": list(outcome.notes)})
        problems = list(outcome.problems)
        body = {"error": f"the reload was rejected: {'; '.join(problems)}", "applied": False, "problems": problems}
        return web.json_response(body, status=HTTPStatus.UNPROCESSABLE_ENTITY)

    @staticmethod
    def _find_pool(status: Status, name: str) -> PoolStatus:
        pool = status.pools.get(name)
        if pool is None:
            raise ControlError(f"there is no pool '{name}'", HTTPStatus.NOT_FOUND)
        return pool

    @classmethod
    def _find_backend(cls, status: Status, request: web.Request) -> BackendStatus:
        pool_name, backend_name = request.match_info["pool"], request.match_info["backend"]
        backend = cls._find_pool(status, pool_name).backends.get(backend_name)
        if backend is None:
            raise ControlError(f"there is no backend '{backend_name}' in pool '{pool_name}'", HTTPStatus.NOT_FOUND)
        return backend

    async def _respond(self, request: web.Request, make_body: Callable[[], bytes], content_type: str) -> web.Response:
        """Make the body, and compress it if it is worth it, on the thread."""
        gzip = "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, "").lower()

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


async def _set_headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers[hdrs.SERVER] = "l4lb"
    response.headers[hdrs.CACHE_CONTROL] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)


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
