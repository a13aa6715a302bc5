"""What the service manager passes to a process it starts: sockets of a socket unit, and those of its store.

The protocol is that of sd_listen_fds(3): descriptors from 3 on, how many, for whom, and what they are called.
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
    """Take over what was passed to this process, and hide it from its children. What is of no use is closed, and said.

    To be called once: the descriptors, from `first` on, belong to whoever asked first.
    """
    pid, count, names = (environment.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    inherited = Inherited()
    if pid != str(os.getpid()) or not count.isdecimal():
        return inherited
    known: set[tuple[int, int]] = set()
    given = _named(range(first, first + int(count)), names.split(":"))
    # A socket unit's first: one that is in the store too is the unit's.
    for fd, name in sorted(given, key=lambda item: key_of(item[1]) is not None):
        sock = _usable(fd, name)
        if sock is None:
            continue
        info = os.fstat(fd)
        key = key_of(name)
        if (info.st_dev, info.st_ino) in known:
            sock.close()
        elif key is None:
            inherited.unnamed.append(sock)
        else:
            inherited.named.setdefault(key, []).append(sock)
        known.add((info.st_dev, info.st_ino))
    return inherited


def _named(fds: range, names: list[str]) -> list[tuple[int, str]]:
    names += ["unknown"] * (len(fds) - len(names))
    return list(zip(fds, names, strict=False))


def _usable(fd: int, name: str) -> socket.socket | None:
    """The listening socket that `fd` is; None if it is something else, which is closed then."""
    try:
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
    except OSError:
        _log.warning("descriptor %d (%s) from the service manager is no socket", fd, name)
        _close(fd)
        return None
    if sock.family not in _FAMILIES:
        problem = "is no TCP or unix socket; use ListenStream="
    elif sock.type != socket.SOCK_STREAM:
        problem = "is no stream socket; use ListenStream="
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
