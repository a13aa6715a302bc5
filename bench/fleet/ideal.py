"""What no balancer of connections can do better: every request by itself goes to the replica with the fewest requests
in flight for its speed, as the replicas know it. Pure.
"""

from __future__ import annotations

from bench.fleet.client import Outcome
from bench.fleet.placement import Fleet
from bench.fleet.plan import Scenario
from bench.fleet.policies import Policy

NAME = "ideal"


def outcomes(scenario: Scenario, seed: int) -> list[Outcome]:
    return Fleet(scenario, seed, Policy(NAME, "known_speed")).run()
