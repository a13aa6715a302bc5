"""Makes aiohttp's own error responses look like the rest of the API: JSON, and no traceback for a bad request."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from l4lb.base.text import clipped

UNREADABLE = (ConnectionError, HttpProcessingError, web.RequestPayloadError)
"""Errors of a request body that its client garbles or does not finish."""

_log = logging.getLogger(__name__)


def error_answer(status: int, message: str) -> web.Response:
    return web.json_response({"error": clipped(message)}, status=status)


class Protocol(web.RequestHandler):
    """One connection. A request that cannot be parsed closes it."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            lines = (message or "").strip().splitlines() or ["it is not HTTP"]
            answer = error_answer(status, f"the request cannot be read: {clipped(lines[0].rstrip(':'), 200)}")
        else:
            _log.error("the admin request %s %s failed", request.method, request.path, exc_info=exc)
            answer = error_answer(status, "internal error; the process log has the details")
        if request.writer.output_size > 0:
            raise ConnectionError("a part of the response is sent already")
        answer.force_close()
        return answer

    def log_exception(self, *args: Any, **kwargs: Any) -> None:
        """Log escaped exceptions, but not those that a client's bytes caused."""
        error = kwargs.get("exc_info")
        if not isinstance(error, UNREADABLE):
            super().log_exception(*args, **kwargs)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        if resp.status >= HTTPStatus.BAD_REQUEST and resp.content_type != "application/json" and not resp.prepared:
            headers = resp.headers
            resp = error_answer(resp.status, resp.reason or "")
            resp.headers.update({name: value for name, value in headers.items() if name == "Allow"})
        return await super().finish_response(request, resp, start_time)
