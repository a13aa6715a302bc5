"""How many sessions, pipes and workers fit the limits of the process."""

from __future__ import annotations

import os
import resource
from typing import Any

import pytest

from l4lb.engine.api import EngineOptions
from l4lb.errors import StartError
from l4lb.process.capacity import (
    PIPE_BYTES,
    PIPES_MAX,
    PIPES_UNPRIVILEGED,
    SESSIONS_MAX,
    checks_at_once,
    engine_options,
    free_descriptors,
)
from tests.helpers.build import config

PLENTY = 10_000_000


def options(
    descriptors: int, *, privileged: bool = True, bind: object = "127.0.0.1:0", **process: Any
) -> EngineOptions:
    wanted = config("127.0.0.1:9001", bind=bind, process={"workers": 2} | process)
    return engine_options(wanted, descriptors, privileged=privileged)


def test_auto_is_one_worker_for_each_cpu_of_this_process() -> None:
    assert options(PLENTY, workers="auto").workers == len(os.sched_getaffinity(0))


def test_auto_follows_the_cpus_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(5)))
    assert options(PLENTY, workers="auto").workers == 5


@pytest.mark.parametrize("descriptors", [512, 1024, 4096, 65536, 1_048_576])
@pytest.mark.parametrize("workers", [1, 2, 8])
@pytest.mark.parametrize("privileged", [True, False])
def test_what_is_chosen_fits_the_descriptors(descriptors: int, workers: int, privileged: bool) -> None:
    bind = [f"127.0.0.1:{port}" for port in range(2000, 2002)]
    chosen = options(descriptors, workers=workers, privileged=privileged, bind=bind)
    needed = 2 * chosen.max_connections + 2 * chosen.pipes_per_worker * workers + 2 * workers
    assert chosen.max_connections >= 1
    assert needed <= descriptors - 200


def test_sessions_are_bounded_however_many_files_there_may_be() -> None:
    assert options(PLENTY).max_connections == SESSIONS_MAX


def test_configured_numbers_are_taken_as_they_are() -> None:
    chosen = options(65536, max_connections=1234, max_pipes=17)
    assert (chosen.max_connections, chosen.pipes_per_worker, chosen.pipe_bytes) == (1234, 17, PIPE_BYTES)


def test_pipes_may_be_off() -> None:
    assert options(65536, max_pipes=0).pipes_per_worker == 0


def test_unprivileged_pipes_stay_within_the_allowance_of_a_user() -> None:
    assert options(PLENTY, privileged=True).pipes_per_worker == PIPES_MAX
    assert options(PLENTY, privileged=False, workers=4).pipes_per_worker * 4 == PIPES_UNPRIVILEGED
    assert options(PLENTY, privileged=False, workers=64).pipes_per_worker >= 1


def test_more_connections_than_fit_are_refused_in_a_sentence_that_helps() -> None:
    with pytest.raises(
        StartError, match=r"process\.max_connections: 100000 needs about \d+ open files.*limit is 1024"
    ) as info:
        options(1024, max_connections=100_000)
    assert "LimitNOFILE=" in str(info.value)
    assert "ulimit -n" in str(info.value)


def test_limit_named_as_fitting_does_fit() -> None:
    fitting = options(1024).max_connections
    assert options(1024, max_connections=fitting).max_connections == fitting
    with pytest.raises(StartError, match=f"which fits {fitting};"):
        options(1024, max_connections=fitting + 1)


def test_too_few_files_for_the_listeners_alone() -> None:
    bind = [f"127.0.0.1:{port}" for port in range(2000, 2100)]
    with pytest.raises(StartError, match="400 open files are too few for 200 listening sockets"):
        options(400, bind=bind)


@pytest.mark.parametrize(("descriptors", "expected"), [(300, 64), (4096, 64), (20_000, 312), (1_048_576, 1024)])
def test_more_checks_at_once_where_more_files_may_be_open(descriptors: int, expected: int) -> None:
    assert checks_at_once(descriptors) == expected


def test_descriptors_of_checks_are_set_aside() -> None:
    chosen = options(20_000)
    assert 2 * chosen.max_connections + 4 * chosen.pipes_per_worker + checks_at_once(20_000) + 192 <= 20_000


def test_what_a_program_has_open_is_not_free_and_its_limit_is_left_alone() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = free_descriptors()
    descriptors = [os.open("/dev/null", os.O_RDONLY) for _ in range(10)]
    assert free_descriptors() == before - 10
    for descriptor in descriptors:
        os.close(descriptor)
    assert 0 < before < limits[0]
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == limits
