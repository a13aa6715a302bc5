"""The stand-ins of a configuration: one process for each address that has a backend."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from l4lb.config import Address, Config
from l4lb.demo.children import Child, child
from l4lb.errors import StartError

BACKLOG = 128


@dataclass(frozen=True, slots=True)
class Member:
    """A running stand-in; its name is that of a backend, as POOL/BACKEND."""

    name: str
    process: Child


@contextlib.asynccontextmanager
async def fleet(config: Config, environ: Mapping[str, str]) -> AsyncIterator[dict[Address, Member]]:
    """The stand-ins for the length of the block. StartError if an address cannot be bound; then none is started."""
    names: dict[Address, str] = {}
    for pool_name, pool in config.pools.items():
        for backend in pool.backends:
            names.setdefault(backend.address, f"{pool_name}/{backend.name}")
    async with contextlib.AsyncExitStack() as stack:
        members: dict[Address, Member] = {}
        # Only the stand-in keeps its socket: when it dies, nothing must go on accepting there.
        with contextlib.ExitStack() as ours:
            sockets = {address: _listen(address, name, ours, stack) for address, name in names.items()}
            for address, name in names.items():
                fd = sockets[address].fileno()
                process = await stack.enter_async_context(
                    child("l4lb.demo.stand_in", name, str(fd), environ=environ, pass_fds=[fd])
                )
                members[address] = Member(name, process)
        yield members


def _listen(
    address: Address, name: str, sockets: contextlib.ExitStack, files: contextlib.AsyncExitStack
) -> socket.socket:
    try:
        if address.path is None:
            family = socket.AF_INET6 if address.is_ipv6 else socket.AF_INET
            return sockets.enter_context(socket.create_server((address.host or "", address.port or 0), family=family))
        sock = sockets.enter_context(socket.socket(socket.AF_UNIX))
        sock.bind(address.unix_name)
        files.callback(Path(address.path).unlink, missing_ok=True)
        sock.listen(BACKLOG)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise StartError(
            f"cannot start a stand-in for {name} at {address}: {reason}; stop what uses that address, "
            "or give the demo another file with -c"
        ) from error
    return sock
