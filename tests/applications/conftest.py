"""An example configuration as it is shipped, moved to loopback addresses that only this run of the tests uses."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.helpers.balancer import ROOT, Balancer, Json
from tests.helpers.waiting import wait_until

PREFIX = f"127.{64 + (os.getpid() >> 8 & 63)}.{os.getpid() & 255}"
"""Stands for 10.0.0, the network of the examples."""

COMMAND_DEADLINE = 60.0


def moved(name: str) -> str:
    """The text of conf/NAME.yaml on the addresses of this run."""
    text = (ROOT / f"conf/{name}.yaml").read_text()
    return text.replace("10.0.0.0/8", "127.0.0.0/8").replace("10.0.0.", f"{PREFIX}.")


def example(name: str) -> Balancer:
    """A balancer, not started yet, that will run conf/NAME.yaml."""
    balancer = Balancer(raw="")
    text = moved(name)
    balancer.file.write_text(text.replace("/run/l4lb/admin.sock", str(balancer.socket_path)))
    return balancer


def program(name: str, directory: Path | None = None) -> str:
    """The path of a program; the test is skipped without it."""
    found = shutil.which(name, path=None if directory is None else str(directory))
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(*command: str) -> str:
    """The output of a program that has to succeed and say nothing of errors."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_DEADLINE)
    assert done.returncode == 0, f"{command}: {done.stderr}{done.stdout}"
    assert "err" not in (done.stderr + done.stdout).lower(), done.stderr + done.stdout
    return done.stdout


@contextmanager
def daemon(
    *command: str, log: Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A server, for the length of the block; in the directory of its log unless told otherwise."""
    with ExitStack() as stack, log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=cwd or log.parent, env=env
        )
        stack.callback(process.wait)
        stack.callback(process.terminate)
        yield process


def wait_all_closed(balancer: Balancer, listener: str) -> Json:
    """The status once no session is left. Every session there was went to a backend and ended on both sides."""
    wait_until(lambda: balancer.session_count() == 0, what=lambda: balancer.sessions())
    status = balancer.status()
    counts = status["listeners"][listener]
    pool = status["pools"][counts["pool"]]
    accepted = counts["connections_total"]
    assert accepted > 0
    assert not any(counts["rejected_total"].values()), counts
    assert pool["closed_total"]["normal"]["--"] == accepted, pool["closed_total"]
    assert sum(backend["connections_total"] for backend in pool["backends"].values()) == accepted
    assert sum(sum(codes.values()) for codes in pool["closed_total"].values()) == accepted
    return status
