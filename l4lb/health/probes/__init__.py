"""One check of one backend: I/O only, what the answer means is decided elsewhere. One module for each type."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import ssl

from l4lb.config.model import Health
from l4lb.health.probes import command, http, send_expect
from l4lb.health.probes.base import AnswerError, Outcome, Result, Subject, Target, failure, success
from l4lb.health.probes.connection import Connection, connected
from l4lb.health.probes.tls import TlsFileError, context_of, server_name

__all__ = ["NOBODY", "Outcome", "Result", "Subject", "Target", "failure", "probe", "success"]

LATE = 0.25
"""A deadline that is noticed so many seconds late says that this process had no time, not that the backend is slow."""

_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})

NOBODY = Subject()

_log = logging.getLogger(__name__)


async def probe(target: Target, health: Health, subject: Subject = NOBODY) -> Result:
    """Check once, within `health.timeout` for everything. Never raises but CancelledError."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + health.timeout
    try:
        async with asyncio.timeout_at(deadline):
            if health.type == "exec":
                return await command.run(target, health, subject)
            context, name = context_of(health), server_name(health, subject, target)
            async with connected(target, subject.send_proxy, context, name) as connection:
                return await _ask(connection, target, health, subject)
    except TimeoutError:
        # Seeing a program off takes time of its own.
        if loop.time() - deadline > LATE and health.type != "exec":
            return Result(Outcome.HINDERED, f"l4lb noticed the deadline {loop.time() - deadline:.1f}s late")
        return Result(Outcome.TIMEOUT, f"no answer within {health.timeout:g}s")
    except ssl.CertificateError as error:
        return failure(f"TLS: {error.verify_message}")
    except ssl.SSLError as error:
        return failure(f"TLS: {(error.reason or str(error)).replace('_', ' ').lower()}")
    except OSError as error:
        # The loop puts the address into `strerror`; whoever reads the message knows it.
        outcome = Outcome.HINDERED if error.errno in _OURS else Outcome.FAILURE
        return Result(outcome, os.strerror(error.errno) if error.errno else str(error))
    except TlsFileError as error:
        return failure(f"health.tls: {error}")
    except AnswerError as error:
        return failure(str(error))
    except Exception as error:
        # A fault of ours, which would take every backend down at once.
        _log.exception("a check of %s/%s failed in a way nobody foresaw", subject.pool, subject.backend)
        return Result(Outcome.HINDERED, f"internal error: {error!r}")


async def _ask(connection: Connection, target: Target, health: Health, subject: Subject) -> Result:
    match health.type:
        case "http" | "https":
            return await http.ask(connection, target, health, subject)
        case "grpc":
            # Here, because HTTP/2 takes memory that nobody else needs.
            from l4lb.health.probes import grpc

            return await grpc.ask(connection, target, health, subject)
        case "send_expect":
            return await send_expect.ask(connection, health)
    return success("connected")
