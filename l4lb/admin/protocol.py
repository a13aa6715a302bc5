"""What aiohttp answers by itself, said as the rest of the API says it: JSON, and no traceback for a client's bytes."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from l4lb.base.text import clipped

UNREADABLE = (ConnectionError, HttpProcessingError, web.RequestPayloadError)
"""How a body fails that its client garbles or does not finish."""

_log = logging.getLogger(__name__)


def error_answer(status: int, message: str) -> web.Response:
    return web.json_response({"error": clipped(message)}, status=status)


class Protocol(web.RequestHandler):
    """One connection. A request that cannot be read ends it."""

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
            raise ConnectionError("a part of the answer is sent already")
        answer.force_close()
        return answer

    def log_exception(self, *args: Any, **kwargs: Any) -> None:
        """Of what escapes otherwise, bytes of a client are no news."""
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
