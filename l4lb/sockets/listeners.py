"""The listening sockets of all listeners: opened together or not at all, and kept while a listener has their address.

Each worker has its own socket for each TCP address (SO_REUSEPORT). When such a socket is closed, the kernel resets the
clients in its queue. Therefore sockets are kept across reloads, closed only when no worker uses them, and taken over
from a predecessor or the service manager where they have them open, see `inherited`.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field

from l4lb.config import Address, model
from l4lb.errors import StartError
from l4lb.sockets.bind import Bind, BindKey, Rows, bind_key
from l4lb.sockets.fd_store import Store, no_store
from l4lb.sockets.inherited import Inherited
from l4lb.sockets.listen import cannot_bind, file_identity, open_tcp, open_unix, require_free
from l4lb.sockets.options import set_tcp

UNIX_MODE = 0o666
"""Users of the host may connect; the directory decides which of them."""

_LOST = "(lost)"
"""Takes the place of a listener's name."""


@dataclass(slots=True)
class Sockets:
    """Owns all open binds. Those in use are kept in `store` as well."""

    workers: int
    inherited: Inherited = field(default_factory=Inherited)
    store: Store = field(default_factory=no_store)
    binds: dict[BindKey, Bind] = field(default_factory=dict)

    def fds(self) -> dict[BindKey, Rows]:
        return {key: bind.fds(self.workers) for key, bind in self.binds.items()}

    # ---- opening and closing -------------------------------------------------------------------------------------

    def open_missing(self, listeners: Mapping[str, model.Listener]) -> list[BindKey]:
        """Open what `listeners` need and is not open; the new binds. After a StartError none of them is open."""
        opened: list[BindKey] = []
        configured = {address for listener in listeners.values() for address in listener.bind}
        try:
            for name, listener in listeners.items():
                for address in listener.bind:
                    key = bind_key(name, address)
                    if key not in self.binds:
                        taken_over = self.inherited.take_over(key, configured)
                        self.binds[key] = taken_over or self._open(name, address, listener)
                        opened.append(key)
        except StartError:
            self.close(opened)
            raise
        return opened

    def close(self, keys: Iterable[BindKey]) -> None:
        """Close these binds. One that stays open in the store keeps the file of its unix socket too."""
        for key in keys:
            bind = self.binds.pop(key)
            if self.store.stays(key):
                bind.disown_file()
            self.store.forget(key)
            bind.close()

    def _open(self, name: str, address: Address, listener: model.Listener) -> Bind:
        try:
            if address.is_unix:
                sock = open_unix(address, UNIX_MODE, listener.backlog)
                return Bind(address, [sock], file_identity(address))
            ours = [bound for _, bound in self.binds] + list(self.inherited.addresses())
            if not any(_overlap(bound, address) for bound in ours):
                require_free(address, freebind=listener.freebind)
            sockets = open_tcp(
                address,
                listener.backlog,
                count=self.workers,
                shared=True,
                tcp=listener.tcp,
                freebind=listener.freebind,
            )
            return Bind(address, sockets)
        except OSError as error:
            raise cannot_bind(f"listeners.{name}", address, error, takes_freebind=True) from error

    # ---- while they are open -------------------------------------------------------------------------------------

    def apply_settings(self, listeners: Mapping[str, model.Listener]) -> None:
        """Give each bind of these running listeners its listener's backlog and TCP options, and keep it in the store.
        The options are for clients that connect from now on."""
        for name, listener in listeners.items():
            for address in listener.bind:
                for sock in self.binds[bind_key(name, address)].sockets:
                    if not address.is_unix:
                        set_tcp(sock, listener.tcp)
                    sock.listen(listener.backlog)
        # Sockets that are still shared are their owner's to keep.
        if not self.inherited.shared:
            self._keep()

    def shrink_queues(self, keys: Iterable[BindKey]) -> None:
        """Let hardly any client queue at sockets that will be closed soon, since closing resets the queue. The kernel
        ignores the other clients; they ask again a second later and are refused. `apply_settings` undoes this. Sockets
        that stay open in another process keep their queues."""
        for key in keys:
            bind = self.binds[key]
            if not (bind.from_unit or self.store.stays(key)):
                for sock in bind.sockets:
                    sock.listen(0)

    def set_lost_aside(self) -> dict[BindKey, BindKey]:
        """Rename binds that no client reaches any more, so that `open_missing` opens them anew. Clients in their queues
        are served until the renamed binds are closed as unused. Returns the old name of each new one."""
        lost = [key for key, bind in self.binds.items() if key[0] != _LOST and bind.is_lost]
        aside = {(_LOST, key[1]): key for key in lost}
        for name, key in aside.items():
            # A successor could not reach the stored ones either.
            self.store.forget(key)
            self.binds[name] = self.binds.pop(key)
        return aside

    def put_back(self, aside: Mapping[BindKey, BindKey]) -> None:
        """Undo `set_lost_aside`: they were not opened anew."""
        for name, key in aside.items():
            self.binds[key] = self.binds.pop(name)

    # ---- ownership -----------------------------------------------------------------------------------------------

    def give_to(self, user: int, group: int) -> None:
        """Make the user that this process becomes the owner of all sockets and files. Only sockets of one user may
        share a port (SO_REUSEPORT), and only the owner may remove a file from a directory such as /tmp."""
        for bind in self.binds.values():
            if not bind.from_unit:
                bind.give_to(user, group)

    def take_ownership(self) -> None:
        """The predecessor has let go: the files are removed with their sockets, and the store keeps the sockets."""
        self.inherited.shared = False
        for bind in self.binds.values():
            bind.own_file()
        self._keep()

    def hand_over(self, keys: Container[BindKey]) -> None:
        """A successor has these binds: leave their files and stored sockets alone. All other binds will be closed."""
        for key, bind in self.binds.items():
            if key in keys:
                bind.disown_file()
            else:
                self.store.forget(key)
        self.store.release()

    def _keep(self) -> None:
        kept = {key: bind.sockets for key, bind in self.binds.items() if not (bind.from_unit or key[0] == _LOST)}
        self.store.keep(kept)


def _overlap(one: Address, other: Address) -> bool:
    """Whether a client's connection may fit both addresses."""
    hosts = {one.host, other.host}
    return one.port == other.port and (len(hosts) == 1 or not hosts.isdisjoint(("0.0.0.0", "::")))
