"""MLServer behind conf/mlserver.yaml: no request of the Open Inference Protocol fails that no lost replica had."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import httpx
import pytest

from tests.applications.clients import Load, client, lost
from tests.applications.conftest import program
from tests.applications.fleet import SERVER, A, B, C, Fleet, endings, recipe
from tests.helpers.balancer import Json

pytestmark = pytest.mark.slow

PORT = 8080
ORIGIN = f"http://{SERVER}:{PORT}"
REPLICAS = {"mlserver-a": A, "mlserver-b": B, "mlserver-c": C}
MODEL = {"name": "doubler", "implementation": "tests.applications.servers.doubler.Doubler"}
KEPT = 4

NORMAL, CUT = ("--", "normal"), ("SD", "server_abort")

_serials = count()


def mlserver() -> str:
    """Where it is: on the PATH, or where `make test` puts it."""
    apart = Path(sys.prefix, "servers/bin")
    return program("mlserver", apart if (apart / "mlserver").exists() else None)


def backend(name: str) -> Json:
    return {"name": name, "address": f"{REPLICAS[name]}:{PORT}"}


class Servers(Fleet):
    """The replicas by name."""

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """MLServer with a model whose version is the name."""
        folder = self.directory / name
        folder.mkdir()
        ports = {"http_port": PORT, "grpc_port": PORT + 1, "metrics_port": PORT + 2}
        settings = {"host": REPLICAS[name], "parallel_workers": 0, "debug": False} | ports
        (folder / "settings.json").write_text(json.dumps(settings))
        (folder / "model-settings.json").write_text(json.dumps(MODEL | {"parameters": {"version": name}}))
        return self.run(mlserver(), "start", str(folder), name=name, address=(REPLICAS[name], PORT))


def ask(http: httpx.Client, number: int) -> str:
    """Have the model double numbers of which no two requests have the same."""
    serial = next(_serials)
    numbers = [serial, number, -serial]
    tensor = {"name": "numbers", "shape": [1, 3], "datatype": "INT64", "data": numbers}
    answer = http.post("/v2/models/doubler/infer", json={"id": f"id-{serial}", "inputs": [tensor]})
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert said["id"] == f"id-{serial}"
    assert said["outputs"][0]["data"] == [2 * number for number in numbers]
    replica: str = said["model_version"]
    return replica


@pytest.fixture
def servers() -> Iterator[Servers]:
    with Servers(recipe("mlserver")) as servers:
        yield servers


def test_no_request_fails_across_reload_and_drain(servers: Servers) -> None:
    for name in REPLICAS:
        servers.start(name)
    with servers.balanced():
        with ExitStack() as stack, Load(ORIGIN, ask, each=25) as load:
            load.wait_answers("mlserver-a", 50)
            load.wait_answers("mlserver-b", 50)
            kept = [stack.enter_context(client(ORIGIN)) for _ in range(KEPT)]
            assert {ask(http, 0) for http in kept} <= {"mlserver-a", "mlserver-b"}

            servers.change(mlserver=[backend("mlserver-a"), backend("mlserver-c")])  # b leaves, c joins
            load.wait_answers("mlserver-c", 50)
            servers.drain("mlserver", "mlserver-a")
            servers.wait_left("mlserver-a", "mlserver-b")
            load.wait_answers("mlserver-c", 50)
            # Clients keep their connections, and their next requests go elsewhere.
            assert {ask(http, 1) for http in kept} == {"mlserver-c"}
        assert load.failures == []
        lines = servers.ended()
    assert endings(lines).keys() == {NORMAL}
    assert sum(line["moves"] > 0 for line in lines) >= KEPT


def test_lost_replica_costs_only_what_it_was_asked(servers: Servers) -> None:
    a, _b = servers.start("mlserver-a"), servers.start("mlserver-b")
    with servers.balanced():
        with Load(ORIGIN, ask, each=25) as load:
            load.wait_answers("mlserver-a", 50)
            load.wait_answers("mlserver-b", 50)
            a.kill()
            a.wait()
            load.wait_answers("mlserver-b", 200)
        lines = servers.ended()
    assert endings(lines, "mlserver-a").keys() <= {NORMAL, CUT}
    assert endings(lines, "mlserver-b").keys() == {NORMAL}
    assert lost(lines, load.failures) <= {"mlserver-a"}
    assert len(load.failures) <= 4
