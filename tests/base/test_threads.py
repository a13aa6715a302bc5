"""What may hang has a thread of its own, one at a time, that nothing waits for."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from l4lb.base.threads import SerialThread, ThreadPool
from tests.helpers.loops import eventually, run


def test_results_and_errors_come_back() -> None:
    async def main() -> None:
        aside = SerialThread("reading")
        assert await aside.call(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await aside.call(divmod, 7, 0)
        assert await aside.call(dict, a=1) == {"a": 1}

    run(main())


def test_one_that_hangs_has_one_thread_however_often_it_is_tried() -> None:
    async def main() -> None:
        release, calls = threading.Event(), []

        def hang(number: int) -> int:
            calls.append(number)
            release.wait()
            return number

        aside, before = SerialThread("reading a file", timeout=0.02), threading.active_count()
        try:
            for number in range(3):
                with pytest.raises(TimeoutError, match=r"reading a file takes longer than 0\.02s"):
                    await aside.call(hang, number)
            assert (calls, threading.active_count()) == ([0], before + 1)
        finally:
            release.set()
        await eventually(lambda: threading.active_count() == before)
        aside = SerialThread("reading", timeout=10)
        assert await aside.call(hang, 7) == 7

    run(main())


def test_a_caller_that_is_cancelled_leaves_the_next_one_to_wait() -> None:
    async def main() -> None:
        release, aside = threading.Event(), SerialThread("reading")
        first = asyncio.ensure_future(aside.call(release.wait))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        second = asyncio.ensure_future(aside.call(release.is_set))
        await asyncio.sleep(0)
        assert not second.done()
        release.set()
        assert await second is True

    run(main())


@pytest.mark.parametrize("runner", ["asyncio", "uvloop"])
def test_neither_loop_nor_process_waits_for_one_that_hangs(runner: str) -> None:
    program = f"""
import asyncio, threading, {runner}
from l4lb.base.threads import SerialThread

async def main():
    try:
        await SerialThread("reading", timeout=0.01).call(threading.Event().wait)
    except TimeoutError:
        print("given up")

{runner}.run(main())
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout == "given up\n"
    assert result.stderr == ""


def test_threads_are_not_shared_with_anything_else() -> None:
    async def main() -> None:
        release = threading.Event()
        loop = asyncio.get_running_loop()
        others = [loop.run_in_executor(None, release.wait) for _ in range(64)]
        threads = ThreadPool("l4lb-engine", 2)
        try:
            assert await threads.call(threading.current_thread) is not threading.current_thread()
        finally:
            threads.close()
            release.set()
            await asyncio.gather(*others)

    run(main())
