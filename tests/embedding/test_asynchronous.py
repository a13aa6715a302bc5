"""`l4lb.AsyncBalancer`: on asyncio's loop and on uvloop, whatever happens to the task that has it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import l4lb
from l4lb.embedding import config_source
from l4lb.types import AdminState
from tests.embedding.build import config, spotless
from tests.embedding.conftest import Run
from tests.helpers.leaks import resident_bytes
from tests.helpers.loops import eventually, turns
from tests.helpers.peers import Backend, Background, Peer, Served, ask, connect, echo, named
from tests.helpers.waiting import DEADLINE

pytestmark = pytest.mark.usefixtures("clean")

MEBIBYTE = 1 << 20


async def asked(address: tuple[str, int]) -> str:
    return await asyncio.to_thread(ask, address)


def test_traffic_goes_through(run: Run) -> None:
    async def main() -> None:
        async with l4lb.AsyncBalancer(config(backend)) as lb:
            reader, writer = await asyncio.open_connection(*lb.address("web"))
            writer.write(b"question")
            assert await reader.readexactly(8) == b"question"
            writer.close()
            await writer.wait_closed()

    with Served(echo) as backend:
        run(main())


def test_a_blocked_loop_delays_no_traffic(run: Run) -> None:
    async def main() -> None:
        async with l4lb.AsyncBalancer(config(backend)) as lb:
            # Not once does this coroutine let the loop run.
            with connect(lb.address("web")) as client:
                for _ in range(100):
                    client.send(b"question")
                    assert client.receive(8) == b"question"

    with Served(echo) as backend:
        run(main())


def test_everything_can_be_asked_and_told(run: Run) -> None:
    async def main() -> None:
        told: list[l4lb.Session] = []
        async with l4lb.AsyncBalancer(config(backend, admin={"listen": "127.0.0.1:0"}), on_close=told.append) as lb:
            with connect(lb.address("web")):
                server = await asyncio.to_thread(backend.accept)
                (session,) = await lb.sessions()
                lb.weight("app/b0", 7)
                lb.drain("app/b0")
                shown = lb.status().pools["app"].backends["b0"]
                assert (shown.weight, shown.state) == (7, AdminState.DRAIN)
                await lb.kill(session)
                await lb.drained("app/b0", timeout=10)
                lb.maint("app/b0")
                lb.ready("app/b0")
                assert lb.addresses("web") == (lb.address("web"),)
                assert lb.admin_address()[1] > 0
                assert "l4lb_backend_up" in await lb.metrics()
                server.close()
            await eventually(lambda: len(told) == 1)

    with Backend() as backend:
        run(main())


def test_a_backend_that_keeps_its_sessions_is_waited_for_no_longer_than_told(run: Run) -> None:
    async def main() -> None:
        async with l4lb.AsyncBalancer(config(backend)) as lb:
            with connect(lb.address("web")), await asyncio.to_thread(backend.accept):
                with pytest.raises(TimeoutError, match=r"app/b0 still has sessions after 0\.01 s: 1"):
                    await lb.drained("app/b0", timeout=0.01)
                # A deadline of the caller's own raises its own error.
                with pytest.raises(TimeoutError, match=r"^$"):
                    async with asyncio.timeout(0.01):
                        await lb.drained("app/b0")

    with Backend() as backend:
        run(main())


def test_reloads_are_all_or_nothing_one_after_the_other(run: Run) -> None:
    async def main() -> None:
        async with l4lb.AsyncBalancer(config(one)) as lb:
            address = lb.address("web")
            outcomes = await asyncio.gather(
                *(lb.reload(config(two)) for _ in range(5)),
                lb.reload(config(two, pool={"balance": "best"})),
                *(lb.reload(config(two)) for _ in range(5)),
                return_exceptions=True,
            )
            assert isinstance(outcomes.pop(5), l4lb.ConfigError)
            assert outcomes == [()] * 10
            assert await asked(address) == "two"

    with Served(named("one")) as one, Served(named("two")) as two:
        run(main())


def test_of_two_reloads_the_one_that_was_asked_for_last_counts(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    first, gate, read = config(), threading.Event(), config_source.read

    def slow(given: config_source.ConfigSource) -> l4lb.Config:
        if given is first:
            gate.wait(DEADLINE)
        return read(given)

    async def main() -> None:
        async with l4lb.AsyncBalancer(config()) as lb:
            reloads = [asyncio.create_task(lb.reload(given)) for given in (first, config(two))]
            await asyncio.wait(reloads, timeout=0.01)
            gate.set()
            await asyncio.gather(*reloads)
            assert await asked(lb.address("web")) == "two"

    monkeypatch.setattr(config_source, "read", slow)
    with Served(named("two")) as two:
        run(main())


def test_a_rejected_reload_leaves_no_task(run: Run, tmp_path: Path) -> None:
    (tmp_path / "targets.json").write_text("[]")
    found = {"discover": {"file": {"path": tmp_path / "targets.json"}}}

    async def main() -> None:
        async with l4lb.AsyncBalancer(config()) as lb:
            before = {task.get_name() for task in asyncio.all_tasks()}
            with pytest.raises(l4lb.StartError, match="cannot bind"):
                await lb.reload(config(listener={"bind": str(taken)}, pool=found))
            await eventually(lambda: {task.get_name() for task in asyncio.all_tasks()} == before)

    with Backend() as taken:
        run(main())


def test_a_cancelled_reload_changes_nothing(run: Run) -> None:
    async def main() -> None:
        async with l4lb.AsyncBalancer(config(one)) as lb:
            reloading = asyncio.create_task(lb.reload(config(two)))
            await turns(1)
            reloading.cancel()
            await asyncio.wait({reloading})
            assert reloading.cancelled()
            assert await asked(lb.address("web")) == "one"
            await lb.reload(config(two))
            assert await asked(lb.address("web")) == "two"

    with Served(named("one")) as one, Served(named("two")) as two:
        run(main())


def test_several_share_a_loop(run: Run) -> None:
    async def main() -> None:
        async with (
            l4lb.AsyncBalancer(config(one)) as first,
            l4lb.AsyncBalancer(config(two)) as second,
            l4lb.AsyncBalancer(config(first.address("web"), second.address("web"))) as front,
        ):
            assert {await asked(front.address("web")) for _ in range(2)} == {"one", "two"}

    with Served(named("one")) as one, Served(named("two")) as two:
        run(main())


# ---- its end ---------------------------------------------------------------------------------------------------------


def test_a_start_that_is_cancelled_leaves_nothing(run: Run) -> None:
    async def main() -> None:
        lb = l4lb.AsyncBalancer(config(backend, pool={"health": {"type": "http", "timeout": 60, "interval": 60}}))
        starting = asyncio.create_task(lb.start())
        check = await asyncio.to_thread(backend.accept)
        with pytest.raises(l4lb.ControlError, match="still starting"):
            lb.status()
        with pytest.raises(l4lb.ControlError, match="still starting"):
            await lb.close()
        starting.cancel()
        await asyncio.wait({starting})
        assert starting.cancelled()
        check.close()
        with pytest.raises(l4lb.ControlError, match="is closed"):
            await lb.start()

    with Backend() as backend:
        run(main())


def test_a_start_may_be_cancelled_at_any_time(run: Run) -> None:
    async def main() -> None:
        for count in range(60):
            lb = l4lb.AsyncBalancer(config(backend))
            starting = asyncio.create_task(lb.start())
            await turns(count)
            starting.cancel()
            await asyncio.wait({starting})
            await lb.close()

    with Served(echo) as backend:
        run(main())


@pytest.mark.parametrize("how", ["cancelled", "again"])
def test_the_wait_for_sessions_can_be_cut_short(run: Run, how: str) -> None:
    async def main() -> None:
        lb = l4lb.AsyncBalancer(config(backend, process={"drain_timeout": 60}))
        await lb.start()
        with connect(lb.address("web")) as client, await asyncio.to_thread(backend.accept) as server:
            client.send(b"question")
            server.receive(8)
            closing = asyncio.create_task(lb.close())
            await eventually(lambda: lb.status().stopping)
            if how == "again":
                await lb.close()
                await closing
            else:
                closing.cancel()
                await asyncio.wait({closing})
                assert closing.cancelled()
            client.ended()
        await lb.close()

    with Backend() as backend:
        run(main())


def test_the_end_comes_even_if_cancelled_again_and_again(run: Run) -> None:
    async def main() -> None:
        lb = l4lb.AsyncBalancer(config(backend))
        await lb.start()
        closing = asyncio.create_task(lb.close(60))
        await turns(1)
        while not closing.done():
            closing.cancel()
            await turns(1)

    with Backend() as backend:
        run(main())


def test_what_the_block_raises_comes_out(run: Run) -> None:
    peers: list[Peer] = []

    async def program() -> None:
        async with l4lb.AsyncBalancer(config(backend, process={"drain_timeout": 3600})) as lb:
            peers.append(connect(lb.address("web")))
            peers.append(await asyncio.to_thread(backend.accept))
            peers[0].send(b"question")
            peers[1].receive(8)
            raise ZeroDivisionError

    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            await program()
        for peer in peers:
            peer.ended()
            peer.close()

    with Backend() as backend:
        run(main())


def calls(lb: l4lb.AsyncBalancer) -> list[Callable[[], object]]:
    return [
        lambda: lb.address("web"),
        lambda: lb.addresses("web"),
        lb.admin_address,
        lb.status,
        lb.metrics,
        lambda: lb.drain("app/b0"),
        lambda: lb.ready("app/b0"),
        lambda: lb.maint("app/b0"),
        lambda: lb.weight("app/b0", 1),
        lambda: lb.add("app", "127.0.0.1:9"),
        lambda: lb.change("app/b0", max_busy=1),
        lambda: lb.remove("app/b0"),
        lambda: lb.drained("app/b0"),
        lb.sessions,
        lambda: lb.kill(1),
        lb.reload,
    ]


async def _made(call: Callable[[], object]) -> None:
    outcome = call()
    if asyncio.iscoroutine(outcome):
        await outcome


def test_a_balancer_that_does_not_run_says_so(run: Run) -> None:
    async def main() -> None:
        lb = l4lb.AsyncBalancer(config())
        assert len(calls(lb)) + 2 == sum(not name.startswith("_") for name in dir(lb))
        for call in calls(lb):
            with pytest.raises(l4lb.ControlError, match="does not run yet; use it inside of `with`"):
                await _made(call)
        async with lb:
            with pytest.raises(l4lb.ControlError, match="runs already"):
                await lb.start()
        await lb.close()
        for call in (*calls(lb), lb.start):
            with pytest.raises(l4lb.ControlError, match="is closed; make another one"):
                await _made(call)

    run(main())


def test_another_thread_is_sent_away(run: Run) -> None:
    async def main() -> None:
        async with l4lb.AsyncBalancer(config()) as lb:
            for call in (lb.status, lambda: asyncio.run(lb.sessions())):
                with pytest.raises(l4lb.ControlError, match=r"use l4lb\.Balancer from other threads"):
                    await asyncio.to_thread(Background(call).result)

    run(main())


def test_two_hundred_leave_nothing(run: Run) -> None:
    async def cycle() -> None:
        async with l4lb.AsyncBalancer(config(backend)) as lb:
            assert await asked(lb.address("web")) == "one"

    async def main() -> None:
        for _ in range(20):
            await cycle()
        before, threads = resident_bytes(os.getpid()), threading.active_count()
        for _ in range(200):
            await cycle()
        assert resident_bytes(os.getpid()) - before < 16 * MEBIBYTE
        # Those of the loop's executor, which has as many as it likes, up to a bound.
        assert threading.active_count() - threads <= 32

    with Served(named("one")) as backend, spotless():
        run(main())


def test_backends_come_move_and_go(run: Run) -> None:
    async def main() -> None:
        async with l4lb.AsyncBalancer(config(one)) as lb:
            assert await lb.add("app", str(two), name="b", weight=2) == "b"
            await lb.change("app/b", max_connections=4)
            assert {await asked(lb.address("web")) for _ in range(6)} == {"one", "two"}
            await lb.reload()
            assert lb.status().pools["app"].backends["b"].max_connections == 4
            await lb.remove("app/b", force=True)
            assert {await asked(lb.address("web")) for _ in range(3)} == {"one"}
            for wrong in (lb.add("app", "nonsense"), lb.add("other", str(two)), lb.change("app/b", weight=1)):
                with pytest.raises(l4lb.ControlError):
                    await wrong

    with Served(named("one")) as one, Served(named("two")) as two:
        run(main())
