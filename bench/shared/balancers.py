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
from dataclasses import dataclass
from pathlib import Path

from bench.shared.processes import ROOT, BenchError, last_lines, running

START_SECONDS = 60.0
SESSIONS_MAX = 6000
BACKLOG = 4096
REQUESTS_MAX = 1_000_000_000
"""On a connection: nginx would close it after a thousand."""


@dataclass(frozen=True, slots=True)
class Greeting:
    """A request, and what its answer begins with when a server has replied to it."""

    request: bytes
    reply: bytes


ECHO = Greeting(b"e" + bytes(63), b"e" + bytes(63))
"""Of the load generator's own protocol."""
GET = Greeting(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n", b"HTTP/1.1 200")


def l4lb_version() -> str:
    return first_line([*_L4LB, "--version"]).split()[-1]


def haproxy_version(binary: str) -> str:
    return first_line([binary, "-v"]).removeprefix("HAProxy version ").split()[0]


def nginx_version(binary: str) -> str:
    return first_line([binary, "-v"]).rpartition("/")[2]


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


def nginx_stream(binary: str, directory: Path, port: int, upstream: str) -> str:
    """A whole configuration of TCP mode; `upstream` is the inside of the block with the servers."""
    return f"""\
{_load_stream_module(binary)}
{_nginx_preamble(directory)}\
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


def nginx_http(directory: Path, port: int, upstream: str) -> str:
    """A whole configuration of HTTP mode, as guides of model servers have it: backend connections stay open, and pieces
    of answers are not held back. `upstream` is the inside of the block with the servers."""
    temporary = "".join(
        f"    {kind}_temp_path {directory}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""\
{_nginx_preamble(directory)}\
http {{
    access_log off;
{temporary}\
    keepalive_timeout 1h;
    keepalive_requests {REQUESTS_MAX};
    upstream servers {{
{upstream}\
        keepalive {SESSIONS_MAX};
        keepalive_requests {REQUESTS_MAX};
    }}
    server {{
        listen 127.0.0.1:{port} backlog={BACKLOG};
        location / {{
            proxy_pass http://servers;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_buffer_size 64k;
            proxy_buffers 8 64k;
            proxy_connect_timeout 5s;
            proxy_read_timeout 1h;
            proxy_send_timeout 1h;
        }}
    }}
}}
"""


def _nginx_preamble(directory: Path) -> str:
    return f"""\
daemon off;
worker_processes 1;
worker_rlimit_nofile {2 * SESSIONS_MAX + 256};
pid {directory}/nginx.pid;
error_log stderr crit;
events {{ worker_connections {2 * SESSIONS_MAX + 64}; }}
"""


def _load_stream_module(binary: str) -> str:
    """The line that loads the stream module, where it is not compiled in."""
    options = subprocess.run([binary, "-V"], capture_output=True, text=True, check=True).stderr
    if "--with-stream=dynamic" not in options:
        return ""
    modules = re.search(r"--modules-path=(\S+)", options)
    return f"load_module {modules[1] if modules else 'modules'}/ngx_stream_module.so;"


def first_line(command: list[str]) -> str:
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    except (OSError, subprocess.CalledProcessError) as error:
        raise BenchError(
            f"{command[0]} does not run ({error}); give its path, or leave it out with --subjects"
        ) from error
    return (output.stdout or output.stderr).splitlines()[0]


@contextmanager
def started(
    name: str, command: Sequence[str], *, cpu: int, port: int, directory: Path, greeting: Greeting | None = ECHO
) -> Iterator[subprocess.Popen[bytes]]:
    """A balancer for the time of the block, once it is ready on `port`: the greeting reached a server and came back.
    Without one, ready means that a connection is accepted."""
    log = directory / f"{name}.log"
    with running(command, cpu=cpu, log=log) as process:
        _wait_until_ready(name, process, ("127.0.0.1", port), log, greeting)
        yield process


def _wait_until_ready(
    name: str, process: subprocess.Popen[bytes], address: tuple[str, int], log: Path, greeting: Greeting | None
) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if _is_ready(address, greeting):
            return
        time.sleep(0.02)
    raise BenchError(f"{name} is not ready (exit status {process.poll()}):\n{last_lines(log)}")


def _is_ready(address: tuple[str, int], greeting: Greeting | None) -> bool:
    try:
        with socket.create_connection(address, timeout=1) as connection:
            if greeting is None:
                return True
            connection.sendall(greeting.request)
            return connection.recv(len(greeting.reply), socket.MSG_WAITALL) == greeting.reply
    except OSError:
        return False
