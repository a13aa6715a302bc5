"""The listening sockets of the process: opened together or not at all, kept as long as their address is configured.

Every worker has its own socket for each TCP address (SO_REUSEPORT). The kernel resets the clients that wait in the
queue of such a socket when it is closed, so sockets are kept across reloads and only closed when no worker uses them.
What a predecessor or the service manager already holds open is taken over, see `inherited`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from l4lb.config import Address, model
from l4lb.errors import StartError
from l4lb.net.interfaces import IpSocketAddress, socket_address
from l4lb.sockets.fd_store import Store, no_store
from l4lb.sockets.inherited import BindKey as BindKey
from l4lb.sockets.inherited import Inherited

UNIX_MODE = 0o666
"""Clients of any user may connect; the directory decides who gets that far."""

_IP_FREEBIND = 15
"""From linux/in.h; the socket module has no name for it."""


_LOST = "(lost)"
"""Takes the place of a listener's name."""

Rows = Sequence[Sequence[int]]
"""Descriptors of one bind: in each row one for every worker. One row, but for a bind taken over from more workers."""


def bind_key(listener: str, address: Address) -> BindKey:
    return (listener if address.port == 0 else "", address)


@dataclass(slots=True)
class Bind:
    """The sockets of one address, one for each worker; a unix socket is shared, so it is there once.

    Those taken over may be fewer or more: workers share them, or have several. `borrowed` ones belong to the service
    manager, as does the file of a unix socket; `identity` is that of a file to be removed with the bind.
    """

    address: Address
    sockets: list[socket.socket]
    identity: tuple[int, int] | None = None
    borrowed: bool = False

    def fds(self, workers: int) -> Rows:
        fds = [sock.fileno() for sock in self.sockets]
        rows = [fds[start : start + workers] for start in range(0, len(fds), workers)]
        return [[row[worker % len(row)] for worker in range(workers)] for row in rows]

    @property
    def is_lost(self) -> bool:
        """Whether no client reaches it: another file, or none, is where that of the unix socket was."""
        path = self.address.path
        if path is None or path.startswith("@"):
            return False
        found = _file_of(self.address)
        return found is None or self.identity not in (None, found)

    @property
    def shown(self) -> str:
        """The address really bound."""
        if self.address.is_unix:
            return str(self.address)
        host, port = self.sockets[0].getsockname()[:2]
        return str(Address(host=host if self.address.interface is None else self.address.host, port=port))

    def give_to(self, user: int, group: int) -> None:
        """Have the sockets, and the file of a unix one, belong to this user."""
        for sock in self.sockets:
            os.fchown(sock.fileno(), user, group)
        if self.address.path is not None and self.identity is not None:
            os.chown(self.address.path, user, group, follow_symlinks=False)

    def close(self) -> None:
        path = self.address.path
        if path is not None and self.identity is not None:
            with contextlib.suppress(OSError):
                if _identity(path) == self.identity:
                    os.unlink(path)
        for sock in self.sockets:
            sock.close()


