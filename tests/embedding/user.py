"""What a program of a user may look like: it is checked by mypy, in strict mode, and never run."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import l4lb
from l4lb.types import BackendStatus, HealthState


def on_close(session: l4lb.Session) -> None:
    assert_type(session.backend, str | None)
    assert_type(session.record.bytes_in, int)


def program(path: Path) -> None:
    config = {"listeners": {"web": {"bind": "127.0.0.1:0", "pool": "web"}}, "pools": {"web": {"backends": ["::1"]}}}
    with l4lb.Balancer(config, on_close=on_close) as lb:
        assert_type(lb, l4lb.Balancer)
        host, port = lb.address("web")
        assert_type((host, port), tuple[str, int])
        assert_type(lb.addresses("web"), tuple[tuple[str, int] | str, ...])
        status = lb.status()
        assert_type(status, l4lb.Status)
        backend = status.pools["web"].backends["a"]
        assert_type(backend, BackendStatus)
        assert_type(backend.health, HealthState)
        assert_type(lb.sessions(), list[l4lb.Session])
        assert_type(lb.reload(path), tuple[str, ...])
        assert_type(lb.metrics(), str)
        lb.drain("web/a")
        lb.drained("web/a", timeout=1)
        lb.kill(lb.sessions()[0])
        lb.adress("web")  # type: ignore[attr-defined]
        lb.weight("web/a", "5")  # type: ignore[arg-type]
        status.version = "2"  # type: ignore[misc]
    with l4lb.Balancer(str(path)), l4lb.Balancer(l4lb.load_config(path)), l4lb.Balancer(l4lb.read_config(config)):
        pass
    l4lb.Balancer(5)  # type: ignore[arg-type]
    l4lb.Balancer(config, on_close=lambda: None)  # type: ignore[misc, arg-type]
    l4lb.Balncer(config)  # type: ignore[attr-defined]


async def asynchronous(path: Path) -> None:
    async with l4lb.AsyncBalancer(path) as lb:
        assert_type(lb, l4lb.AsyncBalancer)
        assert_type(lb.address("web"), tuple[str, int])
        assert_type(lb.status(), l4lb.Status)
        assert_type(await lb.sessions(), list[l4lb.Session])
        assert_type(await lb.metrics(), str)
        assert_type(await lb.reload(), tuple[str, ...])
        await lb.drained("web/a")
        await lb.kill(1)


def problems(path: Path) -> list[str]:
    try:
        with l4lb.Balancer(path):
            return []
    except l4lb.ConfigError as error:
        assert_type(error.problems, tuple[l4lb.Problem, ...])
        return [problem.path for problem in error.problems]
    except (l4lb.StartError, l4lb.ControlError) as error:
        return [str(error)]
