"""Dask behind conf/dask.yaml: computations come to their right result while the balancer and the cluster change."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from tests.applications.clients import client
from tests.applications.fleet import SERVER, START_DEADLINE, A, B, C, Fleet, endings, recipe
from tests.helpers.balancer import Json, child_environment
from tests.helpers.waiting import wait_until

pytest.importorskip("distributed")

pytestmark = pytest.mark.slow

SCHEDULER = f"tcp://{SERVER}:8786"
SCHEDULERS = {"active": A, "standby": B}
NORMAL, CUT, LEFT = ("--", "normal"), ("SD", "server_abort"), ("CD", "client_abort")


class Computing:
    """A client of the cluster, in a process of its own."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        module = "tests.applications.servers.computing"
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, SCHEDULER],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=child_environment(), text=True,
        )  # fmt: skip

    def begin(self, tasks: int = 8) -> Job:
        """Have a sum computed by tasks that wait for the job to be let go."""
        job = Job(self._cluster, tasks)
        assert self._process.stdin is not None
        print(json.dumps(job.asked), file=self._process.stdin, flush=True)
        assert self.said() == {"submitted": tasks}
        return job

    def said(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline() or "null")

    def close(self) -> None:
        self._process.communicate(timeout=START_DEADLINE)

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


class Job:
    _seeds = count(1, 1000)

    def __init__(self, cluster: Cluster, tasks: int) -> None:
        seed = next(self._seeds)
        self._gate = cluster.directory / f"gate-{seed}"
        self.asked = {"seed": seed, "tasks": tasks, "gate": str(self._gate)}
        self.result = {"result": sum(number * number for number in range(seed, seed + tasks))}

    def wait_running(self, tasks: int) -> None:
        """Wait until so many of its tasks have begun."""
        wait_until(lambda: len(list(self._gate.parent.glob(f"{self._gate.name}.*"))) >= tasks, START_DEADLINE)

    def let_go(self) -> None:
        self._gate.touch()


class Cluster(Fleet):
    def __init__(self, config: Json) -> None:
        super().__init__(config)
        self._clients: list[Computing] = []

    def schedule(self, name: str) -> subprocess.Popen[bytes]:
        host = SCHEDULERS[name]
        options = ("--host", host, "--port", "8786", "--dashboard-address", f"{host}:8787")
        return self.run(sys.executable, "-m", "dask", "scheduler", *options, name=name, address=(host, 8786))

    def work(self, name: str) -> subprocess.Popen[bytes]:
        """A worker of one thread that knows the scheduler by the address of the balancer."""
        options = ("--host", C, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--name", name)
        return self.run(sys.executable, "-m", "dask", "worker", SCHEDULER, *options, name=name)

    def compute(self) -> Computing:
        made = Computing(self)
        self._clients.append(made)
        return made

    def __exit__(self, *error: Any) -> None:
        for made in self._clients:
            made.kill()
        super().__exit__(*error)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(recipe("dask")) as cluster:
        yield cluster


def backends(*names: str) -> dict[str, list[Json]]:
    """Of both pools, in this order."""
    return {
        pool: [{"name": name, "address": f"{SCHEDULERS[name]}:{port}"} for name in names]
        for pool, port in (("scheduler", 8786), ("dashboard", 8787))
    }


def comms(cluster: Cluster) -> set[int]:
    """The connections to schedulers."""
    return {session["session"] for session in cluster.balancer.sessions() if session["listener"] == "scheduler"}


def end(computing: Computing, *workers: subprocess.Popen[bytes]) -> None:
    """Have a client and workers end as they end by themselves."""
    computing.close()
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.wait(START_DEADLINE)


def test_computation_goes_on_across_reload_drain_and_lost_worker(cluster: Cluster) -> None:
    for name in SCHEDULERS:
        cluster.schedule(name)
    with cluster.balanced():
        lost, worker = cluster.work("w0"), cluster.work("w1")
        computing = cluster.compute()
        job = computing.begin()
        job.wait_running(2)
        before = comms(cluster)

        cluster.change(**backends("active"))
        cluster.change(**backends("active", "standby"))
        cluster.wait_up("scheduler", "standby")
        cluster.drain("scheduler", "standby")
        late = cluster.work("w2")
        job.wait_running(3)
        assert before <= comms(cluster)

        lost.kill()
        job.let_go()
        assert computing.said() == job.result
        with client(f"http://{SERVER}:8787") as dashboard:
            assert dashboard.get("/health").text == "ok"
        end(computing, worker, late)
        lines = cluster.ended()
    assert endings(lines).keys() <= {NORMAL, LEFT}
    assert {line["backend"] for line in lines} == {"active"}


def test_standby_takes_over_from_a_lost_scheduler_and_keeps_the_cluster(cluster: Cluster) -> None:
    active, _standby = (cluster.schedule(name) for name in SCHEDULERS)
    with cluster.balanced():
        workers = [cluster.work("w0"), cluster.work("w1")]
        computing = cluster.compute()
        job = computing.begin()
        job.wait_running(2)
        active.kill()
        job.let_go()
        for worker in workers:
            worker.wait(START_DEADLINE)
        assert computing.said().keys() == {"error"}
        computing.kill()

        # What failed comes back as the standby of the other.
        cluster.change(**backends("standby", "active"))
        cluster.schedule("active")
        workers = [cluster.work("w2"), cluster.work("w3")]
        computing = cluster.compute()
        job = computing.begin()
        job.wait_running(2)
        cluster.wait_up("scheduler", "active")
        workers.append(cluster.work("w4"))
        job.wait_running(3)
        job.let_go()
        assert computing.said() == job.result
        end(computing, *workers)
        lines = cluster.ended()
    assert endings(lines, "active").keys() <= {NORMAL, CUT}
    assert endings(lines, "standby").keys() <= {NORMAL, LEFT}


def test_cluster_moves_to_the_standby_once_its_work_is_done(cluster: Cluster) -> None:
    for name in SCHEDULERS:
        cluster.schedule(name)
    with cluster.balanced():
        old = [cluster.work("w0"), cluster.work("w1")]
        computing = cluster.compute()
        job = computing.begin()
        job.wait_running(2)
        before = comms(cluster)

        cluster.drain("scheduler", "active")  # no new session comes, and a silent one may stay
        job.let_go()
        assert computing.said() == job.result
        assert before <= comms(cluster)

        end(computing, *old)
        wait_until(lambda: not comms(cluster))
        new = [cluster.work("w2"), cluster.work("w3")]
        computing = cluster.compute()
        job = computing.begin()
        job.wait_running(2)
        job.let_go()
        assert computing.said() == job.result
        end(computing, *new)
        lines = cluster.ended()
    assert endings(lines).keys() <= {NORMAL, LEFT}
    assert {line["backend"] for line in lines} == {"active", "standby"}
