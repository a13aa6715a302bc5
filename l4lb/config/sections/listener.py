"""`listeners`: where clients are accepted, and which of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from l4lb.config.fields.addresses import Binds
from l4lb.config.fields.durations import Timeout
from l4lb.config.fields.networks import Networks
from l4lb.config.fields.numbers import Backlog, Connections
from l4lb.config.fields.shape import AT_LEAST_ONE
from l4lb.config.fields.strings import Name, Routes
from l4lb.config.sections import Section
from l4lb.config.sections.tcp import Tcp


class ProxyProtocol(Section):
    """Reading the PROXY header (versions 1 and 2) that another proxy puts before the client's bytes."""

    from_: Annotated[Networks, AT_LEAST_ONE, Field(alias="from")]
    """Peers that must send a header, and whose header is trusted."""

    mode: Literal["require", "optional"] = "require"
    """What to do with all *other* peers: `require` turns them away; `optional` serves them as ordinary clients and
    treats all they send as payload."""

    timeout: Timeout = 5.0
    """From accepting a peer in `from` to the end of its header."""


class Listener(Section):
    """Addresses that accept clients for one pool."""

    bind: Binds
    """Addresses to listen on. `*:80` is every IPv4 address; `[::]:80` is every address, IPv4 too unless another entry
    has that port on `0.0.0.0`. With port 0 the kernel chooses a port, which `l4lb status` shows. A unix socket has mode
    0666: the permissions of its directory decide which processes can connect."""

    freebind: bool = False
    """Bind addresses that this host does not have yet, such as the floating address of a standby (VRRP). Clients arrive
    once the address does; it may come and go."""

    pool: Name
    """The pool that serves the clients."""

    max_connections: Connections = 0
    """Clients at once; 0 is no limit. Further clients are not refused: they wait in the backlog."""

    allow: Networks = ()
    """Networks whose clients are served; an empty list allows every client."""

    deny: Networks = ()
    """Networks whose clients are turned away, even if `allow` has them."""

    proxy_protocol: ProxyProtocol | None = None
    """Read PROXY headers. Without the section none is read."""

    sni: Routes = Field(default_factory=dict)
    """Pools by the server name that a TLS client asks for. All other clients go to `pool`."""

    backlog: Backlog = 4096
    """Clients that the kernel holds for each socket (one for each worker) until they are accepted; the kernel caps it
    at `net.core.somaxconn`."""

    tcp: Tcp = Tcp()
    """Detect dead client connections."""
