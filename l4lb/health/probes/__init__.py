"""One check of one backend. I/O only: `health.machine` interprets the result. A module for each type of check."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import ssl

from l4lb.config.model import Health
from l4lb.health.probes import command, http, mysql, pgsql, redis, send_expect, smtp
from l4lb.health.probes.base import Outcome, Result, Subject, failure, success
from l4lb.health.probes.dialogue import unanswered
from l4lb.health.probes.tls import TlsFileError, context_of, server_name
from l4lb.net.connection import Connection, ReplyError, new_socket, tls_error_text
from l4lb.net.dial import SourceError
from l4lb.net.target import Target

__all__ = ["NO_SUBJECT", "Outcome", "Result", "Subject", "failure", "probe", "success"]

LATE = 0.25
"""A deadline that is noticed this many seconds late means that this process was short of CPU time, not that the backend
is slow."""

_OURS = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC, errno.EADDRNOTAVAIL, errno.EAGAIN}
)
"""Errors that mean a shortage on this host. ENOSPC comes from epoll's limit; a full backlog is never EAGAIN here."""

NO_SUBJECT = Subject()

_log = logging.getLogger(__name__)


async def probe(target: Target, health: Health, subject: Subject = NO_SUBJECT) -> Result:
    """Check once. `health.timeout` covers everything but reading TLS files and closing the connection. Raises only
    CancelledError."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + health.timeout
    try:
        if (context := await context_of(health)) is not None:
            # The timeout does not include reading files on this host.
            deadline = loop.time() + health.timeout
        if health.type == "exec":
            async with asyncio.timeout_at(deadline):
                return await command.run(target, health, subject)
        return await _asked(target, health, subject, context, deadline)
    except TimeoutError as error:
        # Ending a program takes additional time.
        if loop.time() - deadline > LATE and health.type != "exec":
            return Result(Outcome.HINDERED, f"l4lb noticed the deadline {loop.time() - deadline:.1f}s late")
        return Result(Outcome.TIMEOUT, f"{str(error) or 'no answer'} within {health.timeout:g}s")
    except ssl.SSLError as error:
        return failure(tls_error_text(error))
    except SourceError as error:
        return Result(Outcome.HINDERED, str(error.strerror))
    except OSError as error:
        # The loop puts the address into `strerror`, and the status shows the address already.
        outcome = Outcome.HINDERED if error.errno in _OURS else Outcome.FAILURE
        return Result(outcome, os.strerror(error.errno) if error.errno else str(error))
    except TlsFileError as error:
        return Result(Outcome.HINDERED, f"health.tls: {error}")
    except MemoryError:
        return Result(Outcome.HINDERED, os.strerror(errno.ENOMEM))
    except Exception as error:
        # A bug in l4lb, which would otherwise take every backend down at once.
        _log.exception("unexpected error in a check of %s/%s", subject.pool, subject.backend)
        return Result(Outcome.HINDERED, f"internal error: {error!r}")


async def _asked(
    target: Target, health: Health, subject: Subject, context: ssl.SSLContext | None, deadline: float
) -> Result:
    name = server_name(health, subject, target)
    with new_socket(target) as sock:
        connection = Connection(sock)
        try:
            async with asyncio.timeout_at(deadline):
                if health.type == "pgsql":
                    await connection.open(target.address, subject.send_proxy)
                    result = await pgsql.ask(connection, health, context, name)
                else:
                    await connection.open(target.address, subject.send_proxy, context, name)
                    result = await _ask(connection, target, health, subject)
        except TimeoutError:
            raise TimeoutError(unanswered(connection)) from None
        except ReplyError as error:
            result = failure(str(error))
        await connection.leave(peer_closes=health.type in ("http", "https"))
        return result


def load(health: Health) -> None:
    """Import the modules for this kind of check while the process still has the privileges to read them."""
    if health.type == "grpc":
        from l4lb.health.probes import grpc  # noqa: F401


async def _ask(connection: Connection, target: Target, health: Health, subject: Subject) -> Result:
    match health.type:
        case "http" | "https":
            return await http.ask(connection, target, health, subject)
        case "grpc":
            # Imported here, because HTTP/2 takes memory that other checks do not need.
            from l4lb.health.probes import grpc

            return await grpc.ask(connection, target, health, subject)
        case "send_expect":
            return await send_expect.ask(connection, health)
        case "redis":
            return await redis.ask(connection, health)
        case "mysql":
            return await mysql.ask(connection, health)
        case "smtp":
            return await smtp.ask(connection, health)
    return success("connected")
