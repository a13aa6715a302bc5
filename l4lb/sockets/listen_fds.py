"""Receives the sockets that the service manager passes at the start: those of socket units, and those of its store.

The protocol is sd_listen_fds(3): descriptors from 3 on, with their number, the process they are for, and their names in
environment variables.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import MutableMapping

from l4lb.sockets.fd_store import key_of
from l4lb.sockets.inherited import Inherited, shown

FIRST = 3

_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)

_log = logging.getLogger(__name__)


def receive(environment: MutableMapping[str, str], first: int = FIRST) -> Inherited:
    """Take over the sockets passed to this process, from descriptor `first` on, and hide them from its children.

    Descriptors that are not listening sockets are closed with a warning. Call it once: the caller owns the descriptors.
    """
    pid, count, names = (environment.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    inherited = Inherited()
    if pid != str(os.getpid()) or not count.isdecimal():
        return inherited
    known: set[tuple[int, int]] = set()
    given = _named(range(first, first + int(count)), names.split(":"))
    # Socket units first: a socket that is in the store as well belongs to the unit.
    for fd, name in sorted(given, key=lambda item: key_of(item[1]) is not None):
        sock = _usable(fd, name)
        if sock is None:
            continue
        info = os.fstat(fd)
        key = key_of(name)
        if (info.st_dev, info.st_ino) in known:
            sock.close()
        elif key is None:
            inherited.from_unit.append(sock)
        else:
            inherited.named.setdefault(key, []).append(sock)
        known.add((info.st_dev, info.st_ino))
    return inherited


def _named(fds: range, names: list[str]) -> list[tuple[int, str]]:
    names += ["unknown"] * (len(fds) - len(names))
    return list(zip(fds, names, strict=False))


def _usable(fd: int, name: str) -> socket.socket | None:
    """The listening socket of this descriptor. Anything else is closed with a warning; then None."""
    try:
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
    except OSError:
        _log.warning("descriptor %d (%s) from the service manager is not a socket", fd, name)
        _close(fd)
        return None
    if sock.family not in _FAMILIES:
        problem = "is neither TCP nor unix; use ListenStream="
    elif sock.type != socket.SOCK_STREAM:
        problem = "is not a stream socket; use ListenStream="
    elif not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        problem = "does not listen; use Accept=no"
    else:
        return sock
    where = f" of {shown(sock)}" if sock.family in _FAMILIES else ""
    _log.warning("descriptor %d (%s) from the service manager is not used: the socket%s %s", fd, name, where, problem)
    sock.close()
    return None


def _close(fd: int) -> None:
    with contextlib.suppress(OSError):
        os.close(fd)
