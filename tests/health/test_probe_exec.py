"""exec: real programs that succeed, fail, hang, ignore signals, leave children behind and write without end."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Any

import psutil
import pytest

from l4lb.config.model import Health
from l4lb.health.probes import Outcome, Result, Subject, command, failure, probe, success
from tests.health.probing import check, target
from tests.helpers.loops import eventually, run
from tests.helpers.waiting import wait_until

HERE = ("127.0.0.1", 8080)
SHORT = 0.3


def shell(script: str, **settings: Any) -> Result:
    return check(HERE, type="exec", command=["/bin/sh", "-c", script], **settings)


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


@pytest.fixture(autouse=True, scope="module")
def warm() -> None:
    """The first program makes the loop open descriptors that it keeps."""
    shell("exit 0")


@pytest.fixture(autouse=True)
def nothing_is_left() -> Any:
    before = (len(os.listdir("/proc/self/fd")), children())
    yield
    wait_until(lambda: (len(os.listdir("/proc/self/fd")), children()) <= before, what=children)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("exit 0", success("exit status 0")),
        ("echo all is well; echo more", success("exit status 0: 'all is well'")),
        ("echo no disk >&2; exit 3", failure("exit status 3: 'no disk'")),
        ("kill -9 $$", failure("killed by signal 9")),
    ],
)
def test_exit_status_decides_and_the_first_line_is_the_message(script: str, expected: Result) -> None:
    assert shell(script) == expected


def test_program_that_is_not_there() -> None:
    result = check(HERE, type="exec", command="/does/not/exist")
    assert result == failure("cannot run /does/not/exist: No such file or directory")


def test_host_and_port_stand_for_what_is_checked() -> None:
    words = ["/bin/sh", "-c", 'test "$1" = 127.0.0.1 -a "$2" = port=8080', "-", "{host}", "port={port}"]
    assert check(HERE, type="exec", command=words).ok


def test_environment_is_what_is_documented_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "of the balancer")
    subject = Subject(pool="web", backend="b0")
    settings = {"type": "exec", "command": ["/usr/bin/env"], "environment": {"TOKEN": "x y"}}

    variables = command.environment("127.0.0.1", "8080", Health.model_validate(settings), subject)
    assert variables.pop("PATH").startswith("/usr/local/sbin:")
    assert variables == {
        "LC_ALL": "C.UTF-8",
        "L4LB_POOL": "web",
        "L4LB_BACKEND": "b0",
        "L4LB_ADDRESS": "127.0.0.1",
        "L4LB_PORT": "8080",
        "HAPROXY_PROXY_NAME": "web",
        "HAPROXY_SERVER_NAME": "b0",
        "HAPROXY_SERVER_ADDR": "127.0.0.1",
        "HAPROXY_SERVER_PORT": "8080",
        "TOKEN": "x y",
    }
    script = 'test "$L4LB_POOL/$L4LB_BACKEND" = web/b0 -a "$TOKEN" = "x y" -a -z "$SECRET"'
    assert check(HERE, **(settings | {"command": ["/bin/sh", "-c", script]}), subject=subject).ok


@pytest.mark.parametrize(
    "script",
    [
        "sleep 60",
        "trap '' TERM INT HUP; while :; do sleep 1; done",
        "sleep 60 & sleep 60 & wait",
        "while :; do echo more; done",
    ],
)
def test_program_is_killed_with_its_children_when_its_time_is_over(script: str) -> None:
    assert shell(script, timeout=SHORT) == Result(Outcome.TIMEOUT, "no answer within 0.3s")


def test_what_a_program_leaves_in_the_background_ends_with_it() -> None:
    assert shell("sleep 60 & echo done") == success("exit status 0: 'done'")


def test_much_output_does_not_block_and_is_not_kept() -> None:
    result = shell("head -c 1000000 /dev/zero | tr '\\0' x; exit 1")
    assert result.message.startswith("exit status 1: 'xxx")
    assert len(result.message) < 100


def test_program_has_a_group_of_its_own_and_nothing_open_but_its_output() -> None:
    # The fourth is the directory itself.
    assert shell("ls /proc/self/fd | tr '\\n' ' '") == success("exit status 0: '0 1 2 3'")
    assert shell('test "$(cut -d" " -f5,6 /proc/$$/stat)" = "$$ $$"') == success("exit status 0")


def test_check_that_is_given_up_kills_its_program(tmp_path: Path) -> None:
    health = Health.model_validate(
        {"type": "exec", "command": ["/bin/sh", "-c", f"touch {tmp_path}/on; sleep 60"], "timeout": 60}
    )

    async def main() -> None:
        task = asyncio.ensure_future(probe(target(HERE), health))
        await eventually((tmp_path / "on").exists)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    run(main())
