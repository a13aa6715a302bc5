"""Opens listening sockets, TCP and unix, for listeners and for the admin server.

A socket from here listens, does not block, and belongs to the caller. An error leaves no socket open; it is an OSError
with the reason, and `cannot_bind` turns it into the sentence that the operator reads.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat

from l4lb.config import Address, model
from l4lb.errors import StartError
from l4lb.net.interfaces import IpSocketAddress, socket_address
from l4lb.sockets.options import set_families, set_freebind, set_nodelay, set_tcp

FileIdentity = tuple[int, int]
"""Device and inode of a unix socket's file. No other file has the same while the socket is open."""


def open_tcp(
    address: Address,
    backlog: int,
    *,
    count: int = 1,
    shared: bool = False,
    tcp: model.Tcp | None = None,
    freebind: bool = False,
) -> list[socket.socket]:
    """`count` sockets of one address and one port. `shared` lets them share it (SO_REUSEPORT)."""
    port = address.port
    opened: list[socket.socket] = []
    try:
        for _ in range(count):
            sock = _new_tcp(address, freebind=freebind)
            opened.append(sock)
            sock.setblocking(False)
            set_nodelay(sock)
            if tcp is not None:
                set_tcp(sock, tcp)
            if shared:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(_bound(address, port))
            port = sock.getsockname()[1]
        # The kernel spreads clients over all sockets of the port as soon as one listens, so all are bound by then.
        for sock in opened:
            sock.listen(backlog)
    except OSError:
        for sock in opened:
            sock.close()
        raise
    return opened


def require_free(address: Address, *, freebind: bool) -> None:
    """OSError if another process has bound the address. With SO_REUSEPORT alone, a process of the same user would share
    the port and get half of the clients."""
    with _new_tcp(address, freebind=freebind) as probe:
        probe.bind(_bound(address, address.port))


def open_unix(address: Address, mode: int, backlog: int) -> socket.socket:
    """A unix socket and its file, which gets this `mode` and replaces the file of a dead socket."""
    path = file_path(address)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if path is None:
            sock.bind(address.unix_name)
        else:
            _remove_dead(path)
            # bind() gives the file the mode of the socket less the umask: no other user can connect before the chmod,
            # and the umask, which belongs to the whole process, stays as it is.
            os.fchmod(sock.fileno(), mode)
            sock.bind(path)
            os.chmod(path, mode)
        sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    return sock


def file_path(address: Address) -> str | None:
    """The path of a unix socket's file; None for TCP and for an abstract name."""
    return None if address.path is None or address.path.startswith("@") else address.path


def file_identity(address: Address) -> FileIdentity | None:
    """The identity of the file at this address; None if there is no file."""
    path = file_path(address)
    if path is None:
        return None
    try:
        info = os.lstat(path)
    except OSError:
        return None
    return info.st_dev, info.st_ino


def unlink_if_same(address: Address, identity: FileIdentity) -> None:
    """Remove the socket's file unless another process has put its own there. Call it while the socket is still open."""
    path = file_path(address)
    if path is not None and file_identity(address) == identity:
        with contextlib.suppress(OSError):
            os.unlink(path)


def cannot_bind(key: str, address: Address, error: OSError, *, takes_freebind: bool = False) -> StartError:
    """The sentence for an error of this module. `key` is where the configuration has the address, `takes_freebind`
    whether `freebind` can stand beside it."""
    advice = _advice(address, error, takes_freebind=takes_freebind)
    return StartError(f"{key}: cannot bind {address}: {error.strerror or error}; {advice}")


def _new_tcp(address: Address, *, freebind: bool) -> socket.socket:
    """Ready to be bound, also to a port that still has connections in TIME_WAIT."""
    sock = socket.socket(socket.AF_INET6 if address.is_ipv6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        set_families(sock, address)
        set_freebind(sock, on=freebind)
    except OSError:
        sock.close()
        raise
    return sock


def _bound(address: Address, port: int | None) -> IpSocketAddress:
    return socket_address(address.host or "", port or 0)


def _remove_dead(path: str) -> None:
    """Make room at `path` if a dead socket is there, and only then."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "a file that is not a socket is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # A process that is alive but stuck must not hold up the start.
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except OSError as error:
            # A full queue, and a datagram socket.
            if error.errno not in (errno.EAGAIN, errno.EPROTOTYPE):
                raise
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _advice(address: Address, error: OSError, *, takes_freebind: bool) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "stop what uses it, or choose another address"
        case errno.EADDRNOTAVAIL if takes_freebind:
            return "use an address of this host, or set freebind: true for one that appears later"
        case errno.EADDRNOTAVAIL:
            return "use an address of this host"
        case errno.ENODEV:
            return "name one of its interfaces"
        case errno.EEXIST:
            return "move it away, or choose another address"
        case errno.ENOENT:
            return "create its directory"
        case errno.EACCES | errno.EPERM | errno.EROFS if address.is_unix:
            return "give the user that l4lb runs as write access to its directory"
        case errno.EACCES | errno.EPERM:
            return "ports below 1024 need CAP_NET_BIND_SERVICE"
        case _:
            return "choose another address"
