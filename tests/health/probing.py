"""One check of a server, from a test's point of view."""

from __future__ import annotations

import os
import socket
from typing import Any

from l4lb.config.model import Health
from l4lb.health.probes import NO_SUBJECT, Outcome, Result, Subject, probe
from l4lb.net.target import Target
from tests.helpers.loops import run
from tests.helpers.peers import Address, Backend

SHORT = 0.2
"""A timeout for what will not come."""

NO_ANSWER = Result(Outcome.TIMEOUT, "no answer within 0.2s")


def address_of(backend: Backend) -> Address:
    name = backend.sock.getsockname()
    return os.fsdecode(name) if isinstance(name, bytes) else backend.address


def target(address: Address) -> Target:
    if isinstance(address, str):
        return Target(socket.AF_UNIX, address)
    return Target(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, address)


def check(address: Address, *, subject: Subject = NO_SUBJECT, **settings: Any) -> Result:
    return run(probe(target(address), Health.model_validate({"timeout": 10} | settings), subject))
