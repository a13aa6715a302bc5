"""Writes traces/http1: what real servers of HTTP/1 and one client say to each other, byte for byte.

Where a response ends is known from the server alone, which then falls silent or closes: no parser is asked.

Run it with uvicorn, httptools, h11, hypercorn, gunicorn, aiohttp, nginx and node there, and look at the difference:
`python tests/c/record_http1.py`. A file has a line for each line of the bytes, `>` of the client and `<` of the server,
and `=` where a connection begins, where a request, an interim response, a response or an upgrade is complete, where the
server closes.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from http1_shapes import SHAPES

HERE = Path(__file__).parent
TRACES = HERE / "traces/http1"
APPS = HERE / "http1_servers"
DEADLINE = 20.0
SILENCE = 0.4
"""Much longer than the pauses of a stream."""

BODY = b'{"prompt": "Hi", "max_tokens": 2}'
HEADERS = b"Host: model.llama.example\r\nUser-Agent: recorder\r\nAccept: */*\r\n"
JSON = b"Content-Type: application/json\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def request(line: bytes, fields: bytes = b"", body: bytes = b"") -> bytes:
    return line + b"\r\n" + HEADERS + fields + b"\r\n" + body


Parts = tuple[bytes, ...]
"""Of a request. The client waits for an interim response after each but the last."""

STEPS: tuple[Parts, ...] = (
    (request(b"GET /json HTTP/1.1"),),
    (request(b"POST /json HTTP/1.1", JSON + LENGTH, BODY),),
    (request(b"POST /json HTTP/1.1", JSON + CHUNKED, b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)),),
    (request(b"POST /json HTTP/1.1", JSON + LENGTH + b"Expect: 100-continue\r\n"), BODY),
    (request(b"POST /stream HTTP/1.1", JSON + LENGTH, BODY),),
    (request(b"GET /missing HTTP/1.1"),),
    (request(b"GET /empty HTTP/1.1"),),
    (request(b"GET /same HTTP/1.1", b'If-None-Match: "a"\r\n'),),
    (request(b"HEAD /json HTTP/1.1"),),
    (request(b"HEAD /stream HTTP/1.1"),),
    (request(b"GET /error HTTP/1.1"),),
    (request(b"GET /json HTTP/1.0", b"Connection: keep-alive\r\n"),),
    (request(b"GET /json HTTP/1.1", b"Connection: close\r\n"),),
    (request(b"POST /stream HTTP/1.1", LENGTH + b"Connection: close\r\n", BODY),),
    (request(b"GET /json HTTP/1.0"),),
    (request(b"GET /stream HTTP/1.0"),),
    (b"GET /json HTTP/1.1\r\n\r\n",),
)

NODE_STEPS: tuple[Parts, ...] = (
    *STEPS,
    (request(b"GET /hints HTTP/1.1"),),
    (request(b"GET /trailers HTTP/1.1"),),
    (request(b"GET /upgrade HTTP/1.1", b"Connection: Upgrade\r\nUpgrade: echo\r\n"),),
    (b"POST /json HTTP/1.1\r\nHost:",),
)
NGINX_STEPS: tuple[Parts, ...] = (
    *STEPS,
    (request(b"GET /trailers HTTP/1.1"),),
    (request(b"POST /json HTTP/1.1", b"Content-Length: 5000\r\n"),),
)


# ---- writing ---------------------------------------------------------------------------------------------------------


class Trace:
    def __init__(self, title: str) -> None:
        self.lines = [f"# {title}"]

    def put(self, side: str, data: bytes) -> None:
        for line in data.splitlines(keepends=True) if data.isascii() else [data]:
            text = line.decode("latin-1").encode("unicode_escape").decode()
            self.lines.append(f"{side} {text}")

    def mark(self, what: str) -> None:
        self.lines.append(f"= {what}")

    def save(self, name: str) -> None:
        (TRACES / f"{name}.txt").write_text("\n".join(self.lines) + "\n")


def status(data: bytes) -> int:
    return int(data.split(b" ", 2)[1][:3])


class Client:
    """Connects anew where the server has closed."""

    def __init__(self, port: int, trace: Trace) -> None:
        self.port, self.trace = port, trace
        self.sock: socket.socket | None = None

    def _connect(self) -> socket.socket:
        self.trace.mark("connection")
        sock = socket.create_connection(("127.0.0.1", self.port), DEADLINE)
        sock.settimeout(SILENCE)
        return sock

    def _receive(self, sock: socket.socket, patience: float) -> None:
        """Until the server is silent after something, or closes, or patience ends."""
        data, closed = b"", False
        deadline = time.monotonic() + patience
        while not closed and time.monotonic() < deadline:
            try:
                piece = sock.recv(65536)
                data += piece
                closed = not piece
            except TimeoutError:
                if data:
                    break
            except ConnectionResetError:
                closed = True
        self.trace.put("<", data)
        if closed:
            self.trace.mark("closed")
        elif data:
            self.trace.mark({100: "interim", 101: "upgraded"}.get(status(data), "response"))
        if closed or (data and status(data) == 101):
            sock.close()
            self.sock = None

    def take(self, parts: Parts) -> None:
        sock = self.sock = self.sock or self._connect()
        for part in parts[:-1]:
            self.trace.put(">", part)
            sock.sendall(part)
            self._receive(sock, 3 * SILENCE)
        self.trace.put(">", parts[-1])
        if is_whole(b"".join(parts)):
            self.trace.mark("request")
        sock.sendall(parts[-1])
        self._receive(sock, DEADLINE)


def is_whole(data: bytes) -> bool:
    return b"\r\n\r\n" in data and b"Content-Length: 5000" not in data


# ---- servers ---------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def running(*command: str, port: int) -> Iterator[int]:
    process = subprocess.Popen(command, cwd=APPS, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline, command
                time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(DEADLINE)


def python_server(*words: str) -> contextlib.AbstractContextManager[int]:
    port = free_port()
    return running(sys.executable, *(word.format(port=port) for word in words), port=port)


def node() -> contextlib.AbstractContextManager[int]:
    port = free_port()
    return running("node", "node_app.js", str(port), port=port)


@contextlib.contextmanager
def nginx() -> Iterator[int]:
    """In front of Node, as a proxy that buffers nothing."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder, node() as behind:
        config = (APPS / "nginx.conf").read_text().replace("FOLDER", folder)
        file = Path(folder) / "nginx.conf"
        file.write_text(config.replace("PORT", str(port)).replace("BEHIND", str(behind)))
        with running("nginx", "-e", "stderr", "-c", str(file), port=port):
            yield port


