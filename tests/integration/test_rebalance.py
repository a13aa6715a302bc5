"""Plain sessions: connections of keep-alive clients move to backends that have less than their share."""

from __future__ import annotations

import pytest

from tests.conftest import MakeScene
from tests.helpers.keepalive import Habit, crowd, respond
from tests.helpers.peers import Served
from tests.helpers.scene import Scene
from tests.helpers.waiting import wait_until

CLIENTS = 60
STEADY = Habit(length=2000, think=1.0)
"""Asks once a second, so its connection is never without a byte for long."""

PATIENCE = 60.0
"""Seconds that a step may take. Not what is tested: the machine may be busy."""


def connections(scene: Scene) -> dict[str, int]:
    backends = scene.pool_status()["backends"]
    return {name: backend["connections"] for name, backend in backends.items()}


@pytest.mark.parametrize("algorithm", ["round_robin", "least_busy"])
def test_clients_that_ask_all_the_time_share_a_backend_that_joins(balance: MakeScene, algorithm: str) -> None:
    """Their responses are surely complete, so their connections need not be silent for long."""
    with Served(respond) as first, Served(respond) as second, Served(respond) as third, Served(respond) as joined:
        scene = balance(first, second, third, pool={"balance": algorithm, "rebalance": {}})
        with crowd(scene.address, *[STEADY] * CLIENTS) as clients:
            wait_until(lambda: sum(connections(scene).values()) == CLIENTS, PATIENCE)
            wait_until(lambda: all(client.requests > 2 for client in clients.clients), PATIENCE)
            scene.reload(backends=[first, second, third, joined])
            fair = CLIENTS / 4
            wait_until(lambda: connections(scene)["b3"] >= 0.9 * fair, PATIENCE, what=lambda: connections(scene))
            clients.check()
        assert scene.closed().keys() <= {"-- normal", "DD rebalanced"}
