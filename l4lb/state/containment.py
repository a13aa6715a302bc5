"""A fault of one pool stays in that pool: it goes on with what it had, and all others move on.

Whatever makes a part of a snapshot for each pool tries all of them, and raises the faults of all together. The whole is
then made again with the pools at fault as they were. The number of rounds is that of the steps that can fail, however
many pools do.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from l4lb.engine.api import Engine, PoolSpec
from l4lb.errors import StartError

SHOWN_MAX = 3
"""Faults that one message tells; the others are a number."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


class PoolFaults(StartError):
    """Pools that cannot be passed on to the data plane, and why."""

    def __init__(self, faults: Mapping[str, Exception]) -> None:
        self.faults = dict(faults)
        shown = [f"pool {name}: {error}" for name, error in list(self.faults.items())[:SHOWN_MAX]]
        more = len(self.faults) - len(shown)
        super().__init__("; ".join(shown) + (f"; and {more} pools more" if more else ""))


def refused(engine: Engine, pools: Iterable[tuple[str, PoolSpec]]) -> Iterator[tuple[str, Exception]]:
    """Which of these pools the data plane does not take, and why."""
    for name, spec in pools:
        try:
            engine.check_pool(spec)
        except (OSError, ValueError) as error:
            yield name, error


class Containment:
    """The pools that go on with what they had, and since when. `complaint` is what their log lines begin with."""

    def __init__(self, complaint: str) -> None:
        self._complaint = complaint
        self._faults: dict[str, str] = {}
        self._refused = ""
        self.faults_total: Counter[str] = Counter()

    def attempt(self, action: Callable[[frozenset[str]], T], may_keep: Callable[[str], bool]) -> T:
        """Call `action` with the pools that shall stay as they are: none at first, then those at fault.

        Its PoolFaults are raised where one of the pools must not be kept, or has been already.
        """
        kept: dict[str, str] = {}
        while True:
            try:
                result = action(frozenset(kept))
            except PoolFaults as error:
                if not all(name not in kept and may_keep(name) for name in error.faults):
                    raise
                kept |= {name: str(fault) or repr(fault) for name, fault in error.faults.items()}
            else:
                self._note(kept)
                return result

    def refuse(self, error: StartError) -> None:
        """None of it could be had; each reason is said once."""
        if str(error) != self._refused:
            _log.error("%s: %s", self._complaint, error)
        self._refused = str(error)

    @property
    def active(self) -> bool:
        """Whether any pool is not what it should be."""
        return bool(self._faults)

    def fault(self, pool: str) -> str | None:
        """Why this pool goes on with what it had; None if it does not."""
        return self._faults.get(pool)

    def _note(self, kept: dict[str, str]) -> None:
        for name, message in kept.items():
            self.faults_total[name] += 1
            if self._faults.get(name) != message:
                _log.error("pool %s: %s: %s; it keeps what it had", name, self._complaint, message)
        for name in self._faults.keys() - kept.keys():
            _log.info("pool %s is up to date again", name)
        self._faults, self._refused = kept, ""

    def forget(self, pools: Mapping[str, object]) -> None:
        """Only these pools are left."""
        for name in self.faults_total.keys() - pools.keys():
            del self.faults_total[name]
