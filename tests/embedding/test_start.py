"""A start that fails says why, and leaves nothing, whichever step it is that fails."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import l4lb
from l4lb.embedding import running
from tests.embedding.build import config
from tests.helpers.peers import Backend

pytestmark = pytest.mark.usefixtures("clean")

Start = Callable[[Any], None]


def start(given: Any) -> None:
    with l4lb.Balancer(given):
        raise AssertionError("it has started")


def start_async(given: Any) -> None:
    async def main() -> None:
        async with l4lb.AsyncBalancer(given):
            raise AssertionError("it has started")

    asyncio.run(main())


both = pytest.mark.parametrize("begin", [start, start_async])


@both
@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (config(process={"user": "nobody"}), r"^process\.user: an embedded balancer cannot become another user"),
        (config(process={"max_connections": 10_000_000}), r"^process\.max_connections: 10000000 needs about"),
        (config(admin={"socket": "/nowhere/l4lb/admin.sock"}), r"admin\.socket: cannot bind unix:/nowhere"),
        (config(log={"access": {"to": "/nowhere/l4lb/log"}}), "cannot open log file"),
        (config(listener={"bind": "192.0.2.1:80"}), r"listeners\.web: cannot bind 192\.0\.2\.1:80"),
        (config(pool={"health": {"type": "https", "tls": {"ca": "/nowhere/ca.pem"}}}), "/nowhere/ca.pem"),
    ],
    ids=["user", "limits", "admin", "log", "address", "certificates"],
)
def test_what_cannot_be_had_is_named(begin: Start, given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(l4lb.StartError, match=sentence):
        begin(given)


@both
def test_a_port_that_is_taken_is_named(begin: Start) -> None:
    with Backend() as taken:
        with pytest.raises(l4lb.StartError, match=f"cannot bind {taken}: Address already in use"):
            begin(config(listener={"bind": ["127.0.0.1:0", str(taken)]}))
        with pytest.raises(l4lb.StartError, match=f"admin.listen: cannot bind {taken}: Address already in use"):
            begin(config(admin={"listen": str(taken)}))


@both
def test_a_bad_configuration_has_every_problem(begin: Start, tmp_path: Path) -> None:
    with pytest.raises(l4lb.ConfigError) as caught:
        begin(config(pool={"balance": "best"}, listener={"bind": "80", "pol": 1}))
    assert [problem.path for problem in caught.value.problems] == [
        "listeners.web.bind",
        "listeners.web.pol",
        "pools.app.balance",
    ]
    path = tmp_path / "l4lb.yaml"
    with pytest.raises(l4lb.ConfigError, match=f"^{path}:1:1: error: cannot read"):
        begin(path)
    path.write_text("listeners: {}\n")
    with pytest.raises(l4lb.ConfigError, match=rf"^{path}:1:1: error: the key 'pools' is missing"):
        begin(path)


@both
@pytest.mark.parametrize(
    "step", ["NativeEngine", "Engine.start", "Balancer.apply", "start_accepting", "Balancer.start"]
)
def test_a_step_that_fails_undoes_those_before_it(begin: Start, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    no_threads = OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def fail(*_arguments: object, **_names: object) -> None:
        raise no_threads

    class Engine:
        """The real one, which cannot have its threads."""

        def __init__(self, options: object) -> None:
            self._engine = real(options)

        def __getattr__(self, name: str) -> object:
            return fail if name == "start" else getattr(self._engine, name)

    real: Any = running.NativeEngine
    match step:
        case "NativeEngine":
            monkeypatch.setattr(running, "NativeEngine", fail)
        case "Engine.start":
            monkeypatch.setattr(running, "NativeEngine", Engine)
        case "Balancer.start":
            monkeypatch.setattr(running.Balancer, "start", fail)
        case _:
            monkeypatch.setattr(running.Balancer, step.removeprefix("Balancer."), fail)
    with pytest.raises((l4lb.StartError, OSError), match="Resource temporarily unavailable"):
        begin(config(admin={"listen": "127.0.0.1:0"}))


@both
def test_one_that_failed_to_start_is_closed(begin: Start) -> None:
    lb = l4lb.Balancer(config(process={"user": "nobody"}))
    with pytest.raises(l4lb.StartError):
        lb.start()
    with pytest.raises(l4lb.ControlError, match="is closed"):
        lb.status()
    lb.close()