@dataclass(slots=True)
class Sockets:
    """All open binds. Those in use are kept in `store` as well."""

    workers: int
    inherited: Inherited = field(default_factory=Inherited)
    store: Store = field(default_factory=no_store)
    binds: dict[BindKey, Bind] = field(default_factory=dict)

    def fds(self) -> dict[BindKey, Rows]:
        return {key: bind.fds(self.workers) for key, bind in self.binds.items()}

    def open_missing(self, listeners: Mapping[str, model.Listener]) -> list[BindKey]:
        """Open what `listeners` need and is not open; what was opened. StartError leaves nothing new behind."""
        opened: list[BindKey] = []
        configured = {address for listener in listeners.values() for address in listener.bind}
        try:
            for name, listener in listeners.items():
                for address in listener.bind:
                    key = bind_key(name, address)
                    if key not in self.binds:
                        self.binds[key] = self._take_over(key, configured) or self._open(name, address, listener)
                        opened.append(key)
        except StartError:
            self.close(opened)
            raise
        return opened

    def set_lost_aside(self) -> dict[BindKey, BindKey]:
        """Have sockets that no client reaches any more opened anew with what is missing. They are kept, for clients in
        their queues, by names that no listener has: so they are closed with what is not used. The names they had."""
        lost = [key for key, bind in self.binds.items() if key[0] != _LOST and bind.is_lost]
        aside = {(_LOST, key[1]): key for key in lost}
        for name, key in aside.items():
            # What is kept of them is as useless to a successor.
            self.store.forget(key)
            self.binds[name] = self.binds.pop(key)
        return aside

    def put_back(self, aside: Mapping[BindKey, BindKey]) -> None:
        """They are not opened anew after all."""
        for name, key in aside.items():
            self.binds[key] = self.binds.pop(name)

    def settle(self, listeners: Mapping[str, model.Listener]) -> None:
        """These listeners run: give every bind the backlog and the TCP options its listener has now, for clients that
        come, and have it kept."""
        for name, listener in listeners.items():
            for address in listener.bind:
                for sock in self.binds[bind_key(name, address)].sockets:
                    if not address.is_unix:
                        _set_tcp(sock, listener.tcp)
                    sock.listen(listener.backlog)
        # Before that, it is for its owner to say.
        if not self.inherited.shared:
            self._keep()

    def give_to(self, user: int, group: int) -> None:
        """Have all that is open belong to the user that this process becomes. The kernel lets only sockets of one user
        share a port (SO_REUSEPORT), and only the owner of a file may remove it from a directory such as /tmp."""
        for bind in self.binds.values():
            if not bind.borrowed:
                bind.give_to(user, group)

    def fade(self, keys: Iterable[BindKey]) -> None:
        """Let next to nobody queue for what is about to be closed: who is in the queue then is reset. Those who come
        are not answered, and are refused when they ask again a second later. `settle` takes it back. Where the socket
        stays open elsewhere, they queue for whoever has it next."""
        for key in keys:
            bind = self.binds[key]
            if not (bind.borrowed or self.store.stays(key)):
                for sock in bind.sockets:
                    sock.listen(0)

    def close(self, keys: Iterable[BindKey]) -> None:
        """Close these binds. What the store goes on to keep stays open there, and the file of a unix socket with it."""
        for key in keys:
            bind = self.binds.pop(key)
            if self.store.stays(key):
                bind.identity = None
            self.store.forget(key)
            bind.close()

    def own(self) -> None:
        """What was taken over is nobody else's any more: its files go with it, and it is kept."""
        self.inherited.shared = False
        for bind in self.binds.values():
            if not bind.borrowed:
                bind.identity = bind.identity or _file_of(bind.address)
        self._keep()

    def disown(self, keys: Container[BindKey]) -> None:
        """Another process has these too: whoever closes them here leaves their files alone, and what is stored. The
        others are to be closed."""
        for key, bind in self.binds.items():
            if key in keys:
                bind.identity = None
            else:
                self.store.forget(key)
        self.store.release()

    def _keep(self) -> None:
        kept = {key: bind.sockets for key, bind in self.binds.items() if not (bind.borrowed or key[0] == _LOST)}
        self.store.keep(kept)

    def _take_over(self, key: BindKey, configured: Container[Address]) -> Bind | None:
        _, address = key
        sockets = self.inherited.take(*key)
        if not sockets:
            borrowed = self.inherited.borrow(address, configured)
            return Bind(address, borrowed, borrowed=True) if borrowed else None
        return Bind(address, sockets, None if self.inherited.shared else _file_of(address))

    def _open(self, name: str, address: Address, listener: model.Listener) -> Bind:
        try:
            if address.is_unix:
                return _open_unix(address, listener.backlog)
            return self._open_tcp(address, listener)
        except OSError as error:
            reason = error.strerror or str(error)
            raise StartError(f"listeners.{name}: cannot bind {address}: {reason}; {_advice(error)}") from error

    def _open_tcp(self, address: Address, listener: model.Listener) -> Bind:
        bind = Bind(address, [])
        port = address.port
        try:
            ours = [bound for _, bound in self.binds] + list(self.inherited.addresses())
            if not any(_overlap(bound, address) for bound in ours):
                _refuse_foreign_owner(address, freebind=listener.freebind)
            for _ in range(self.workers):
                sock = socket.socket(socket.AF_INET6 if address.is_ipv6 else socket.AF_INET, socket.SOCK_STREAM)
                bind.sockets.append(sock)
                sock.setblocking(False)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                # Accepted sockets inherit it: one system call less for each client.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _set_tcp(sock, listener.tcp)
                _choose_families(sock, address)
                _set_freebind(sock, on=listener.freebind)
                sock.bind(_bound(address, port))
                port = sock.getsockname()[1]
            # All of them bound before any listens: from the first listen on, clients may come to each of them.
            for sock in bind.sockets:
                sock.listen(listener.backlog)
        except OSError:
            bind.close()
            raise
        return bind


