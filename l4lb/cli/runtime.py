"""Commands that ask or change a running l4lb through its admin socket."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from typing import NoReturn, ParamSpec

import click

from l4lb.admin.sockets import DEFAULT_SOCKET
from l4lb.cli import tables
from l4lb.cli.client import AdminClient, ClientError, Json
from l4lb.cli.draining import Drain
from l4lb.cli.parameters import duration
from l4lb.words import counted

RELOAD_TIMEOUT = UPGRADE_TIMEOUT = 120.0
EXIT_FAILED = 1
EXIT_REJECTED = 2
EXIT_INTERRUPTED = 130

P = ParamSpec("P")

_socket_option = click.option(
    "--socket",
    "socket_path",
    envvar="L4LB_SOCKET",
    default=DEFAULT_SOCKET,
    show_default=True,
    show_envvar=True,
    metavar="PATH",
    help="The admin socket.",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON in place of tables.")
_backend_argument = click.argument("target", metavar="POOL/BACKEND")


def _reports_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Show a ClientError as one sentence and exit with 1."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except ClientError as error:
            _fail(str(error))

    return wrapped


def _fail(sentence: str, code: int = EXIT_FAILED) -> NoReturn:
    click.echo(f"Error: {sentence}", err=True)
    sys.exit(code)


def _split(target: str) -> tuple[str, str]:
    pool, separator, backend = target.partition("/")
    if not (pool and separator and backend):
        raise click.BadParameter(f"'{target}' is not POOL/BACKEND; `l4lb status` shows the names")
    return pool, backend


def _print_json(value: Json) -> None:
    click.echo(json.dumps(value, indent=2))


@click.command()
@_socket_option
@_json_option
@_reports_errors
def status(socket_path: str, as_json: bool) -> None:
    """Show listeners, pools and backends with their state, health and load.

    \b
    Examples:
      l4lb status
      l4lb status --json | jq '.pools.llama.backends'
    """
    answer = AdminClient(socket_path).status()
    _print_json(answer) if as_json else tables.print_status(answer)


@click.command()
@_socket_option
@_json_option
@_reports_errors
def sessions(socket_path: str, as_json: bool) -> None:
    """Show the live sessions.

    \b
    Example:
      l4lb sessions
    """
    answer = AdminClient(socket_path).sessions()
    _print_json(answer) if as_json else tables.print_sessions(answer)


@click.command()
@_backend_argument
@_socket_option
@click.option("--wait", is_flag=True, help="Wait until the backend's last session has ended.")
@click.option(
    "--timeout",
    type=duration,
    metavar="DURATION",
    help="With --wait: give up after this long. The backend goes on draining.",
)
@click.option(
    "--kill", "and_kill", is_flag=True, help="With --timeout: close what is left then, and so do not give up."
)
@_json_option
@_reports_errors
def drain(target: str, socket_path: str, wait: bool, timeout: float | None, and_kill: bool, as_json: bool) -> None:
    """Send a backend no new sessions; let requests in flight come to their end, and close what is quiet.

    With --wait, exits with 0 once no session is left, and with 1 if --timeout came first, or if the backend was set
    back to ready or left the configuration meanwhile. Ctrl-C ends the wait, not the draining.

    \b
    Examples:
      l4lb drain llama/gpu-b --wait --timeout 10m
      l4lb drain llama/gpu-b --wait --timeout 10m --kill
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout needs --wait")
    if and_kill and timeout is None:
        raise click.UsageError("--kill needs --timeout: what is left is closed then")
    names = _split(target)
    client = AdminClient(socket_path)
    answer = client.change_backend(*names, {"state": "drain"})
    if wait:
        answer = _wait_drained(target, Drain(client, names, answer, timeout, kill=and_kill))
    if wait and not as_json:
        click.echo(f"{target}: drained, no connections left")
    else:
        _report(target, answer, as_json=as_json)


