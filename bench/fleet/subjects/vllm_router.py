"""vllm-router, the router of the vLLM project: told of the coming replica by a call of its API."""

from __future__ import annotations

import http.client
import shutil
import sys
from pathlib import Path
from urllib.parse import quote

from bench.fleet.subjects.base import Replica, Site, Subject
from bench.shared import balancers
from bench.shared.balancers import Greeting
from bench.shared.places import free_port
from bench.shared.processes import BenchError

CALL_SECONDS = 10.0


class VllmRouter(Subject):
    """It places requests one by one, with threads that share the one CPU. It knows no weights."""

    family = "vllm-router"
    optional = True
    greeting = Greeting(b"GET /health HTTP/1.1\r\nhost: fleet\r\n\r\n", b"HTTP/1.1 200")

    def __init__(self, name: str, binary: str, policy: str) -> None:
        super().__init__(name)
        self._binary = binary
        self._policy = policy

    def version(self) -> str:
        program = shutil.which(self._binary)
        if program is None:
            raise BenchError(f"{self._binary} is not installed (pip install vllm-router)")
        python = str(Path(program).with_name("python3"))
        return balancers.first_line([python, "-c", "import vllm_router.version as v; print(v.__version__)"])

    def command(self, site: Site) -> list[str]:
        """Retries are off, as in the clients: no balancer here sends a request again that a replica has taken."""
        return [
            *(self._binary, "--host", "127.0.0.1", "--port", str(site.port), "--policy", self._policy),
            *("--worker-urls", *(_url(replica) for replica in site.replicas)),
            *("--health-check-interval-secs", "1", "--health-check-timeout-secs", "1"),
            *("--disable-retries", "--log-level", "warning"),
            *("--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port())),
        ]

    def announce(self, site: Site, _pid: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=CALL_SECONDS)
        try:
            connection.request("POST", f"/add_worker?url={quote(_url(site.coming), safe='')}")
            answer = connection.getresponse()
            if answer.status != 200:
                raise BenchError(f"{self.name}: {answer.status} {answer.read().decode(errors='replace')}")
        finally:
            connection.close()


def _url(replica: Replica) -> str:
    return f"http://{replica.address}"


def beside_python(name: str) -> str:
    """The program of a package in this environment, which need not be on PATH; else its name."""
    return shutil.which(name, path=str(Path(sys.executable).parent)) or name
