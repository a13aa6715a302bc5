"""A web server that sends one prepared response, and one HTTP check of it."""

from __future__ import annotations

import threading
from typing import Any

from l4lb.health.probes import Result
from tests.health.probing import check
from tests.helpers.peers import Address, End, Peer, Served

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def check_http(address: Address, **settings: Any) -> Result:
    return check(address, type="http", **settings)


class Web(Served):
    """Answers each request head with `answer`, and keeps the connection open until the client ends it."""

    def __init__(self, answer: bytes, **options: Any) -> None:
        self.requests: list[bytes] = []
        self.ends: list[End] = []
        self.ended = threading.Event()

        def handle(peer: Peer) -> None:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += peer.receive(1)
            self.requests.append(head)
            peer.send(answer)
            self.ends.append(peer.drain().end)
            self.ended.set()

        super().__init__(handle, **options)
