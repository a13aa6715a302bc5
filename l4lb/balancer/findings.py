"""Puts into the state what checks, agents and scrapes find out about backends, each by one method."""

from __future__ import annotations

import logging
from dataclasses import replace

from l4lb.balancer.store import Reason, StateStore
from l4lb.state.changes import with_agent_report
from l4lb.state.state import BackendKey
from l4lb.status import HealthState

_log = logging.getLogger(__name__)


class Findings:
    """A finding about a backend that was removed meanwhile is dropped."""

    def __init__(self, store: StateStore) -> None:
        self._store = store

    def on_health(self, key: BackendKey, health: HealthState, message: str) -> None:
        """Checks agree on another health."""
        entry = self._store.state.find(key)
        if entry is None:
            return
        level = logging.INFO if health is HealthState.UP else logging.WARNING
        _log.log(level, "%s/%s is %s: %s", *key, health.value, message)
        self._store.replace({key: replace(entry, health=health)}, Reason.HEALTH)

    def on_agent(self, key: BackendKey, line: str) -> None:
        """The agent of a backend has sent a line."""
        entry = self._store.state.find(key)
        if entry is None:
            return
        changed = with_agent_report(self._store.state.pools[key[0]], entry, line)
        if changed.agent == entry.agent:
            return
        if (changed.agent.state, changed.agent.down) != (entry.agent.state, entry.agent.down):
            _log.warning("%s/%s: its agent reports %s", *key, line)
        self._store.replace({key: changed}, Reason.AGENT)

    def on_stalled(self, key: BackendKey, stalled: str | None) -> None:
        """The work of a backend stands still, for this reason; or, if None, makes progress."""
        entry = self._store.state.find(key)
        if entry is None or entry.stalled == stalled:
            return
        if stalled is None:
            _log.info("%s/%s is making progress again", *key)
        else:
            _log.warning("%s/%s is down: %s", *key, stalled)
        self._store.replace({key: replace(entry, stalled=stalled)}, Reason.PROGRESS)
