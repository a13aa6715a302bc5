"""l4lb: learns of the coming replica by a reload."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.fleet.subjects.base import Load, Replica, Site, Subject
from bench.shared import balancers
from bench.shared.admin import call_once


class L4lb(Subject):
    """`pool` has further keys of the pool, each a line of YAML; `backend` further keys of every backend."""

    family = "l4lb"

    def __init__(self, name: str, balance: str, *pool: str, backend: str = "") -> None:
        super().__init__(name)
        self._balance = balance
        self._pool = pool
        self._backend = f", {backend}" if backend else ""

    def version(self) -> str:
        return balancers.l4lb_version()

    def command(self, site: Site) -> list[str]:
        return balancers.l4lb_command(self._write(site, site.replicas))

    def announce(self, site: Site, _pid: int) -> None:
        self._write(site, [*site.replicas, site.coming])
        call_once(balancers.admin_socket(site.directory), "POST", "/api/v1/reload")

    def loads(self, site: Site) -> Mapping[str, Load]:
        status = json.loads(call_once(balancers.admin_socket(site.directory), "GET", "/api/v1/status"))
        backends = status["pools"]["fleet"]["backends"]
        return {name: Load(backend["busy"], backend["turns_total"]) for name, backend in backends.items()}

    def _write(self, site: Site, replicas: Sequence[Replica]) -> Path:
        further = "".join(f"    {line}\n" for line in self._pool)
        backends = "".join(self._line(replica) for replica in replicas)
        path = site.directory / "l4lb.yaml"
        replacement = site.directory / "next.yaml"
        replacement.write_text(f"""\
{balancers.l4lb_preamble(site.directory)}\
listeners:
  front: {{bind: "127.0.0.1:{site.port}", pool: fleet}}
pools:
  fleet:
    balance: {self._balance}
{further}    timeouts: {{connect: 5s, idle: 1h}}
    health: {{type: http, path: /health, status: [200], interval: 1s, timeout: 1s, rise: 2, fall: 3}}
    backends:
{backends}""")
        replacement.replace(path)
        return path

    def _line(self, replica: Replica) -> str:
        keys = f"name: {replica.name}, address: {replica.address}, weight: {replica.weight}{self._backend}"
        return f"      - {{{keys}}}\n"
