"""`admin`: where the process can be asked and told things."""

from __future__ import annotations

from l4lb.config.fields.addresses import HostNames, TcpBind, UnixPath
from l4lb.config.sections import Section


class Admin(Section):
    """Where the process can be asked and told things. Changes need a restart."""

    socket: UnixPath | None = None
    """Path of the unix socket of the whole admin API. Not given: the path in L4LB_SOCKET, or /run/l4lb/admin.sock, if
    it can be had."""

    listen: TcpBind | None = None
    """Address of the read-only HTTP server: metrics, health and status."""

    hosts: HostNames = ()
    """Host names by which that address is asked, beside addresses and names that no stranger can have."""
