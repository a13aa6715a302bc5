"""What `GET /readyz` answers: whether clients should be sent to this process. Pure.

By default that is about the process alone. A pool without backends is not a reason to take away those that have some,
so it only counts for those that ask for it by name, or for all pools.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus

from l4lb.admin.views import is_usable
from l4lb.base.text import clipped, quoted
from l4lb.errors import ControlError
from l4lb.status import PoolStatus, Status

SENTENCES_MAX = 100


def wanted_pools(query: Iterable[tuple[str, str]], pools: Iterable[str]) -> frozenset[str]:
    """The pools in the query: `pool=NAME`, also several times, or `pools=all`. ControlError for any other query."""
    known = frozenset(pools)
    wanted: set[str] = set()
    for key, value in query:
        match key, value:
            case "pools", "all":
                wanted |= known
            case "pool", name if name in known:
                wanted.add(name)
            case "pool", name:
                raise ControlError(f"there is no pool {quoted(name)}", HTTPStatus.NOT_FOUND)
            case _:
                raise ControlError("the query may have pool=NAME, several times, or pools=all", HTTPStatus.BAD_REQUEST)
    return frozenset(wanted)


def problems(status: Status, wanted: frozenset[str] = frozenset()) -> list[str]:
    """Why clients should go elsewhere; empty if ready. The `wanted` pools need a usable backend."""
    found = []
    if status.stopping:
        found.append("l4lb is stopping")
    elif not status.started:
        found.append("l4lb is starting: backends are checked for the first time")
    for name, listener in status.listeners.items():
        if not listener.bind:
            found.append(f"listener '{name}' accepts on no address")
        found += [
            f"listener '{name}' cannot be reached: the file of {address} is gone or replaced; reload to create it again"
            for address in listener.lost
        ]
    return found + _of_pools(status, wanted)


def warnings(status: Status, wanted: frozenset[str] = frozenset()) -> list[str]:
    """Problems of the other pools."""
    return _of_pools(status, status.pools.keys() - wanted)


def body(found: Sequence[str], others: Sequence[str]) -> Mapping[str, object]:
    """The body of the response."""
    answer: dict[str, object] = {"ready": not found, "warnings": _bounded(others)}
    if found:
        answer |= {"error": clipped("; ".join(found[:10])), "problems": _bounded(found)}
    return answer


def _bounded(sentences: Sequence[str]) -> list[str]:
    more = len(sentences) - SENTENCES_MAX
    return [*sentences[:SENTENCES_MAX], *([f"and {more} more"] if more > 0 else [])]


def _of_pools(status: Status, wanted: Iterable[str]) -> list[str]:
    wanted = frozenset(wanted)
    return [
        f"pool '{name}' {problem}"
        for name, pool in status.pools.items()
        if name in wanted and (problem := _pool_problem(pool))
    ]


def _pool_problem(pool: PoolStatus) -> str | None:
    """A pool that may be empty (scale_to_zero) needs no backend: its clients wait until one is started. But its source
    must have answered, or that backend is never found."""
    if any(is_usable(backend) for backend in pool.backends.values()):
        return None
    if not pool.scale_to_zero:
        return "has no usable backend"
    if pool.discovery is not None and pool.discovery.age is None:
        return f"has not heard of its backends yet: {pool.discovery.source} does not answer"
    return None
