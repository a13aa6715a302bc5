"""The status shows the limits in force: those of the file, or what an agent made of them."""

from __future__ import annotations

from tests.helpers.build import config
from tests.helpers.loops import run
from tests.helpers.stage import A, staged


def test_what_an_agent_says_of_connections_is_the_limit_in_force() -> None:
    async def body() -> None:
        async with staged() as stage:
            backend = {"name": "a", "address": A, "max_connections": 8, "max_busy": 3}
            pool = {"queue": {"size": 50}, "sticky": {"entries": 1000}}
            await stage.apply(config(backend, pool=pool, listener={"max_connections": 70}))
            assert stage.balancer.listeners()["web"].max_connections == 70
            shown = stage.balancer.pools()["app"]
            assert (shown.queue_size, shown.sticky_entries) == (50, 1000)
            assert (stage.backend("a").max_connections, stage.backend("a").max_busy) == (8, 3)
            stage.balancer.parts.findings.on_agent(("app", "a"), "maxconn:5")
            assert stage.backend("a").max_connections == 5
            stage.balancer.parts.findings.on_agent(("app", "a"), "maxconn:0")
            assert stage.backend("a").max_connections is None

    run(body())


def test_where_nothing_is_limited_there_is_no_limit() -> None:
    async def body() -> None:
        async with staged() as stage:
            await stage.apply(config(A))
            shown = stage.balancer.pools()["app"]
            assert stage.balancer.listeners()["web"].max_connections is None
            assert (shown.queue_size, shown.sticky_entries) == (None, None)
            assert (stage.backend().max_connections, stage.backend().max_busy) == (None, None)
            assert stage.balancer.max_connections == stage.engine.options.max_connections

    run(body())
