"""nginx: reloads when the replica comes; old workers keep their connections, or in HTTP mode their requests."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from bench.fleet.subjects.base import Replica, Site, Subject
from bench.shared import balancers


class Nginx(Subject):
    """`mode` is `tcp` (its stream module) or `http`, which places requests one by one and keeps backend connections."""

    family = "nginx"

    def __init__(self, name: str, binary: str, mode: str, balance: str) -> None:
        super().__init__(name)
        self._binary = binary
        self._mode = mode
        self._balance = balance

    def version(self) -> str:
        return balancers.nginx_version(self._binary)

    def command(self, site: Site) -> list[str]:
        return balancers.nginx_command(self._binary, self._write(site, site.replicas))

    def announce(self, site: Site, pid: int) -> None:
        self._write(site, [*site.replicas, site.coming])
        os.kill(pid, signal.SIGHUP)

    def _write(self, site: Site, replicas: Sequence[Replica]) -> Path:
        servers = "".join(f"        server {replica.address} weight={replica.weight};\n" for replica in replicas)
        path = site.directory / "nginx.conf"
        upstream = f"        {self._balance};\n{servers}"
        if self._mode == "http":
            path.write_text(balancers.nginx_http(site.directory, site.port, upstream))
        else:
            path.write_text(balancers.nginx_stream(self._binary, site.directory, site.port, upstream))
        return path
