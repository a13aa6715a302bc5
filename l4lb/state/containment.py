"""Keeps a fault in its pool: that pool goes on with its last good settings, and all other pools change.

A step that works on every pool tries all of them and raises their faults together. The whole action is then repeated
with the faulty pools kept as they were. So it runs at most once for each step that can fail, however many pools fail.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from l4lb.engine.api import Engine, PoolSpec
from l4lb.errors import StartError

SHOWN_MAX = 3
"""Faults that one message names; the others are counted."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


class PoolFaults(StartError):
    """The pools that the data plane cannot use, and why."""

    def __init__(self, faults: Mapping[str, Exception]) -> None:
        self.faults = dict(faults)
        shown = [f"pool {name}: {error}" for name, error in list(self.faults.items())[:SHOWN_MAX]]
        more = len(self.faults) - len(shown)
        super().__init__("; ".join(shown) + (f"; and {more} more pools" if more else ""))


def refused(engine: Engine, pools: Iterable[tuple[str, PoolSpec]]) -> Iterator[tuple[str, Exception]]:
    """The pools that the data plane refuses, and why."""
    for name, spec in pools:
        try:
            engine.check_pool(spec)
        except (OSError, ValueError) as error:
            yield name, error


class Containment:
    """Remembers which pools are kept as they were. `complaint` begins their log lines."""

    def __init__(self, complaint: str) -> None:
        self._complaint = complaint
        self._faults: dict[str, str] = {}
        self._refused = ""
        self.faults_total: Counter[str] = Counter()

    def attempt(self, action: Callable[[frozenset[str]], T], may_keep: Callable[[str], bool]) -> T:
        """Call `action` with the pools to keep as they are: none at first, then the faulty ones.

        Raises its PoolFaults if `may_keep` refuses a faulty pool, or if a pool fails although it was kept.
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
        """The action failed as a whole. Each reason is logged once."""
        if str(error) != self._refused:
            _log.error("%s: %s", self._complaint, error)
        self._refused = str(error)

    @property
    def active(self) -> bool:
        """Whether any pool is kept as it was."""
        return bool(self._faults)

    def fault(self, pool: str) -> str | None:
        """Why this pool is kept as it was; None if it is not."""
        return self._faults.get(pool)

    def _note(self, kept: dict[str, str]) -> None:
        for name, message in kept.items():
            self.faults_total[name] += 1
            if self._faults.get(name) != message:
                _log.error("pool %s: %s: %s; keeping its last good settings", name, self._complaint, message)
        for name in self._faults.keys() - kept.keys():
            _log.info("pool %s is up to date again", name)
        self._faults, self._refused = kept, ""

    def forget(self, pools: Mapping[str, object]) -> None:
        """Drop the counts of all other pools."""
        for name in self.faults_total.keys() - pools.keys():
            del self.faults_total[name]
