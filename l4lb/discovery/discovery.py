"""The sources of all pools: started, kept and stopped as the configuration says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping

from l4lb.config import Config
from l4lb.config.sections.discover import Discover
from l4lb.discovery.follower import Follower
from l4lb.discovery.shrink_guard import Endpoints
from l4lb.discovery.sources import new_source
from l4lb.status import DiscoveryStatus

FIRST_ANSWER_TIMEOUT = 5.0
"""Seconds that a reload waits for new sources."""


class Discovery:
    """Owns the followers. `on_change` is called on the loop whenever the endpoints of a pool have changed.

    A source whose settings did not change goes on undisturbed. If they did, the known endpoints stay until the new
    source has answered. `known` has endpoints for pools whose source has not answered yet.
    """

    def __init__(self, on_change: Callable[[], None], known: Mapping[str, Endpoints] | None = None) -> None:
        self._on_change = on_change
        self._known = known or {}
        self._followers: dict[str, Follower] = {}
        self._prepared: dict[str, Follower] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def prepare(self, config: Config) -> None:
        """Start the sources that `config` adds, and wait a while for their first answers. `apply` takes them over."""
        self.discard()
        for name, pool in config.pools.items():
            settings, known = pool.discover, self._followers.get(name)
            if settings is not None and (known is None or known.settings != settings):
                self._prepared[name] = self._follow(name, settings)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_ANSWER_TIMEOUT):
                await asyncio.gather(*(follower.answered.wait() for follower in self._prepared.values()))

    def discard(self) -> None:
        """Stop the sources that were prepared but not applied."""
        for follower in self._prepared.values():
            self._end(follower)
        self._prepared.clear()

    def apply(self, config: Config) -> None:
        """Follow exactly the sources of this configuration from now on."""
        before, self._followers = self._followers, {}
        for name, pool in config.pools.items():
            if pool.discover is not None:
                self._followers[name] = self._take(name, pool.discover, before.pop(name, None))
        for follower in before.values():
            self._end(follower)
        self.discard()

    def _take(self, name: str, settings: Discover, known: Follower | None) -> Follower:
        if known is not None and known.settings == settings:
            return known
        prepared = self._prepared.get(name)
        if prepared is not None and prepared.settings == settings:
            follower = self._prepared.pop(name)
        else:
            follower = self._follow(name, settings)
        follower.inherit(self._known.get(name, ()) if known is None else known.endpoints)
        if known is not None:
            self._end(known)
        return follower

    def found(self, config: Config) -> Mapping[str, Endpoints]:
        """The known endpoints of each pool in this configuration, including prepared sources."""
        result = {}
        for name, pool in config.pools.items():
            if pool.discover is not None:
                known, prepared = self._followers.get(name), self._prepared.get(name)
                answered = prepared is not None and prepared.settings == pool.discover and prepared.answered.is_set()
                follower = prepared if answered else known
                result[name] = self._known.get(name, ()) if follower is None else follower.endpoints
        return result

    @property
    def waiting(self) -> bool:
        """Whether a pool knows no endpoints because its source has not answered yet."""
        return not all(follower.answered.is_set() or name in self._known for name, follower in self._followers.items())

    def status(self, pool: str, now: float) -> DiscoveryStatus | None:
        """The status of a pool's source; None if the pool has no source."""
        follower = self._followers.get(pool)
        return None if follower is None else follower.status(now)

    async def close(self) -> None:
        """Stop all sources and wait until they have ended."""
        for follower in self._followers.values():
            self._end(follower)
        self._followers.clear()
        self.discard()
        await asyncio.gather(*self._closing)

    def _follow(self, pool: str, settings: Discover) -> Follower:
        return Follower(pool, settings, new_source(settings), self._on_change)

    def _end(self, follower: Follower) -> None:
        task = asyncio.get_running_loop().create_task(follower.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
