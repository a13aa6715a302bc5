"""`admin`: where the process can be asked and told things."""

from __future__ import annotations

from l4lb.config.fields.addresses import HostNames, TcpBind, UnixPath
from l4lb.config.sections import Section


class Admin(Section):
    """Where the process can be asked and told things. Changes need a restart."""

    socket: UnixPath | None = None
    """Path of the unix socket of the whole API, mode 0660. Without the key it is the path in `L4LB_SOCKET`, or else
    `/run/l4lb/admin.sock`; if that one cannot be opened, l4lb logs a warning and runs without a socket. A path given
    here has to work."""

    listen: TcpBind | None = None
    """TCP address of the same API, read-only: metrics, health, status. It asks for no password, so bind it where only
    trusted hosts reach it. It does not show the output that `exec` and `send_expect` checks quote."""

    hosts: HostNames = ()
    """Names that clients of `listen` may use in the `Host` header; `*.example.com` is every name below. Addresses,
    names without dots, this host's name, and names below `localhost`, `local`, `internal` and `svc` are always
    accepted. Other names get 403, which stops DNS rebinding: a web page that gives its own name the address of this
    host, to read the status with the browser of a visitor."""
