"""`tcp`: of the connections of clients, and of those to backends."""

from __future__ import annotations

from l4lb.config.fields.durations import Keepalive, KeepaliveOrOff, UserTimeout
from l4lb.config.fields.numbers import Probes
from l4lb.config.sections import Section


class Tcp(Section):
    """How the kernel finds out that a TCP peer is lost. Unix sockets have none of it."""

    keepalive: KeepaliveOrOff = None
    """Silence after which a peer is asked for a sign of life."""

    keepalive_interval: Keepalive = 10.0
    """From a probe that is not answered to the next."""

    keepalive_probes: Probes = 6
    """Probes without an answer after which the peer is lost. `user_timeout` takes the place of this number."""

    user_timeout: UserTimeout = None
    """How long sent bytes may go unacknowledged, or untaken, until the peer is lost."""