def version(package: str) -> str:
    return f"{package} {importlib.metadata.version(package)}"


def output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return (done.stdout + done.stderr).strip()


def uvicorn(parser: str) -> contextlib.AbstractContextManager[int]:
    return python_server(
        "-m", "uvicorn", "--port", "{port}", "--http", parser, "--log-level", "critical", "asgi_app:app"
    )


def gunicorn(worker: str) -> contextlib.AbstractContextManager[int]:
    return python_server("-m", "gunicorn", "-b", "127.0.0.1:{port}", "-k", worker, "--keep-alive", "20", "wsgi_app:app")


@dataclass(frozen=True, slots=True)
class Server:
    title: Callable[[], str]
    start: Callable[[], contextlib.AbstractContextManager[int]]
    steps: tuple[Parts, ...] = STEPS


SERVERS = {
    "uvicorn-httptools": Server(lambda: f"{version('uvicorn')}, {version('httptools')}", lambda: uvicorn("httptools")),
    "uvicorn-h11": Server(lambda: f"{version('uvicorn')}, {version('h11')}", lambda: uvicorn("h11")),
    "hypercorn": Server(
        lambda: version("hypercorn"),
        lambda: python_server("-m", "hypercorn", "-b", "127.0.0.1:{port}", "--keep-alive", "20", "asgi_app:app"),
    ),
    "gunicorn-sync": Server(lambda: f"{version('gunicorn')}, sync workers", lambda: gunicorn("sync")),
    "gunicorn-threads": Server(lambda: f"{version('gunicorn')}, threads", lambda: gunicorn("gthread")),
    "aiohttp": Server(lambda: version("aiohttp"), lambda: python_server("aiohttp_app.py", "{port}")),
    "node": Server(lambda: f"node {output('node', '--version')}", node, NODE_STEPS),
    "nginx": Server(lambda: f"{output('nginx', '-v')}, in front of node", nginx, NGINX_STEPS),
}


def record(name: str, server: Server) -> None:
    trace = Trace(server.title())
    with server.start() as port:
        client = Client(port, trace)
        for parts in server.steps:
            client.take(parts)
    trace.save(name)


def write_shapes() -> None:
    """Written by hand, for servers that are too large to record."""
    for name, shapes in SHAPES.items():
        trace = Trace(f"{name}, not recorded but written down from its source")
        for shape in shapes:
            trace.mark("connection")
            for asked, answered in shape.turns:
                trace.put(">", asked)
                trace.mark("request")
                for response in answered:
                    trace.put("<", response)
                    last = response is answered[-1]
                    ends = shape.closes and last and asked is shape.turns[-1][0]
                    trace.mark("closed" if ends else "interim" if status(response) < 200 else "response")
        trace.save(name)


def main() -> None:
    for name in sys.argv[1:] or SERVERS:
        record(name, SERVERS[name])
    write_shapes()


if __name__ == "__main__":
    main()
