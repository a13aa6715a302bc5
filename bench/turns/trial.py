"""One run: a server, l4lb in front of it, clients, and what l4lb says meanwhile."""

from __future__ import annotations

import contextlib
import json
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import trustme

from bench.shared import balancers
from bench.shared.admin import AdminConnection
from bench.shared.children import child, receive
from bench.shared.places import free_port
from bench.turns import client, relay, server
from bench.turns.client import Asked
from bench.turns.relay import Conversation
from bench.turns.responses import Certificate, Truth
from bench.turns.rows import Row
from bench.turns.truth import Findings, Interval, Sample, Seen, compare

SAMPLE_SECONDS = 0.04
SETTLE_SECONDS = 1.5
"""After the last answer, before what is busy is looked at once more."""
BUSY_PHASES = ("wait", "stream")


@dataclass(frozen=True, slots=True)
class Trial:
    """`turns`, `requests` and `connections` are of the whole run, `findings` of the measured part."""

    findings: Findings
    turns: int
    requests: int
    connections: int
    failures: list[str]
    busy_at_end: int


class Admin:
    """What l4lb says of itself."""

    def __init__(self, socket_path: Path) -> None:
        self._connection = AdminConnection(socket_path)

    def backend(self) -> dict[str, Any]:
        backend: dict[str, Any] = self._get("/api/v1/status")["pools"]["servers"]["backends"]["server"]
        return backend

    def sessions(self) -> dict[int, Seen]:
        listed = self._get("/api/v1/sessions")["sessions"]
        return {
            int(each["client"].rpartition(":")[2]): Seen(each["phase"] in BUSY_PHASES, each["turns"]) for each in listed
        }

    def close(self) -> None:
        self._connection.close()

    def _get(self, path: str) -> Any:
        return json.loads(self._connection.call("GET", path))


def certificate(directory: Path) -> Certificate:
    """A server's certificate for 127.0.0.1, and the authority to trust for it."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    made = Certificate(directory / "chain.pem", directory / "key.pem", directory / "authority.pem")
    issued.private_key_pem.write_to_path(made.key)
    for number, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(made.chain, append=number > 0)
    authority.cert_pem.write_to_path(made.authority)
    return made


@contextlib.contextmanager
def balancer(directory: Path, backend_port: int, cpu: int) -> Iterator[int]:
    """l4lb for the time of the block; gives the port it listens on."""
    port, path = free_port(), directory / "l4lb.yaml"
    path.write_text(f"""\
{balancers.l4lb_preamble(directory)}\
listeners:
  front: {{bind: "127.0.0.1:{port}", pool: servers}}
pools:
  servers:
    timeouts: {{connect: 5s, idle: 1h}}
    health: {{type: none}}
    backends:
      - {{name: server, address: "127.0.0.1:{backend_port}"}}
""")
    command = balancers.l4lb_command(path)
    with balancers.started("l4lb", command, cpu=cpu, port=port, directory=directory, greeting=None):
        yield port


def run(row: Row, seed: int, warm: float, seconds: float, cpu: int) -> Trial:
    """`seconds` are measured, after `warm` ones in which l4lb may learn."""
    with _server(row) as (servers, server_port, pem), tempfile.TemporaryDirectory(prefix="l4lb-turns-") as name:
        directory = Path(name)
        with (
            balancer(directory, server_port, cpu) as port,
            contextlib.closing(Admin(balancers.admin_socket(directory))) as admin,
        ):
            start = time.monotonic() + warm
            with child(client.run, row, seed, port, pem, start + seconds) as clients:
                samples = _watch(admin, start, start + seconds, random.Random(seed), clients)
                asked: list[Asked] = receive(clients, "the clients")
                time.sleep(SETTLE_SECONDS)
                backend = admin.backend()
                sessions = admin.sessions()
                clients.send("stop")
            truths = _stop(servers)
    return Trial(
        compare(samples, _by_port(asked, truths)),
        turns=backend["turns_total"],
        requests=len(truths),
        connections=len(sessions),
        failures=[each.failure for each in asked if each.failure is not None],
        busy_at_end=backend["busy"],
    )


def record(row: Row, seed: int, seconds: float) -> tuple[list[Conversation], dict[int | None, list[Interval]]]:
    """The same with a plain relay in l4lb's place: what passed, and the requests by the client's port."""
    with (
        _server(row) as (servers, server_port, pem),
        child(relay.run, server_port) as relays,
        child(client.run, row, seed, receive(relays, "the relay"), pem, time.monotonic() + seconds) as clients,
    ):
        asked: list[Asked] = receive(clients, "the clients")
        relays.send("stop")
        conversations: list[Conversation] = receive(relays, "the relay")
        clients.send("stop")
        truths = _stop(servers)
    return conversations, _by_port(asked, truths)


@contextlib.contextmanager
def _server(row: Row) -> Iterator[tuple[Connection, int, Certificate | None]]:
    """A server for the time of the block: the pipe to it, its port and its certificate."""
    with tempfile.TemporaryDirectory(prefix="l4lb-turns-") as name:
        pem = certificate(Path(name)) if row.wire.secure else None
        with child(server.run, row.wire, pem) as servers:
            yield servers, receive(servers, "the server"), pem


def _stop(servers: Connection) -> list[Truth]:
    servers.send("stop")
    truths: list[Truth] = receive(servers, "the server")
    return truths


def _watch(admin: Admin, start: float, end: float, rng: random.Random, clients: Connection) -> list[Sample]:
    """Samples at random times: in step with nothing."""
    samples = []
    time.sleep(max(0.0, start - time.monotonic()))
    while time.monotonic() < end:
        if clients.poll():
            break  # it has failed, and receiving says how
        before = time.monotonic()
        sessions = admin.sessions()
        busy = admin.backend()["busy"]
        samples.append(Sample(before, time.monotonic(), busy, sessions))
        time.sleep(SAMPLE_SECONDS * rng.uniform(0.5, 1.5))
    return samples


def _by_port(asked: list[Asked], truths: list[Truth]) -> dict[int | None, list[Interval]]:
    ports = {each.name: each.port for each in asked}
    found: dict[int | None, list[Interval]] = defaultdict(list)
    for truth in truths:
        found[ports.get(truth.name)].append(Interval(truth.begun, truth.ended))
    return found
