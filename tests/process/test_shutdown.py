"""What the service manager hears while a process leaves."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from l4lb.balancer.balancer import Balancer
from l4lb.process import shutdown
from l4lb.process.shutdown import Shutdown, StopRequested
from l4lb.sockets.systemd import Notifier


class Leaving:
    """Of a balancer, what `Shutdown` uses."""

    sessions = 0

    async def stop_accepting(self) -> None: ...

    def drain_all(self) -> None: ...

    def session_count(self) -> int:
        return self.sessions

    busy_count = session_count


class Recorder(Notifier):
    def __init__(self) -> None:
        super().__init__({})
        self.said: list[str] = []

    def stopping(self, status: str) -> None:
        self.said.append(status)


def test_time_is_asked_for_while_only_the_replaced_process_has_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutdown, "STATUS_INTERVAL", 0.0)
    monkeypatch.setattr(shutdown, "DRAIN_POLL_INTERVAL", 0.0)
    recorder = Recorder()
    leaving = Shutdown(cast(Balancer, Leaving()), recorder, lambda: len(recorder.said) < 5)
    asyncio.run(leaving.drain(None))
    assert recorder.said == ["waiting for the process that was replaced to end"] * 5
    assert leaving.outcome == "stopped; every session had ended"


def test_a_stop_cancels_what_starts() -> None:
    async def start() -> None:
        leaving = Shutdown(cast(Balancer, Leaving()), Recorder())
        ended = asyncio.Event()

        async def never() -> None:
            leaving.request()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        with pytest.raises(StopRequested):
            await leaving.unless_requested(never())
        assert ended.is_set()

    asyncio.run(start())


def test_what_starts_is_waited_for_without_a_stop() -> None:
    async def start() -> None:
        async def answer() -> int:
            return 7

        assert await Shutdown(cast(Balancer, Leaving()), Recorder()).unless_requested(answer()) == 7

    asyncio.run(start())


def test_a_process_without_sessions_waits_for_no_other_one() -> None:
    recorder = Recorder()
    asyncio.run(Shutdown(cast(Balancer, Leaving()), recorder).drain(600.0))
    assert recorder.said == ["no session is left"]
