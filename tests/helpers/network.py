"""Private networks: namespaces joined by a virtual cable, for faults that loopback cannot show. Needs root."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


class Network:
    """One network namespace, with its loopback up. Sockets made inside stay inside, whichever thread uses them."""

    def __init__(self) -> None:
        made: list[int] = []
        failed: list[OSError] = []

        def unshare() -> None:
            try:
                _check(_libc.unshare(_CLONE_NEWNET), "unshare")
                made.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
            except OSError as error:
                failed.append(error)

        thread = threading.Thread(target=unshare)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        self.fd = made[0]
        self.run("ip", "link", "set", "lo", "up")

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread, and the processes it starts, are inside."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.setns(self.fd, _CLONE_NEWNET), "setns")
            try:
                yield
            finally:
                _check(_libc.setns(home, _CLONE_NEWNET), "setns")
        finally:
            os.close(home)

    def run(self, *command: str) -> None:
        with self.entered():
            subprocess.run(command, check=True, capture_output=True, timeout=10)

    def set(self, name: str, value: str) -> None:
        """Set a `net.` kernel parameter of this namespace; the name is relative to /proc/sys/net."""
        with self.entered():
            Path("/proc/sys/net", name).write_text(value)

    def close(self) -> None:
        os.close(self.fd)


@contextlib.contextmanager
def isolated() -> Iterator[Network]:
    """A network of its own; the test is skipped where that is not allowed."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    try:
        network = Network()
    except (OSError, subprocess.CalledProcessError, FileNotFoundError) as error:
        pytest.skip(f"no network namespace: {error}")
    try:
        yield network
    finally:
        network.close()


INSIDE, OUTSIDE = "10.99.0.1", "10.99.0.2"


@contextlib.contextmanager
def cabled() -> Iterator[tuple[Network, Network]]:
    """Two networks joined by a cable: the first is INSIDE, the second OUTSIDE."""
    with isolated() as inside, isolated() as outside:
        _cable(inside, outside)
        yield inside, outside


def _cable(inside: Network, outside: Network) -> None:
    # `ip` takes a namespace by the process that lives in it.
    with outside.entered():
        holder = subprocess.Popen(["sleep", "60"])
    try:
        inside.run("ip", "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", str(holder.pid))
    finally:
        holder.kill()
        holder.wait()
    for network, address in ((inside, INSIDE), (outside, OUTSIDE)):
        network.run("ip", "address", "add", f"{address}/24", "dev", "wire")
        network.run("ip", "link", "set", "wire", "up")


def vanish(network: Network, peer: str) -> None:
    """Nothing from this network reaches `peer` any more, and no end is told: its host seems to be switched off."""
    network.run("ip", "route", "add", "blackhole", f"{peer}/32")