def _wait_drained(target: str, draining: Drain) -> Json:
    try:
        return draining.wait()
    except KeyboardInterrupt:
        _fail(f"{target} goes on draining, {draining.left} left; `l4lb ready {target}` ends that", EXIT_INTERRUPTED)


@click.command()
@_backend_argument
@_socket_option
@_json_option
@_reports_errors
def ready(target: str, socket_path: str, as_json: bool) -> None:
    """Put a backend back into service after drain or maint.

    \b
    Example:
      l4lb ready llama/gpu-b
    """
    _change(target, socket_path, {"state": "ready"}, as_json=as_json)


@click.command()
@_backend_argument
@_socket_option
@_json_option
@_reports_errors
def maint(target: str, socket_path: str, as_json: bool) -> None:
    """Take a backend out of service: no new sessions and no health checks.

    \b
    Example:
      l4lb maint llama/gpu-b
    """
    _change(target, socket_path, {"state": "maint"}, as_json=as_json)


@click.command()
@_backend_argument
@click.argument("value", metavar="WEIGHT", type=click.IntRange(0, 256))
@_socket_option
@_json_option
@_reports_errors
def weight(target: str, value: int, socket_path: str, as_json: bool) -> None:
    """Set the weight of a backend, 0 to 256; with 0 it gets no new sessions.

    \b
    Example:
      l4lb weight llama/gpu-b 4
    """
    _change(target, socket_path, {"weight": value}, as_json=as_json)


def _change(target: str, socket_path: str, change: Json, *, as_json: bool) -> None:
    _report(target, AdminClient(socket_path).change_backend(*_split(target), change), as_json=as_json)


def _report(target: str, backend: Json, *, as_json: bool) -> None:
    if as_json:
        _print_json(backend)
        return
    connections = counted(tables.number(backend, "connections"), "connection")
    click.echo(f"{target}: {backend['state']}, weight {backend['weight']}, {connections}")


@click.command()
@click.argument("session", metavar="SESSION", type=click.IntRange(min=0))
@_socket_option
@_reports_errors
def kill(session: int, socket_path: str) -> None:
    """Close one session, by the number that `l4lb sessions` shows.

    \b
    Example:
      l4lb kill 81604378624
    """
    AdminClient(socket_path).kill_session(session)
    click.echo(f"session {session}: closed")


@click.command()
@_socket_option
@_reports_errors
def reload(socket_path: str) -> None:
    """Reload the configuration as SIGHUP does, and wait for the outcome.

    Exits with 0 if it was applied and with 2 if it was rejected; the running configuration is unchanged then.

    \b
    Example:
      l4lb reload
    """
    try:
        answer = AdminClient(socket_path, timeout=RELOAD_TIMEOUT).reload()
    except ClientError as error:
        problems = error.answer.get("problems")
        if error.status is None or not isinstance(problems, list):
            raise
        for problem in problems:
            click.echo(str(problem), err=True)
        _fail("the reload was rejected; the running configuration is unchanged", EXIT_REJECTED)
    notes = answer.get("notes")
    for note in notes if isinstance(notes, list) else ():
        click.echo(f"note: {note}")
    click.echo("reloaded")


@click.command()
@_socket_option
@_reports_errors
def upgrade(socket_path: str) -> None:
    """Replace the running process by the program as it is installed now, as SIGUSR2 does, and wait for the outcome.

    No connection is refused or cut off: the new process takes over the listening sockets, and the old one leaves when
    its sessions have ended. Exits with 0 if the new process serves and with 2 if not; nothing has changed then.

    \b
    Example:
      l4lb upgrade
    """
    try:
        answer = AdminClient(socket_path, timeout=UPGRADE_TIMEOUT).upgrade()
    except ClientError as error:
        if error.status is None:
            raise
        _fail(str(error), EXIT_REJECTED)
    click.echo(f"upgraded: process {answer['pid']} serves with l4lb {answer['version']}")
