"""`tcp`: of the connections of clients, and of those to backends."""

from __future__ import annotations

from l4lb.config.fields.durations import Keepalive, KeepaliveOrOff, UserTimeout
from l4lb.config.fields.numbers import Probes
from l4lb.config.sections import Section


class Tcp(Section):
    """How the kernel finds out that a TCP peer is lost. Unix sockets have none of it."""

    keepalive: KeepaliveOrOff = None
    """Silence after which the kernel probes the peer. The peer's kernel answers whatever its program does, so this
    never ends a healthy connection, however long it is silent; and it shows NATs, firewalls and other balancers on the
    path that the connection is in use."""

    keepalive_interval: Keepalive = 10.0
    """From one unanswered probe to the next."""

    keepalive_probes: Probes = 6
    """Unanswered probes after which the peer is dead. With `user_timeout` this number is ignored."""

    user_timeout: UserTimeout = None
    """The peer is dead when bytes sent to it were not acknowledged for this long, **or not read: a live peer that does
    not read is cut off too** once the buffers are full."""
