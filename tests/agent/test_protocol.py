"""The words of an agent, and asking for them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l4lb.agent.client import ask
from l4lb.agent.protocol import LINE_MAX, NO_REPORT, AgentReport, AgentWeight, format_line
from l4lb.net.target import Target
from l4lb.status import AdminState
from tests.helpers.loops import run, turns
from tests.helpers.peers import refused

READY, DRAIN, MAINT = AdminState.READY, AdminState.DRAIN, AdminState.MAINT
HALF = AgentWeight(50)


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        ("75%", AgentReport(weight=AgentWeight(75))),
        ("0%", AgentReport(weight=AgentWeight(0))),
        ("300%", AgentReport(weight=AgentWeight(300))),
        ("up ready weight:37%", AgentReport(weight=AgentWeight(37))),
        ("weight:37", AgentReport(weight=AgentWeight(37, relative=False))),
        ("weight:999999", AgentReport(weight=AgentWeight(256, relative=False))),
        ("drain,weight:0", AgentReport(state=DRAIN, weight=AgentWeight(0, relative=False))),
        ("  MAINT\t50% ", AgentReport(state=MAINT, weight=HALF)),
        ("maxconn:30", AgentReport(max_connections=30)),
        ("down", AgentReport(down=True)),
        ("fail", AgentReport(down=True)),
        ("stopped #upgrade, back soon 90%", AgentReport(down=True, remark="upgrade, back soon 90%")),
        ("50%#half", AgentReport(weight=HALF, remark="half")),
        ("up down", AgentReport(down=True)),
        ("", AgentReport()),
        ("hello -5% % weight: weight:x% maxconn:-1 ٣% 1e3% 99999999999%", AgentReport()),
    ],
)
def test_words_mean_what_they_mean_to_haproxy(line: str, verdict: AgentReport) -> None:
    assert NO_REPORT.with_line(line) == verdict


def test_what_is_not_mentioned_stays() -> None:
    verdict = NO_REPORT.with_line("drain 50% maxconn:9").with_line("down").with_line("up")
    assert verdict == AgentReport(state=DRAIN, weight=HALF, max_connections=9)
    assert verdict.with_line("ready 100%") == AgentReport(weight=AgentWeight(100), max_connections=9)


@pytest.mark.parametrize(
    ("said", "weight"),
    [
        (AgentWeight(50), 2.0),
        (AgentWeight(300), 12.0),
        (AgentWeight(25600), 256.0),
        (AgentWeight(7, relative=False), 7.0),
    ],
)
def test_percent_are_of_the_weight_and_weights_stand_in_its_place(said: AgentWeight, weight: float) -> None:
    assert said.of(4) == weight


@given(st.text(max_size=300))
def test_any_line_is_understood_somehow(line: str) -> None:
    verdict = NO_REPORT.with_line(line)
    assert verdict.remark.isprintable()
    assert len(verdict.remark) <= 200


def test_our_own_lines_are_understood() -> None:
    line = format_line(63, state=DRAIN, remark="gpu 0: lost")
    assert line == b"up drain 63% #gpu 0: lost\n"
    assert NO_REPORT.with_line(line.decode()) == AgentReport(state=DRAIN, weight=AgentWeight(63), remark="gpu 0: lost")
    assert format_line(None) == b"up\n"
    assert len(format_line(1, remark="x" * 9999)) == LINE_MAX


# ---- asking ----------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def speaking(*parts: bytes, stays: bool = False) -> AsyncIterator[Target]:
    """An agent that says this, and then hangs up unless it `stays`."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            for part in parts:
                writer.write(part)
                await writer.drain()
            if stays:
                await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield Target(socket.AF_INET, server.sockets[0].getsockname())
    finally:
        server.close()
        await server.wait_closed()
        await turns()


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        ((b"up 75%\n",), "up 75%"),
        ((b"up ", b"75", b"%\r\nmaint\n"), "up 75%"),
        ((b"drain",), "drain"),
        ((b"\xff 50%\n",), "\ufffd 50%"),
        ((b"x" * 65536,), "x" * LINE_MAX),
    ],
    ids=["line", "pieces", "no end", "no text", "garbage"],
)
def test_the_first_line_is_the_answer(parts: tuple[bytes, ...], line: str) -> None:
    async def main() -> None:
        async with speaking(*parts) as target:
            assert await ask(target, 5.0) == line

    run(main())


def test_an_agent_that_goes_on_talking_is_not_waited_for() -> None:
    async def main() -> None:
        async with speaking(b"up 75%\n", stays=True) as target:
            assert await ask(target, 5.0) == "up 75%"

    run(main())


@pytest.mark.parametrize("parts", [(), (b"\n",), (b"  \r\n",)])
def test_silence_is_a_failure(parts: tuple[bytes, ...]) -> None:
    async def main() -> None:
        async with speaking(*parts) as target:
            with pytest.raises(OSError, match="empty response"):
                await ask(target, 5.0)

    run(main())


def test_an_agent_that_hangs_is_given_up() -> None:
    async def main() -> None:
        async with speaking(b"up", stays=True) as target:
            with pytest.raises(TimeoutError, match="no answer within"):
                await ask(target, 0.05)

    run(main())


def test_an_agent_that_is_not_there_is_a_failure() -> None:
    async def main() -> None:
        with refused() as address, pytest.raises(ConnectionRefusedError):
            await ask(Target(socket.AF_INET, address), 5.0)

    run(main())
