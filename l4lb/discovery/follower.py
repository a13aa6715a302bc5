"""Keeps a source running and remembers its endpoints through failures, bursts of changes and suspicious answers."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from l4lb.base.tasks import supervise
from l4lb.base.text import clipped, plural, quoted, reason
from l4lb.config.sections.discover import Discover
from l4lb.discovery.shrink_guard import AcceptedEndpoints, Endpoints, ShrinkRules
from l4lb.discovery.source import ENDPOINTS_MAX, Answer, DiscoveryError, Endpoint, NothingThere, Source
from l4lb.discovery.usable import usable
from l4lb.status import DiscoveryStatus

BACKOFF_MIN = 0.5
BACKOFF_MAX = 30.0
"""Seconds until a failed source is tried again: doubled after each failure, up to this maximum."""

QUIET = 0.1
"""Seconds without a further change after which a burst of changes is passed on."""

PATIENCE = 1.0
"""Seconds after which changes are passed on even if more keep coming."""

JUDGED_AT_ONCE = 512
"""Endpoints that are validated on the loop, within milliseconds. More use a thread."""

MISSES = 3
"""Consecutive DNS answers that must lack an endpoint before it is removed."""

REMARKS_SHOWN = 10
"""Entries of one answer that are logged one by one; the others are only counted."""

REMARK_MAX = 200

_log = logging.getLogger(__name__)


def backoff(failures: int, dice: random.Random) -> float:
    """Seconds to wait after `failures` failures in a row. Random, so that many balancers do not come back in step."""
    return min(BACKOFF_MAX, BACKOFF_MIN * 2.0 ** min(failures - 1, 30)) * dice.uniform(0.5, 1.0)


def due(first: float, last: float) -> float:
    """When to pass on a burst of changes whose first and last came at these times."""
    return min(last + QUIET, first + PATIENCE)


class Follower:
    """Owns the task that watches `source` for a pool. Implements `Report`. `on_change` is called on the loop whenever
    `endpoints` has changed. `inherited` is used until the source has answered."""

    def __init__(self, pool: str, settings: Discover, source: Source, on_change: Callable[[], None]) -> None:
        self.settings = settings
        self.endpoints: Endpoints = ()
        self.answered = asyncio.Event()
        self._label = f"pool {pool}: {settings.kind}"
        self._source = source
        self._on_change = on_change
        self._rules = ShrinkRules(settings.max_removed, settings.hold, MISSES if settings.kind == "dns" else 0)
        self._accepted = AcceptedEndpoints()
        self._working = True
        self._message = "not answered yet"
        self._confirmed_at: float | None = None
        self._changed_at: float | None = None
        self._updates_total = Counter(success=0, failure=0)
        self._good: frozenset[Endpoint] = frozenset()
        self._unusable: Mapping[str, str] = {}
        self._notes: Mapping[str, str] = {}
        self._unusable_total = 0
        self._flush_timer: asyncio.TimerHandle | None = None
        self._hold_timer: asyncio.TimerHandle | None = None
        self._dice = random.Random()
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(supervise(self._label, self._run), name=f"discovery {pool}")

    def inherit(self, endpoints: Endpoints) -> None:
        """Use these endpoints until the source has answered."""
        if not self.answered.is_set():
            self.endpoints = endpoints
            if self._rules.misses:
                self._accepted = AcceptedEndpoints(endpoints)

    async def close(self) -> None:
        """Stop watching and wait until the task has ended. The endpoints stay available."""
        self._task.cancel()
        for timer in (self._flush_timer, self._hold_timer):
            if timer is not None:
                timer.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def status(self, now: float) -> DiscoveryStatus:
        return DiscoveryStatus(
            source=self.settings.kind,
            working=self._working,
            message=self._message,
            age=None if self._confirmed_at is None else max(0.0, now - self._confirmed_at),
            endpoints=len(self.endpoints),
            held=self._accepted.held_back,
            updates_total=self._updates_total,
            unusable=len(self._unusable),
            unusable_total=self._unusable_total,
        )

    # ---- what the source reports -----------------------------------------------------------------------------------

    async def found(self, answer: Answer | Sequence[Endpoint]) -> None:
        answer = answer if isinstance(answer, Answer) else Answer(list(answer))
        if len(answer.endpoints) > ENDPOINTS_MAX:
            raise DiscoveryError(f"{len(answer.endpoints)} endpoints are more than the {ENDPOINTS_MAX} that fit")
        good, wrong = await self._judged(answer.endpoints)
        self._works()
        self._good = frozenset(good)
        self._note_unusable({**answer.unusable, **wrong})
        self._notes = self._say("%s: %s: %s", answer.notes, self._notes)
        self._believe(self._accepted.with_answer(_in_order(good), self._loop.time(), self._rules))

    async def _judged(self, endpoints: Sequence[Endpoint]) -> tuple[list[Endpoint], dict[str, str]]:
        if len(endpoints) <= JUDGED_AT_ONCE:
            return usable(endpoints, self._good)
        return await asyncio.to_thread(usable, endpoints, self._good)

    def _note_unusable(self, unusable: Mapping[str, str]) -> None:
        self._unusable = self._say("%s: %s is left out: %s", unusable, self._unusable)
        self._unusable_total += len(unusable)

    def _say(self, template: str, said: Mapping[str, str], before: Mapping[str, str]) -> Mapping[str, str]:
        """Log the new entries, up to a limit, and remember all of them."""
        news = [(name, why) for name, why in said.items() if before.get(name) != why]
        for name, why in news[:REMARKS_SHOWN]:
            _log.warning(template, self._label, name, quoted(why, REMARK_MAX))
        if len(news) > REMARKS_SHOWN:
            _log.warning("%s: and so are %d more", self._label, len(news) - REMARKS_SHOWN)
        return said

    def unchanged(self) -> None:
        self._works()
        self._believe(self._accepted.unchanged(self._loop.time(), self._rules))

    def failed(self, message: str) -> None:
        self._updates_total["failure"] += 1
        if self._working:
            kept = plural(len(self.endpoints), "backend")
            _log.warning("%s fails: %s; keeping the %s known, trying again", self._label, message, kept)
        self._working, self._message = False, message

    def _works(self) -> None:
        if not self._working:
            _log.info("%s works again", self._label)
        self._working, self._confirmed_at = True, self._loop.time()
        self._updates_total["success"] += 1

    def _believe(self, belief: AcceptedEndpoints) -> None:
        if belief.held_since is not None and self._accepted.held_since is None:
            _log.warning(
                "%s has only %d of %d backends now; the others are kept for %g s in case that is a fault",
                self._label,
                len(belief.answer),
                len(belief.endpoints),
                self._rules.hold,
            )
            self._watch_hold(belief.held_since + self._rules.hold)
        self._accepted = belief
        self._message = plural(len(belief.endpoints), "endpoint") + (
            f", {belief.held_back} held" if belief.held_back else ""
        )
        if self._unusable:
            name, why = next(iter(self._unusable.items()))
            self._message += clipped(f"; {len(self._unusable)} left out ({name}: {quoted(why, REMARK_MAX)})")
        if not self.answered.is_set():
            self._flush()
            self.answered.set()
        elif belief.endpoints != self.endpoints:
            now = self._loop.time()
            if self._flush_timer is None:
                self._changed_at = now
            else:
                self._flush_timer.cancel()
            self._flush_timer = self._loop.call_at(due(self._changed_at or now, now), self._flush)

    def _watch_hold(self, deadline: float) -> None:
        if self._hold_timer is not None:
            self._hold_timer.cancel()
        self._hold_timer = self._loop.call_at(deadline, self._end_hold, deadline)

    def _end_hold(self, deadline: float) -> None:
        # If the source is failing now, wait for its next answer instead.
        if self._working:
            self._believe(self._accepted.unchanged(max(deadline, self._loop.time()), self._rules))

    def _flush(self) -> None:
        self._flush_timer = None
        before, self.endpoints = self.endpoints, self._accepted.endpoints
        if before == self.endpoints and self.answered.is_set():
            return
        old, new = ({endpoint.name for endpoint in endpoints} for endpoints in (before, self.endpoints))
        found = f"{plural(len(new), 'backend')}, {len(new - old)} new, {len(old - new)} gone"
        _log.log(logging.INFO if new else logging.WARNING, "%s has %s", self._label, found)
        self._on_change()

    # ---- keeping it going ------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        failures = 0
        while True:
            begun = self._loop.time()
            try:
                await self._source.watch(self)
            except NothingThere as error:
                if self._rules.hold == 0:
                    await self.found(())
                else:
                    self.failed(str(error))
            except (DiscoveryError, OSError, TimeoutError, ValueError) as error:
                self.failed(reason(error))
            except Exception as error:
                if self._working:
                    _log.exception("unexpected error in %s", self._label)
                self.failed(clipped(repr(error)))
            # A source that answers and then fails at once counts as failing.
            failures = 1 if self._loop.time() - begun > BACKOFF_MAX else failures + 1
            await asyncio.sleep(min(backoff(failures, self._dice), max(self._source.interval, BACKOFF_MIN)))


def _in_order(endpoints: Sequence[Endpoint]) -> Endpoints:
    """Sorted by name, without duplicates: the order of an answer does not matter."""
    return tuple(sorted({endpoint.name: endpoint for endpoint in reversed(endpoints)}.values(), key=_name))


def _name(endpoint: Endpoint) -> str:
    return endpoint.name
