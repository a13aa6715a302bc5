"""Names become addresses, each by itself; failures, silence and reordered answers change nothing."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import pytest

from l4lb.balancer import resolve
from l4lb.balancer.resolve import Resolver, choose
from l4lb.config import Address
from l4lb.net.target import Target
from l4lb.state.targets import literal
from tests.helpers.loops import eventually, run

NAME = Address.parse("model.example:8000")
OTHER = Address.parse("other.example:8000")
NEW = Target(socket.AF_INET, ("192.0.2.1", 8000))
OLD = Target(socket.AF_INET, ("192.0.2.9", 8000))

Ask = Callable[[str], Sequence[str]]


class Names:
    """Answers by name; a name that is `silent` gets none until it is no longer."""

    def __init__(self, **hosts: list[str]) -> None:
        self.hosts = {f"{name}.example": found for name, found in hosts.items()}
        self.silent: dict[str, threading.Event] = {}
        self.asked: list[str] = []

    def hush(self, name: str) -> threading.Event:
        self.silent[name] = threading.Event()
        return self.silent[name]

    def __call__(self, name: str) -> Sequence[str]:
        self.asked.append(name)
        if name in self.silent:
            self.silent[name].wait()
        if not (found := self.hosts.get(name)):
            raise socket.gaierror(-2, "Name or service not known")
        return found


@contextlib.asynccontextmanager
async def resolving(
    ask: Names, known: Mapping[Address, Target] | None = None
) -> AsyncIterator[tuple[Resolver, list[int]]]:
    late: list[int] = []
    resolver = Resolver(lambda: late.append(1), known, ask)
    try:
        yield resolver, late
    finally:
        for event in ask.silent.values():
            event.set()
        await resolver.close()


def found(ask: Names, *addresses: Address, known: Mapping[Address, Target] | None = None) -> dict[Address, Target]:
    async def main() -> dict[Address, Target]:
        async with resolving(ask, known) as (resolver, _):
            return await resolver.look_up(addresses)

    return run(main())


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("10.0.0.1:80", Target(socket.AF_INET, ("10.0.0.1", 80))),
        ("[2001:db8::1]:80", Target(socket.AF_INET6, ("2001:db8::1", 80))),
        ("[fe80::1%lo]:80", Target(socket.AF_INET6, ("fe80::1", 80, 0, 1))),
        ("[fe80::1%7]:80", Target(socket.AF_INET6, ("fe80::1", 80, 0, 7))),
        ("[fe80::1%nowhere0]:80", None),
        ("unix:/run/x.sock", Target(socket.AF_UNIX, "/run/x.sock")),
        ("unix:@x", Target(socket.AF_UNIX, "\0x")),
        ("model.example:80", None),
    ],
)
def test_literals_need_no_look_up(text: str, target: Target | None) -> None:
    assert literal(Address.parse(text)) == target


def test_only_names_are_looked_up_and_each_once() -> None:
    ask, fixed, twin = Names(model=["192.0.2.1"]), Address.parse("10.0.0.1:80"), Address.parse("model.example:9000")
    assert found(ask, NAME, fixed, NAME, twin) == {
        NAME: NEW,
        fixed: literal(fixed),
        twin: Target(socket.AF_INET, ("192.0.2.1", 9000)),
    }
    assert ask.asked == ["model.example"]


def test_failure_keeps_what_is_known() -> None:
    assert found(Names(), NAME, known={NAME: OLD}) == {NAME: OLD}
    assert found(Names(), NAME) == {}


def test_answers_in_another_order_change_nothing() -> None:
    hosts = ["192.0.2.3", "2001:db8::1", "192.0.2.1", "192.0.2.2"]
    for turn in range(len(hosts)):
        assert found(Names(model=hosts[turn:] + hosts[:turn]), NAME) == {NAME: NEW}


def test_an_address_in_use_stays_as_long_as_it_is_among_the_answers() -> None:
    assert found(Names(model=["192.0.2.1", "192.0.2.9"]), NAME, known={NAME: OLD}) == {NAME: OLD}
    assert found(Names(model=["192.0.2.1"]), NAME, known={NAME: OLD}) == {NAME: NEW}
    assert choose(["192.0.2.1", "2001:db8::1"], "2001:db8::1") == "2001:db8::1"


def test_ipv6_is_used_when_there_is_nothing_else() -> None:
    expected = Target(socket.AF_INET6, ("2001:db8::1", 8000))
    assert found(Names(model=["2001:db8::2", "2001:db8::1"]), NAME) == {NAME: expected}


def test_names_that_are_silent_hold_up_no_other_and_count_when_they_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "CONCURRENCY", 1000)
    dead = [Address(host=f"n{number}.example", port=80) for number in range(300)]

    async def main() -> None:
        ask = Names(other=["192.0.2.1"], n0=["192.0.2.5"])
        for name in dead:
            ask.hush(name.host or "")
        async with resolving(ask) as (resolver, late):
            assert await resolver.look_up(dead, timeout=0.01) == {}
            assert await resolver.look_up([OTHER, *dead], timeout=0.05) == {
                OTHER: Target(NEW.family, ("192.0.2.1", 8000))
            }
            assert sorted(ask.asked) == sorted({name.host for name in dead} | {"other.example"})
            assert (late, resolver.is_failing(dead[0])) == ([], True)
            ask.silent["n0.example"].set()
            await eventually(lambda: late)
            assert not resolver.is_failing(dead[0])
            answered = await resolver.look_up(dead[:1])
            assert answered == {dead[0]: Target(socket.AF_INET, ("192.0.2.5", 80))}

    run(main())


def test_names_that_were_late_leave_places_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "CONCURRENCY", 4)
    monkeypatch.setattr(resolve, "SLOW_CONCURRENCY", 2)
    slow = [Address(host=f"n{number}.example", port=80) for number in range(4)]

    async def main() -> None:
        ask = Names(other=["192.0.2.1"])
        for name in slow:
            ask.hush(name.host or "")
        async with resolving(ask) as (resolver, _):
            await resolver.look_up(slow, timeout=0.01)
            for event in ask.silent.values():
                event.set()
            await eventually(lambda: not resolver._running)
            for name in slow:
                ask.hush(name.host or "")
            await resolver.look_up(slow, timeout=0.01)
            # All four are under way or wait for one of the two places of slow names: others have all of theirs.
            assert await resolver.look_up([OTHER]) == {OTHER: Target(NEW.family, ("192.0.2.1", 8000))}

    run(main())


def test_each_trouble_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        ask = Names()
        gone = Address.parse("[fe80::1%nowhere0]:80")
        async with resolving(ask) as (resolver, _):
            for _ in range(3):
                await resolver.look_up([NAME, gone])
            ask.hosts["model.example"] = ["192.0.2.1"]
            await resolver.look_up([NAME, gone])

    with caplog.at_level(logging.INFO):
        run(main())
    assert sorted(record.getMessage() for record in caplog.records) == [
        "cannot resolve [fe80::1%nowhere0]:80: this host has no interface nowhere0; keeping what is known",
        "cannot resolve model.example: Name or service not known; keeping what is known",
        "model.example resolves now",
    ]


def test_what_is_not_in_use_is_forgotten() -> None:
    async def main() -> None:
        async with resolving(Names(model=["192.0.2.1"])) as (resolver, _):
            await resolver.look_up([NAME, OTHER])
            assert (resolver.targets, resolver.is_failing(OTHER)) == ({NAME: NEW}, True)
            resolver.keep({})
            resolver.forget([NAME])
            assert (resolver.targets, resolver.is_failing(OTHER)) == ({}, False)

    run(main())
