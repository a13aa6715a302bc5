"""The balancer inside another program: `Balancer` for threads, `AsyncBalancer` for asyncio.

Nothing here touches what belongs to the whole process: signals, limits, logging, the environment, event loop policies.
"""

from l4lb.embedding.asynchronous import AsyncBalancer
from l4lb.embedding.synchronous import Balancer

__all__ = ["AsyncBalancer", "Balancer"]
