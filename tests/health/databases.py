"""Real servers with a primary and a replica, for checks that tell them apart."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import trustme

from tests.applications.conftest import COMMAND_DEADLINE, daemon, program, run
from tests.applications.test_postgres import as_postgres, newest_server
from tests.helpers.peers import Address, refused
from tests.helpers.waiting import wait_until


def free_address() -> tuple[str, int]:
    """For servers that take no socket that is open already."""
    with refused() as address:
        assert not isinstance(address, str)
        return address


def accepts(address: Address) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(address) == 0


@contextlib.contextmanager
def redis_server(directory: Path, *options: str) -> Iterator[tuple[str, int]]:
    host, port = address = free_address()
    directory.mkdir()
    command = [program("redis-server"), "--port", str(port), "--bind", host, "--save", "", "--dir", str(directory)]
    with daemon(*command, "--repl-diskless-sync-delay", "0", *options, log=directory / "log"):
        wait_until(lambda: accepts(address))
        yield address


class Postgres:
    """One server; `log` is what it says."""

    def __init__(self, data: Path, address: tuple[str, int]) -> None:
        self.data = data
        self.address = address
        self.programs = newest_server()
        self.log = data.parent / f"{data.name}.log"

    @contextlib.contextmanager
    def running(self) -> Iterator[Postgres]:
        host, port = self.address
        options = {"listen_addresses": host, "port": str(port), "unix_socket_directories": "", "fsync": "off"}
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        words += ["-c", "log_connections=off", "-c", "log_min_messages=info"]
        if (self.data / "server.key").exists():
            words += ["-c", "ssl=on"]
        command = [*as_postgres(), program("postgres", self.programs), "-D", str(self.data), *words]
        ready = [program("pg_isready", self.programs), "-q", "-h", host, "-p", str(port)]
        with daemon(*command, log=self.log) as process:
            wait_until(lambda: subprocess.run(ready).returncode == 0, COMMAND_DEADLINE)
            try:
                yield self
            finally:
                # To end at once, whatever is connected.
                process.send_signal(signal.SIGINT)

    def sql(self, text: str) -> str:
        host, port = self.address
        return run(program("psql", self.programs), "-h", host, "-p", str(port), "-U", "boss", "-Atc", text, "postgres")


def new_primary(directory: Path) -> Postgres:
    """A server that is not running yet. `boss` needs no password, users called after a method need one."""
    data = directory / "primary"
    prefix = as_postgres()
    data.mkdir(mode=0o700)
    if prefix:
        for path in (directory, *directory.parents):
            if path.stat().st_uid == os.geteuid() and path != Path("/"):
                path.chmod(path.stat().st_mode | 0o055)
        shutil.chown(data, "postgres")
    server = Postgres(data, free_address())
    run(*prefix, program("initdb", server.programs), "-D", str(data), "-U", "boss", "-A", "trust", "--no-sync")
    methods = {"scram": "scram-sha-256", "md5": "md5", "plain": "password"}
    rules = [f"host all {user} 127.0.0.0/8 {method}\n" for user, method in methods.items()]
    hba = data / "pg_hba.conf"
    hba.write_text("".join(rules) + "host all all 127.0.0.0/8 trust\n" + hba.read_text())
    return server


def certify(server: Postgres, leaf: trustme.LeafCert) -> None:
    """Let a server that is not running yet offer TLS."""
    key = server.data / "server.key"
    key.write_bytes(leaf.private_key_pem.bytes())
    key.chmod(0o600)
    (server.data / "server.crt").write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    if as_postgres():
        for name in ("server.key", "server.crt"):
            shutil.chown(server.data / name, "postgres")


def new_replica(primary: Postgres) -> Postgres:
    """A copy of a running primary, not running yet."""
    host, port = primary.address
    replica = Postgres(primary.data.with_name("replica"), free_address())
    copy = [program("pg_basebackup", primary.programs), "-h", host, "-p", str(port), "-U", "boss", "-R", "-X", "stream"]
    replica.data.mkdir(mode=0o700)
    if as_postgres():
        shutil.chown(replica.data, "postgres")
    run(*as_postgres(), *copy, "-c", "fast", "--no-sync", "-D", str(replica.data))
    return replica
