"""Talks HTTP to a running l4lb through its admin socket, with a deadline for every request."""

from __future__ import annotations

import http.client
import json
import socket
import time
from urllib.parse import quote

Json = dict[str, object]

ANSWER_BYTES_MAX = 1 << 30  # far above the response for the largest fleet


class ClientError(Exception):
    """The request failed. `str()` is the sentence to show; `status` is the HTTP status, or None without an answer."""

    def __init__(self, message: str, status: int | None = None, answer: Json | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.answer = answer or {}


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path
        self._deadline = time.monotonic() + timeout

    def connect(self) -> None:
        self._socket = self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(self.time_left())
        self._socket.connect(self._path)

    def time_left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def read_all(self, response: http.client.HTTPResponse) -> bytes:
        """The body, by the deadline of the whole request: a socket timeout bounds only each read."""
        chunks: list[bytes] = []
        size = 0
        with response:
            while chunk := self._read_some(response):
                chunks.append(chunk)
                size += len(chunk)
                if size > ANSWER_BYTES_MAX:
                    raise http.client.HTTPException("too large")
            if response.length:
                raise http.client.HTTPException("it ends too early")
        return b"".join(chunks)

    def _read_some(self, response: http.client.HTTPResponse) -> bytes:
        self._socket.settimeout(self.time_left())
        return response.read1(1 << 20)


class AdminClient:
    """One request per connection. Every method raises ClientError."""

    def __init__(self, path: str, timeout: float = 10.0) -> None:
        self._path = path
        self._timeout = timeout

    def status(self) -> Json:
        return self._request("GET", "/api/v1/status")

    def sessions(self) -> Json:
        return self._request("GET", "/api/v1/sessions")

    def backend(self, pool: str, backend: str) -> Json:
        return self._request("GET", _backend_path(pool, backend))

    def change_backend(self, pool: str, backend: str, change: Json) -> Json:
        """Change state, weight or other settings; the backend after that."""
        return self._request("PATCH", _backend_path(pool, backend), change)

    def pools(self) -> Json:
        """The backends of each pool as a file would have them."""
        return self._request("GET", "/api/v1/pools")

    def add_backend(self, pool: str, settings: Json) -> Json:
        """Add a backend with these settings; the backend after that."""
        return self._request("POST", f"/api/v1/pools/{quote(pool, safe='')}/backends", settings)

    def remove_backend(self, pool: str, backend: str, *, force: bool = False) -> Json:
        """Remove a backend; with `force`, close its sessions too."""
        return self._request("DELETE", f"{_backend_path(pool, backend)}{'?force' if force else ''}")

    def kill_session(self, session: int) -> Json:
        return self._request("DELETE", f"/api/v1/sessions/{session}")

    def kill_sessions(self, pool: str, backend: str) -> Json:
        """Close every session of a backend."""
        return self._request("DELETE", f"{_backend_path(pool, backend)}/sessions")

    def reload(self) -> Json:
        return self._request("POST", "/api/v1/reload")

    def upgrade(self) -> Json:
        return self._request("POST", "/api/v1/upgrade")

    def _request(self, method: str, target: str, body: Json | None = None) -> Json:
        connection = _UnixConnection(self._path, self._timeout)
        try:
            connection.request(
                method,
                target,
                body=None if body is None else json.dumps(body),
                headers={"Content-Type": "application/json", "Connection": "close"},
            )
            response = connection.getresponse()
            data = connection.read_all(response)
        except (OSError, http.client.HTTPException) as error:
            raise ClientError(f"cannot reach l4lb at {self._path}: {self._cause(error)}") from error
        finally:
            connection.close()
        return self._answer(response.status, data)

    def _answer(self, status: int, data: bytes) -> Json:
        try:
            answer = json.loads(data)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise ClientError(f"what listens at {self._path} does not answer like l4lb; check --socket", status)
        if status >= 400:
            raise ClientError(str(answer.get("error", f"l4lb answered with status {status}")), status, answer)
        return answer

    def _cause(self, error: Exception) -> str:
        hint = "(--socket or L4LB_SOCKET)"
        match error:
            case FileNotFoundError():
                return f"no such socket; is it running? {hint}"
            case ConnectionRefusedError():
                return f"nothing listens on that socket any more; is it running? {hint}"
            case PermissionError():
                return "permission denied; use an account in the socket's group, or root"
            case TimeoutError():
                return f"no answer within {self._timeout:g} s; look at its log"
            case OSError():
                return f"{error.strerror or error} {hint}"
            case _:
                return f"its answer cannot be read ({error or type(error).__name__}) {hint}"


def _backend_path(pool: str, backend: str) -> str:
    return f"/api/v1/pools/{quote(pool, safe='')}/backends/{quote(backend, safe='')}"
