"""The requests of the admin API about backends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from aiohttp import web
from pydantic import ValidationError
from pydantic_core import from_json

from l4lb.admin import views
from l4lb.admin.connections import REQUEST_TIMEOUT
from l4lb.admin.requests import BackendChange, validation_sentence
from l4lb.errors import ControlError
from l4lb.status import AdminState, Control

BACKENDS = "/api/v1/pools/{pool}/backends"
# A backend's default name is its address, which holds slashes when it is a unix path.
BACKEND = f"{BACKENDS}/{{backend:.+}}"


class Backends:
    """Handlers; `control` makes the changes. Responses to public requests hide details that are only for operators."""

    def __init__(self, control: Control, is_public: Callable[[web.Request], bool]) -> None:
        self._control = control
        self._is_public = is_public

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/api/v1/pools", self._get_pools)
        router.add_post(BACKENDS, self._post)
        router.add_get(BACKEND, self._get)
        router.add_patch(BACKEND, self._patch)
        router.add_delete(f"{BACKEND}/sessions", self._delete_sessions)
        router.add_delete(BACKEND, self._delete)

    async def _get_pools(self, _request: web.Request) -> web.Response:
        """The backends of each pool as a file would list them, without discovered ones."""
        pools = {name: {"backends": list(backends)} for name, backends in self._control.written().items()}
        return web.json_response({"pools": pools})

    async def _get(self, request: web.Request) -> web.Response:
        """One backend as in the status, with the `pid` of the process that counts its connections."""
        pool, backend = request.match_info["pool"], request.match_info["backend"]
        return self._shown(pool, backend, HTTPStatus.OK, public=self._is_public(request))

    async def _post(self, request: web.Request) -> web.Response:
        """Add a backend. The body has the keys of the file, such as `{"address": "10.0.0.13:8000", "name": "c"}`."""
        pool = request.match_info["pool"]
        name = await self._control.add_backend(pool, await _body(request))
        return self._shown(pool, name, HTTPStatus.CREATED)

    async def _patch(self, request: web.Request) -> web.Response:
        """Change a backend: its `state`, its `weight`, and any key that the file has for a backend but its name.

        Example: `{"state": "drain", "weight": 2, "address": "10.0.0.14:8000"}`. All of it is applied, or none.
        """
        try:
            change = BackendChange.model_validate(await _body(request))
        except ValidationError as error:
            raise ControlError(validation_sentence(error), HTTPStatus.BAD_REQUEST) from error
        pool, backend = request.match_info["pool"], request.match_info["backend"]
        state = None if change.state is None else AdminState(change.state)
        if change.settings:
            await self._control.change_backend(pool, backend, change.settings, state=state, weight=change.weight)
        else:
            self._control.set_backend(pool, backend, state=state, weight=change.weight)
        return self._shown(pool, backend, HTTPStatus.OK)

    async def _delete(self, request: web.Request) -> web.Response:
        """Remove a backend. Its `connections` drain; with `?force` they are closed."""
        pool, backend = request.match_info["pool"], request.match_info["backend"]
        sessions = await self._control.remove_backend(pool, backend, force=_flag(request, "force"))
        return web.json_response({"removed": True, "connections": sessions})

    async def _delete_sessions(self, request: web.Request) -> web.Response:
        """Close all sessions of a backend; the response says how many were `killed`."""
        pool, backend = request.match_info["pool"], request.match_info["backend"]
        return web.json_response({"killed": await self._control.kill_sessions(pool, backend)})

    def _shown(self, pool: str, backend: str, status: HTTPStatus, *, public: bool = False) -> web.Response:
        """The backend and the process that counts its connections; during an upgrade another process has some too."""
        found = self._control.backend(pool, backend)
        shown = views.backend_view(views.public_backend(found) if public else found)
        return web.json_response(shown | {"name": backend, "pid": self._control.pid}, status=status)


async def _body(request: web.Request) -> dict[str, Any]:
    """The JSON object in the body. ControlError if the body is missing or anything else."""
    try:
        async with asyncio.timeout(REQUEST_TIMEOUT):
            body = await request.read()
    except TimeoutError as error:
        raise ControlError("the request body did not arrive in time", HTTPStatus.REQUEST_TIMEOUT) from error
    try:
        value = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise ControlError(f"invalid request body: not valid JSON: {error}", HTTPStatus.BAD_REQUEST) from error
    if not isinstance(value, dict):
        raise ControlError('invalid request body: an object is expected, such as {"weight": 2}', HTTPStatus.BAD_REQUEST)
    return value


def _flag(request: web.Request, name: str) -> bool:
    """Whether the query sets a flag: `?force`, `?force=true`, `?force=1`."""
    value = request.query.get(name)
    if value in (None, "0", "false"):
        return False
    if value in ("", "1", "true"):
        return True
    raise ControlError(f"{name} is true or false", HTTPStatus.BAD_REQUEST)
