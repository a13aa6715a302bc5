"""What record_http1.py asks WSGI servers for."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from typing import Any


def events() -> Iterator[bytes]:
    for text in ("Hel", "lo", "[DONE]"):
        yield f"data: {text}\n\n".encode()
        time.sleep(0.02)


def app(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
    received = len(environ["wsgi.input"].read())
    body = json.dumps({"object": "text_completion", "received": received}).encode()
    kind = ("Content-Type", "application/json")
    match environ["PATH_INFO"]:
        case "/json":
            start("200 OK", [kind, ("Content-Length", str(len(body)))])
            return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]
        case "/stream":
            start("200 OK", [("Content-Type", "text/event-stream")])
            return events()
        case "/empty":
            start("204 No Content", [])
            return []
        case "/same":
            start("304 Not Modified", [("ETag", '"a"')])
            return []
        case "/error":
            raise RuntimeError("as the client wants")
        case _:
            start("404 Not Found", [kind])
            return [b'{"detail":"Not Found"}']
