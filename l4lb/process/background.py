"""What a running balancer has to do again and again, for as long as it runs."""

from __future__ import annotations

from l4lb.balancer.balancer import POLL_INTERVAL, Balancer
from l4lb.balancer.outliers import EVALUATE_INTERVAL
from l4lb.balancer.rebalancer import REBALANCE_INTERVAL
from l4lb.base.tasks import Supervisor, repeat

RECLAIM_INTERVAL = 0.25
RESOLVE_INTERVAL = 30.0
WEIGHTS_INTERVAL = 0.25
DISCOVERY_INTERVAL = 0.02
CUT_INTERVAL = 0.02
CUT_RETRY = 1.0


def start_background(balancer: Balancer, tasks: Supervisor) -> None:
    """Start it all among `tasks`. What has nothing to do waits without waking up."""
    tasks.start("housekeeping", repeat("housekeeping", RECLAIM_INTERVAL, balancer.reclaim))
    tasks.start("sockets", repeat("closing sockets", POLL_INTERVAL, balancer.close_sockets))
    tasks.start("rebalance", repeat("rebalancing", REBALANCE_INTERVAL, balancer.rebalance))
    tasks.start("cuts", repeat("closing sessions of backends", CUT_INTERVAL, balancer.cut, longest=CUT_RETRY))
    tasks.start("passive health", repeat("passive health", EVALUATE_INTERVAL, balancer.evaluate))
    tasks.start("weights", repeat("weighing backends", WEIGHTS_INTERVAL, balancer.update_weights))
    tasks.start("discovery", repeat("discovery", DISCOVERY_INTERVAL, balancer.rediscover))
    tasks.start("resolve", repeat("resolving names", RESOLVE_INTERVAL, balancer.resolve_again))
