"""The checks that a state asks for: where, how, and what they say about themselves. Pure, but for files of TLS."""

from __future__ import annotations

from dataclasses import replace

from l4lb.config import Config, model
from l4lb.errors import StartError
from l4lb.health.probes import load
from l4lb.health.probes.base import Subject
from l4lb.health.probes.tls import TlsFileError, load_context
from l4lb.health.scheduler import Check
from l4lb.net.interfaces import known_to_peers
from l4lb.net.target import Target, ip_target
from l4lb.state.backend_entry import BackendEntry
from l4lb.state.state import BackendKey, PoolEntry, State

Place = model.Health | model.BackendHealth | model.Agent | model.BackendAgent
"""Settings that may name another address and another port."""

_AS_THE_POOL = model.BackendHealth()


def checks_of(state: State) -> dict[BackendKey, Check]:
    """The checks of every backend that has an address and is not in maintenance."""
    return {
        key: _check(key, entry, pool, health, entry.target)
        for key, entry in state.backends()
        if (pool := state.pools[key[0]]).has_checks(entry.config)
        and (health := pool.config.health) is not None
        and entry.worth_checking
        and entry.target is not None
    }


def require_tls(config: Config) -> None:
    """Load the modules that checks need, and every file of their TLS. StartError names the first unusable one."""
    for name, pool in config.pools.items():
        if pool.health is not None:
            load(pool.health)
            try:
                load_context(pool.health)
            except TlsFileError as error:
                raise StartError(f"pools.{name}.health.tls: cannot use {error}") from None


def _check(key: BackendKey, entry: BackendEntry, pool: PoolEntry, health: model.Health, target: Target) -> Check:
    own = entry.config.health or _AS_THE_POOL
    place = check_target(target, health, own)
    elsewhere = own.address or health.address
    subject = Subject(
        pool=key[0],
        backend=key[1],
        host=entry.config.address.host if elsewhere is None else elsewhere,
        # A server at another address need not understand the PROXY header that the backend understands.
        send_proxy=health.send_proxy or (pool.config.send_proxy if place == target else "off"),
    )
    return Check(replace(place, sources=pool.config.source), health, entry.health, subject)


def check_target(target: Target, pool: Place, own: Place) -> Target:
    """Where to send the check: to the backend itself, or to another address or port. Settings of the backend win over
    those of the pool."""
    address, port = own.address or pool.address, own.port or pool.port
    if isinstance(target.address, str):
        if address is None or port is None:
            return target
        return _elsewhere(address, port)
    if address is not None:
        return _elsewhere(address, port or target.address[1])
    return target if port is None else target.at(port)


def _elsewhere(address: str, port: int) -> Target:
    try:
        return ip_target(address, port)
    except OSError:
        # The interface does not exist. Without it this check fails with that reason, and other checks go on.
        return ip_target(known_to_peers(address), port)
