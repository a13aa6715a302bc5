"""l4lb's HTTP API over its admin socket."""

from __future__ import annotations

import contextlib
import http.client
import socket
from http import HTTPStatus
from pathlib import Path

from bench.shared.processes import BenchError

RESPONSE_SECONDS = 30.0


class AdminConnection(http.client.HTTPConnection):
    """A connection to the admin socket that serves one request after the other."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=RESPONSE_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))

    def call(self, method: str, path: str) -> bytes:
        """The body of the response. BenchError when the status is not 200."""
        self.request(method, path)
        response = self.getresponse()
        body = response.read()
        if response.status != HTTPStatus.OK:
            text = body.decode(errors="replace")
            raise BenchError(f"l4lb: {method} {path} failed with status {response.status}: {text}")
        return body


def call_once(socket_path: Path, method: str, path: str) -> bytes:
    """As `AdminConnection.call`, on a connection for this request alone."""
    with contextlib.closing(AdminConnection(socket_path)) as connection:
        return connection.call(method, path)
