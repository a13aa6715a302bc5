"""`listeners`: where clients are accepted, and which of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from l4lb.config.fields.addresses import Binds
from l4lb.config.fields.durations import Timeout
from l4lb.config.fields.networks import Networks
from l4lb.config.fields.numbers import Backlog, Connections
from l4lb.config.fields.shape import AT_LEAST_ONE
from l4lb.config.fields.words import Name, Routes
from l4lb.config.sections import Section
from l4lb.config.sections.tcp import Tcp


class ProxyProtocol(Section):
    """Reading the PROXY header (versions 1 and 2) that another proxy puts before the client's bytes."""

    from_: Annotated[Networks, AT_LEAST_ONE, Field(alias="from")]
    """Peers that must send a header, and whose header is believed."""

    mode: Literal["require", "optional"] = "require"
    """What becomes of all other peers: `require` turns them away, `optional` serves them as themselves. The peers in
    `from` must send a valid header in either mode."""

    timeout: Timeout = 5.0
    """From accepting the connection to the last byte of its header."""


class Listener(Section):
    """Addresses that accept clients for one pool."""

    bind: Binds
    """One address or a list."""

    freebind: bool = False
    """Whether to bind addresses that this host does not have yet, such as a floating one."""

    pool: Name
    """The pool that serves these clients."""

    max_connections: Connections = 0
    """Clients at once; 0 is no limit. More clients wait in the backlog."""

    allow: Networks = ()
    """Networks whose clients are served; none given is everyone."""

    deny: Networks = ()
    """Networks whose clients are turned away, even when `allow` has them."""

    proxy_protocol: ProxyProtocol | None = None
    """Not given: no PROXY header is read."""

    sni: Routes = Field(default_factory=dict)
    """Pools by the server name that a TLS client asks for. `pool` serves all others."""

    backlog: Backlog = 4096
    """Clients the kernel holds for each listening socket until they are accepted."""

    tcp: Tcp = Tcp()
    """For the connections of clients."""
