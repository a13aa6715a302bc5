"""Creates the admin server's listening sockets. Every failure is a StartError that says what to do."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from typing import TYPE_CHECKING

from l4lb.errors import StartError
from l4lb.net.interfaces import socket_address

if TYPE_CHECKING:
    from l4lb.config.address import Address

DEFAULT_SOCKET = "/run/l4lb/admin.sock"
"""Where the process puts the admin socket and the commands look for it, unless they are told otherwise."""

UNIX_MODE = 0o660
BACKLOG = 128
CONNECT_TIMEOUT = 1.0  # a live but stuck owner of the socket must not stall the start


def listen_unix(path: str) -> socket.socket:
    """A listening unix socket of mode 0660 at `path`, in place of a dead one if there is one."""
    _remove_dead_socket(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # The file gets the mode of the socket without what the umask forbids, and after that the whole of it: at no
        # time may others connect, and the umask, which is everybody's, stays as it is.
        os.fchmod(sock.fileno(), UNIX_MODE)
        sock.bind(path)
        os.chmod(path, UNIX_MODE)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise StartError(f"cannot create the admin socket {path}: {_reason(error)}; {_advice(error)}") from error
    sock.setblocking(False)
    return sock


def _remove_dead_socket(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return  # bind says better what is wrong, if anything is
    if not stat.S_ISSOCK(mode):
        raise StartError(f"cannot create the admin socket {path}: a file that is no socket is there; move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(CONNECT_TIMEOUT)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            pass
        except OSError as error:
            raise StartError(
                f"cannot create the admin socket {path}: it is in use or out of reach ({_reason(error)}); "
                "stop the other process or set admin.socket to another path"
            ) from error
        else:
            raise StartError(
                f"cannot create the admin socket {path}: another process listens there; "
                "stop it or set admin.socket to another path"
            )
    try:
        os.unlink(path)
    except OSError as error:
        raise StartError(f"cannot replace the dead admin socket {path}: {_reason(error)}; remove it") from error


def unlink_if_same(path: str, identity: tuple[int, int]) -> None:
    """Remove the socket file, unless another process has put its own there. The socket must still be open."""
    with contextlib.suppress(OSError):
        if file_identity(path) == identity:
            os.unlink(path)


def file_identity(path: str) -> tuple[int, int]:
    info = os.lstat(path)
    return info.st_dev, info.st_ino


def listen_tcp(address: Address) -> socket.socket:
    """A listening TCP socket. As for listeners, `[::]` takes IPv4 clients too."""
    family = socket.AF_INET6 if address.is_ipv6 else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise StartError(f"cannot listen on {address} for admin.listen: {_reason(error)}") from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address.host != "::"))
        sock.bind(socket_address(address.host or "", address.port or 0))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise StartError(f"cannot listen on {address} for admin.listen: {_reason(error)}; {_advice(error)}") from error
    sock.setblocking(False)
    return sock


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _advice(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "stop what uses it or choose another one"
        case errno.EADDRNOTAVAIL:
            return "use an address of this host"
        case errno.ENODEV:
            return "name one of its interfaces"
        case errno.ENOENT:
            return "create its directory"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return "give the user l4lb runs as the right to do so"
        case _:
            return "choose another address"
