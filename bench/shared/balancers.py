"""l4lb, HAProxy and nginx as processes: their versions, the parts of their configurations that do not differ between
benchmarks, and how to start them. Each runs on one CPU with one worker."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.shared.processes import ROOT, BenchError, last_lines, running

START_SECONDS = 20.0
SESSIONS_MAX = 6000
BACKLOG = 4096


def l4lb_version() -> str:
    return _first_line([*_L4LB, "--version"]).split()[-1]


def haproxy_version(binary: str) -> str:
    return _first_line([binary, "-v"]).removeprefix("HAProxy version ").split()[0]


def nginx_version(binary: str) -> str:
    return _first_line([binary, "-v"]).rpartition("/")[2]


_L4LB = (sys.executable, "-m", "l4lb")


def l4lb_command(path: Path) -> list[str]:
    """Runs l4lb in the foreground with the configuration at `path`."""
    return [*_L4LB, "run", "-c", str(path)]


def haproxy_command(binary: str, path: Path) -> list[str]:
    return [binary, "-db", "-f", str(path)]


def nginx_command(binary: str, path: Path) -> list[str]:
    return [binary, "-c", str(path)]


def l4lb_preamble(directory: Path) -> str:
    """The configuration before its listeners. The admin socket is `admin_socket(directory)`."""
    return f"""\
process: {{workers: 1, max_connections: {SESSIONS_MAX}, drain_timeout: 1s}}
admin: {{socket: {admin_socket(directory)}}}
log: {{level: warning}}
"""


def admin_socket(directory: Path) -> Path:
    return directory / "admin.sock"


def nginx_configuration(binary: str, directory: Path, port: int, upstream: str) -> str:
    """A whole configuration; `upstream` is the inside of the block with the servers."""
    return f"""\
{_load_stream_module(binary)}
daemon off;
worker_processes 1;
worker_rlimit_nofile {2 * SESSIONS_MAX + 256};
pid {directory}/nginx.pid;
error_log stderr crit;
events {{ worker_connections {2 * SESSIONS_MAX + 64}; }}
stream {{
    access_log off;
    upstream servers {{
{upstream}    }}
    server {{
        listen 127.0.0.1:{port} backlog={BACKLOG};
        proxy_pass servers;
        proxy_connect_timeout 5s;
        proxy_timeout 1h;
    }}
}}
"""


def _load_stream_module(binary: str) -> str:
    """The line that loads the stream module, where it is not compiled in."""
    options = subprocess.run([binary, "-V"], capture_output=True, text=True, check=True).stderr
    if "--with-stream=dynamic" not in options:
        return ""
    modules = re.search(r"--modules-path=(\S+)", options)
    return f"load_module {modules[1] if modules else 'modules'}/ngx_stream_module.so;"


def _first_line(command: list[str]) -> str:
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    except (OSError, subprocess.CalledProcessError) as error:
        raise BenchError(
            f"{command[0]} does not run ({error}); give its path, or leave it out with --subjects"
        ) from error
    return (output.stdout or output.stderr).splitlines()[0]


@contextmanager
def started(
    name: str, command: Sequence[str], *, cpu: int, port: int, directory: Path, greet: bool = True
) -> Iterator[subprocess.Popen[bytes]]:
    """A balancer for the time of the block, once it is ready on `port`."""
    log = directory / f"{name}.log"
    with running(command, cpu=cpu, log=log) as process:
        _wait_until_ready(name, process, ("127.0.0.1", port), log, greet=greet)
        yield process


def _wait_until_ready(
    name: str, process: subprocess.Popen[bytes], address: tuple[str, int], log: Path, *, greet: bool
) -> None:
    """Ready means that a request reached a server and came back; without `greet`, that a connection is accepted."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if _is_ready(address, greet=greet):
            return
        time.sleep(0.02)
    raise BenchError(f"{name} is not ready (exit status {process.poll()}):\n{last_lines(log)}")


def _is_ready(address: tuple[str, int], *, greet: bool) -> bool:
    request = b"e" + bytes(63)
    try:
        with socket.create_connection(address, timeout=1) as connection:
            if not greet:
                return True
            connection.sendall(request)
            return connection.recv(len(request), socket.MSG_WAITALL) == request
    except OSError:
        return False
