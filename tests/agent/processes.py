"""An agent, and a HAProxy that asks agents, as processes of their own."""

from __future__ import annotations

import csv
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.helpers.balancer import ROOT, child_environment
from tests.helpers.waiting import DEADLINE, wait_until


class AgentProcess:
    """`l4lb agent` with these options, on a port of its own. Has to end cleanly."""

    def __init__(self, *options: str) -> None:
        read, write = os.pipe()
        self._log = os.fdopen(read)
        command = [sys.executable, "-m", "l4lb", "agent", "--port", "0", "--bind", "127.0.0.1", *options]
        self.process = subprocess.Popen(command, stderr=write, env=child_environment(), cwd=ROOT)
        os.close(write)
        line = self._log.readline()
        found = re.search(r"answers on port (\d+)", line)
        assert found, line
        self.port = int(found[1])

    def __enter__(self) -> AgentProcess:
        return self

    def __exit__(self, *_error: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            assert self.process.wait(DEADLINE) == 0
        finally:
            self.process.kill()
            self._log.close()

    def answer(self, said: bytes = b"") -> str:
        """What it answers to one check."""
        with socket.create_connection(("127.0.0.1", self.port), DEADLINE) as sock:
            sock.sendall(said)
            with sock.makefile() as lines:
                return lines.read()


class HAProxy:
    """A HAProxy with one server, whose agent it asks every 100 ms."""

    def __init__(self, folder: Path, agent_port: int, options: str = "") -> None:
        self._socket = folder / "stats"
        configuration = folder / "haproxy.cfg"
        configuration.write_text(
            f"global\n  stats socket {self._socket} level admin\n"
            "defaults\n  mode tcp\n  timeout connect 1s\n  timeout client 1s\n  timeout server 1s\n"
            "backend b\n"
            f"  server s 127.0.0.1:9 weight 100 agent-check agent-port {agent_port} agent-inter 100ms {options}\n"
        )
        self._process = subprocess.Popen(
            ["haproxy", "-db", "-f", str(configuration)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        wait_until(lambda: self._process.poll() is not None or self._socket.exists())
        assert self._process.poll() is None

    def __enter__(self) -> HAProxy:
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.kill()
        self._process.wait()

    def tell(self, command: str) -> str:
        """The answer to a command on the stats socket."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(DEADLINE)
            sock.connect(str(self._socket))
            sock.sendall(command.encode() + b"\n")
            with sock.makefile() as answer:
                return answer.read()

    def server(self) -> dict[str, str]:
        """What `show stat` says of the server."""
        lines = self.tell("show stat").lstrip("# ").splitlines()
        return next(row for row in csv.DictReader(lines) if row["svname"] == "s")
