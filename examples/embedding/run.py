"""A rolling restart that no client notices: web servers and the balancer before them, all in this one program.

Run `python run.py`. It exits with 0 if every request was answered.
"""

from __future__ import annotations

import sys
import threading
import urllib.request
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import click

import l4lb

SERVERS = ("red", "green", "blue")
CLIENTS = 4
PATIENCE = 10.0


class Server:
    """A web server that says its name and how often it was started. It comes back to the port it had."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = 0
        self.starts = 0
        self.start()

    def start(self) -> None:
        self.starts += 1
        body = f"{self.name} {self.starts}".encode()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self._http.server_port
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,))
        self._thread.start()

    def stop(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


class Clients:
    """They ask without a pause until they are stopped."""

    def __init__(self, url: str) -> None:
        self.answers: Counter[str] = Counter()
        self.failures = 0
        self._url = url
        self._answered = threading.Condition()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        while not self._stop.is_set():
            try:
                with urllib.request.urlopen(self._url, timeout=PATIENCE) as response:
                    answer = response.read().decode()
            except OSError:
                answer = ""
            with self._answered:
                self.answers[answer] += bool(answer)
                self.failures += not answer
                self._answered.notify_all()

    def wait_for(self, answer: str) -> None:
        """Until somebody got this answer."""
        with self._answered:
            if not self._answered.wait_for(lambda: self.answers[answer] > 0, PATIENCE):
                raise SystemExit(f"nobody was answered by {answer} within {PATIENCE:g} s")

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def restart(lb: l4lb.Balancer, servers: list[Server], clients: Clients) -> None:
    """One server after the other; each has come to an end of its work before it stops."""
    for server in servers:
        lb.drain(f"web/{server.name}")
        lb.drained(f"web/{server.name}", timeout=PATIENCE)
        server.stop()
        server.start()
        lb.ready(f"web/{server.name}")
        clients.wait_for(f"{server.name} 2")


def main() -> int:
    servers = [Server(name) for name in SERVERS]
    config = {
        "listeners": {"web": {"bind": "127.0.0.1:0", "pool": "web"}},
        "pools": {
            "web": {
                "balance": "least_connections",
                "backends": [{"name": server.name, "address": f"127.0.0.1:{server.port}"} for server in servers],
            }
        },
    }
    try:
        with l4lb.Balancer(config) as lb:
            host, port = lb.address("web")
            clients = Clients(f"http://{host}:{port}/")
            try:
                for server in servers:
                    clients.wait_for(f"{server.name} 1")
                restart(lb, servers, clients)
            finally:
                clients.stop()
    finally:
        for server in servers:
            server.stop()
    for name in SERVERS:
        before, after = clients.answers[f"{name} 1"], clients.answers[f"{name} 2"]
        click.echo(f"{name:<6} {before:>5} answers before its restart, {after:>5} after it")
    click.echo(f"failed {clients.failures:>5}")
    return 1 if clients.failures else 0


if __name__ == "__main__":
    sys.exit(main())