def _set_tcp(sock: socket.socket, tcp: model.Tcp) -> None:
    """Accepted sockets inherit these too."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(tcp.keepalive is not None))
    if tcp.keepalive is not None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, round(tcp.keepalive))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, round(tcp.keepalive_interval))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, tcp.keepalive_probes)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round((tcp.user_timeout or 0.0) * 1000))


def _refuse_foreign_owner(address: Address, *, freebind: bool) -> None:
    """SO_REUSEPORT would let us share the port with any process of the same user, and half of the clients go there."""
    with socket.socket(socket.AF_INET6 if address.is_ipv6 else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _choose_families(probe, address)
        _set_freebind(probe, on=freebind)
        probe.bind(_bound(address, address.port))


def _bound(address: Address, port: int | None) -> IpSocketAddress:
    return socket_address(address.host or "", port or 0)


def _choose_families(sock: socket.socket, address: Address) -> None:
    """[::] takes IPv4 too. Where 0.0.0.0 is bound beside it, the kernel prefers that for IPv4."""
    if address.is_ipv6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address.host != "::"))


def _set_freebind(sock: socket.socket, *, on: bool) -> None:
    """Whether the address need not be there yet. Of IPv6 sockets as well: the kernel has one flag for both."""
    sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, int(on))


def _overlap(one: Address, other: Address) -> bool:
    """Whether a client may mean either of them."""
    hosts = {one.host, other.host}
    return one.port == other.port and (len(hosts) == 1 or not hosts.isdisjoint(("0.0.0.0", "::")))


def _open_unix(address: Address, backlog: int) -> Bind:
    path = address.path or ""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if not path.startswith("@"):
            _remove_dead(path)
        sock.bind(address.unix_name)
        bind = Bind(address, [sock])
        if not path.startswith("@"):
            os.chmod(path, UNIX_MODE)
            bind.identity = _identity(path)
        sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    return bind


def _remove_dead(path: str) -> None:
    """Make room at `path` if a dead socket is there, and only then."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "a file that is no socket is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _file_of(address: Address) -> tuple[int, int] | None:
    """The identity of the file of a unix socket; None if it has none."""
    path = address.path
    if path is None or path.startswith("@") or not os.path.exists(path):
        return None
    return _identity(path)


def _identity(path: str) -> tuple[int, int]:
    info = os.lstat(path)
    return info.st_dev, info.st_ino


def _advice(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "stop what uses it, or choose another address"
        case errno.EADDRNOTAVAIL:
            return "use an address of this host, or let the listener have freebind: true if the address comes later"
        case errno.ENODEV:
            return "name one of its interfaces"
        case errno.EACCES | errno.EPERM:
            return "ports below 1024 need CAP_NET_BIND_SERVICE, and a unix socket a writable directory"
        case _:
            return "choose another address"
