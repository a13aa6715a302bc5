"""Tests whether the data plane would accept a configuration, on an engine that never starts.

Nothing is bound, resolved or contacted, and no database is read.
"""

from __future__ import annotations

from l4lb.balancer.compose import Composer
from l4lb.config import Address, Config
from l4lb.engine import NativeEngine
from l4lb.engine.api import EngineOptions
from l4lb.errors import StartError
from l4lb.net.interfaces import known_to_peers
from l4lb.net.target import Target, ip_target
from l4lb.state.containment import PoolFaults, refused
from l4lb.state.merge import merge
from l4lb.state.state import State
from l4lb.state.targets import literal
from l4lb.state.zones import Zones


def rehearse(config: Config) -> None:
    """StartError says what the data plane would refuse, and in which pool."""
    engine = NativeEngine(EngineOptions(pipes_per_worker=0))
    composer = Composer()
    try:
        zones = Zones({name: number for number, name in enumerate(config.zones, 1)})
        addresses = {backend.address for pool in config.pools.values() for backend in pool.backends}
        targets = {address: target for address in addresses if (target := _target(address)) is not None}
        state = merge(State(), config, targets, engine.take_slot, zones)
        snapshot = composer.compose(state, {}, config.log, accepting=False)
        if faults := dict(refused(engine, composer.new(state, snapshot))):
            raise PoolFaults(faults)
        engine.publish(snapshot)
    except (OSError, ValueError, StartError) as error:
        raise StartError(f"the data plane cannot take this configuration: {error}") from error
    finally:
        engine.close()


def _target(address: Address) -> Target | None:
    """The target of an address. Its interface need not exist yet."""
    if address.interface is None or address.host is None:
        return literal(address)
    return ip_target(f"{known_to_peers(address.host)}%1", address.port or 0)
