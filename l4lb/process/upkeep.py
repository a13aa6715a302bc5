"""What a running balancer has to do again and again, for as long as it runs."""

from __future__ import annotations

from l4lb.balancer.balancer import POLL_INTERVAL, Balancer
from l4lb.balancer.outliers import JUDGE_INTERVAL
from l4lb.balancer.rebalancer import REBALANCE_INTERVAL
from l4lb.base.tasks import Background, repeat

TIDY_INTERVAL = 0.25
RESOLVE_INTERVAL = 30.0
WEIGH_INTERVAL = 0.25
DISCOVERY_INTERVAL = 0.02
CUT_INTERVAL = 0.02
CUT_RETRY = 1.0


def keep_up(balancer: Balancer, tasks: Background) -> None:
    """Start it all among `tasks`. What has nothing to do waits without waking up."""
    tasks.start("housekeeping", repeat("housekeeping", TIDY_INTERVAL, balancer.tidy))
    tasks.start("sockets", repeat("closing sockets", POLL_INTERVAL, balancer.close_sockets))
    tasks.start("rebalance", repeat("rebalancing", REBALANCE_INTERVAL, balancer.rebalance))
    tasks.start("cuts", repeat("closing sessions of backends", CUT_INTERVAL, balancer.cut, longest=CUT_RETRY))
    tasks.start("passive health", repeat("passive health", JUDGE_INTERVAL, balancer.judge))
    tasks.start("weights", repeat("weighing backends", WEIGH_INTERVAL, balancer.weigh))
    tasks.start("discovery", repeat("discovery", DISCOVERY_INTERVAL, balancer.rediscover))
    tasks.start("resolve", repeat("resolving names", RESOLVE_INTERVAL, balancer.resolve_again))
