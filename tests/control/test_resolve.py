"""From configured addresses to socket addresses, with a resolver that the test plays."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from l4lb.config import Address
from l4lb.control.resolve import CONCURRENCY, literal, resolve
from l4lb.health.probes import Target
from tests.helpers.loops import eventually, run, turns

NAME = Address.parse("model.example:8000")
NEW = Target(socket.AF_INET, ("192.0.2.1", 8000))
OLD = Target(socket.AF_INET, ("192.0.2.9", 8000))


def answer(*hosts: str, port: int = 8000) -> list[tuple[Any, ...]]:
    """What getaddrinfo gives."""
    return [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (host, port, 0, 0))
        if ":" in host
        else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))
        for host in hosts
    ]


GetAddrInfo = Callable[..., Awaitable[Any]]


def resolve_with(
    getaddrinfo: GetAddrInfo, *addresses: Address, known: Mapping[Address, Target] | None = None
) -> dict[Address, Target]:
    """What `resolve` finds on a loop that looks names up like this."""

    async def main() -> dict[Address, Target]:
        asyncio.get_running_loop().getaddrinfo = getaddrinfo  # type: ignore[method-assign, assignment]
        return await resolve(addresses, known or {})

    return run(main())


def answering(*hosts: str) -> GetAddrInfo:
    async def getaddrinfo(_host: str, port: int, **_options: Any) -> Any:
        return answer(*hosts, port=port)

    return getaddrinfo


def failing(error: Exception) -> GetAddrInfo:
    async def getaddrinfo(_host: str, _port: int, **_options: Any) -> Any:
        raise error

    return getaddrinfo


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("10.0.0.1:80", Target(socket.AF_INET, ("10.0.0.1", 80))),
        ("[2001:db8::1]:80", Target(socket.AF_INET6, ("2001:db8::1", 80))),
        ("unix:/run/x.sock", Target(socket.AF_UNIX, "/run/x.sock")),
        ("unix:@x", Target(socket.AF_UNIX, "\0x")),
        ("model.example:80", None),
    ],
)
def test_literals_need_no_look_up(text: str, target: Target | None) -> None:
    assert literal(Address.parse(text)) == target


def test_only_names_are_looked_up_and_each_once() -> None:
    asked: list[tuple[str, int]] = []

    async def getaddrinfo(host: str, port: int, **_options: Any) -> Any:
        asked.append((host, port))
        return answer("192.0.2.1", port=port)

    fixed = Address.parse("10.0.0.1:80")
    found = resolve_with(getaddrinfo, NAME, fixed, NAME)
    assert asked == [("model.example", 8000)]
    assert found == {NAME: NEW, fixed: literal(fixed)}


@pytest.mark.parametrize(
    "error", [socket.gaierror(-2, "Name or service not known"), OSError(5, "broken"), TimeoutError()]
)
def test_failure_keeps_what_is_known(error: Exception) -> None:
    assert resolve_with(failing(error), NAME, known={NAME: OLD}) == {NAME: OLD}


def test_name_that_never_resolved_has_no_target() -> None:
    assert resolve_with(failing(socket.gaierror(-2, "Name or service not known")), NAME) == {}


def test_answers_in_another_order_change_nothing() -> None:
    hosts = ["192.0.2.3", "2001:db8::1", "192.0.2.1", "192.0.2.2"]
    for turn in range(len(hosts)):
        assert resolve_with(answering(*hosts[turn:], *hosts[:turn]), NAME) == {NAME: NEW}


def test_ipv6_is_used_when_there_is_nothing_else() -> None:
    expected = Target(socket.AF_INET6, ("2001:db8::1", 8000))
    assert resolve_with(answering("2001:db8::2", "2001:db8::1"), NAME) == {NAME: expected}


def test_new_answer_replaces_the_old_one() -> None:
    assert resolve_with(answering("192.0.2.1"), NAME, known={NAME: OLD}) == {NAME: NEW}


def test_resolver_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(_host: str, _port: int, **_options: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr("l4lb.control.resolve.RESOLVE_TIMEOUT", 0.01)
    assert resolve_with(getaddrinfo, NAME, known={NAME: OLD}) == {NAME: OLD}


def test_number_of_look_ups_at_once_is_bounded() -> None:
    now, most = 0, 0

    async def main() -> int:
        go = asyncio.Event()

        async def getaddrinfo(_host: str, port: int, **_options: Any) -> Any:
            nonlocal now, most
            now += 1
            most = max(most, now)
            await go.wait()
            now -= 1
            return answer("192.0.2.1", port=port)

        asyncio.get_running_loop().getaddrinfo = getaddrinfo  # type: ignore[method-assign, assignment]
        names = [Address(host=f"n{number}.example", port=80) for number in range(3 * CONCURRENCY)]
        found = asyncio.ensure_future(resolve(names, {}))
        await eventually(lambda: now == CONCURRENCY)
        await turns()
        go.set()
        return len(await found)

    assert run(main()) == 3 * CONCURRENCY
    assert most == CONCURRENCY
