"""Commands that ask or change a running l4lb through its admin socket."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Mapping
from typing import NoReturn, ParamSpec

import click

from l4lb.admin.sockets import DEFAULT_SOCKET
from l4lb.cli import tables
from l4lb.cli.client import AdminClient, ClientError, Json
from l4lb.cli.draining import Drain
from l4lb.cli.parameters import duration
from l4lb.words import clipped, counted

RELOAD_TIMEOUT = UPGRADE_TIMEOUT = 120.0
EXIT_FAILED = 1
EXIT_REJECTED = 2
EXIT_INTERRUPTED = 130
UNFOLDED = 1 << 16
"""A width of lines that no value needs."""

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
    click.echo(f"Error: {clipped(sentence)}", err=True)
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
@click.option("--yaml", "as_yaml", is_flag=True, help="Print the backends of each pool as a file has them.")
@_reports_errors
def status(socket_path: str, as_json: bool, as_yaml: bool) -> None:
    """Show listeners, pools and backends with their state, health and load.

    With --yaml, what was added, removed and changed at run time is written as it belongs into the file; the state of a
    backend (drain, maint) has no key there, and what a source finds does not belong there.

    \b
    Examples:
      l4lb status
      l4lb status --json | jq '.pools.llama.backends'
      l4lb status --yaml
    """
    if as_json and as_yaml:
        raise click.UsageError("give --json or --yaml, not both")
    if as_yaml:
        _print_yaml(AdminClient(socket_path).pools())
        return
    answer = AdminClient(socket_path).status()
    _print_json(answer) if as_json else tables.print_status(answer)


def _print_yaml(value: Json) -> None:
    import yaml

    from l4lb.config.environment import escaped

    click.echo(yaml.safe_dump(escaped(value), sort_keys=False, allow_unicode=True, width=UNFOLDED), nl=False)


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

    Sessions are closed once they are quiet for a second, and for less and less as the drain gets older; behind a
    response whose end is certain, at once. With --wait it says what it waits for: requests in flight, connections that
    are never idle, responses that their clients have not read. --kill closes them.

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


_limit_options = [
    click.option("--max-connections", type=click.IntRange(min=0), metavar="N", help="Sessions at once; 0 is no limit."),
    click.option(
        "--max-busy", type=click.IntRange(min=0), metavar="N", help="Turns in flight beyond which it gets no session."
    ),
    click.option("--zone", metavar="ZONE", help="Where it is."),
    click.option("--tier", type=click.IntRange(min=0), metavar="N", help="Its tier; 0 comes first."),
]


def _takes_limits(command: Callable[P, None]) -> Callable[P, None]:
    """The options that `add` and `set` share."""
    for option in reversed(_limit_options):
        command = option(command)
    return command


@click.command()
@click.argument("pool", metavar="POOL")
@click.argument("address", metavar="ADDRESS")
@click.option("--name", metavar="NAME", help="What to call it; its address when not given.")
@click.option("--weight", type=click.IntRange(0, 256), metavar="N", help="Its share of new sessions, 1 when not given.")
@_takes_limits
@_socket_option
@_json_option
@_reports_errors
def add(pool: str, socket_path: str, as_json: bool, **given: str | int | None) -> None:
    """Add a backend to a pool. It stays over reloads and upgrades, until the file has a backend of that name.

    \b
    Examples:
      l4lb add llama 10.0.0.13:8000
      l4lb add llama 10.0.0.13:8000 --name gpu-c --weight 2 --max-connections 64
    """
    answer = AdminClient(socket_path).add_backend(pool, _settings(given))
    _report(f"{pool}/{answer['name']}", answer, as_json=as_json)


@click.command(name="set")
@_backend_argument
@click.option("--address", metavar="ADDRESS", help="Where it is from now on. Sessions at the old address go on.")
@_takes_limits
@_socket_option
@_json_option
@_reports_errors
def set_(target: str, socket_path: str, as_json: bool, **given: str | int | None) -> None:
    """Give a backend another address or other limits; it keeps its name, counters, state and weight.

    This holds over reloads and upgrades, until the file changes that backend.

    \b
    Examples:
      l4lb set llama/gpu-b --address 10.0.0.14:8000
      l4lb set llama/gpu-b --max-connections 32
    """
    if not (settings := _settings(given)):
        raise click.UsageError("nothing to set; give --address or another option")
    _change(target, socket_path, settings, as_json=as_json)


def _settings(given: Mapping[str, str | int | None]) -> Json:
    return {key: value for key, value in given.items() if value is not None}


@click.command()
@_backend_argument
@_socket_option
@click.option("--wait", is_flag=True, help="Drain it first, and wait until its last session has ended.")
@click.option(
    "--timeout",
    type=duration,
    metavar="DURATION",
    help="With --wait: give up after this long. The backend goes on draining, and is not removed.",
)
@click.option("--kill", "and_kill", is_flag=True, help="Close its sessions at once; with --timeout, those left then.")
@_json_option
@_reports_errors
def remove(target: str, socket_path: str, wait: bool, timeout: float | None, and_kill: bool, as_json: bool) -> None:
    """Remove a backend from its pool. It stays away over reloads and upgrades, until the file changes that backend.

    Its sessions go on as when it has left the file: what is quiet is closed, requests in flight end in their own time,
    up to drain_timeout of the pool. With --wait it is drained until none is left, and then removed.

    \b
    Examples:
      l4lb remove llama/gpu-b
      l4lb remove llama/gpu-b --wait --timeout 10m --kill
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout needs --wait")
    if wait and and_kill and timeout is None:
        raise click.UsageError("--wait and --kill need --timeout: what is left is closed then")
    names = _split(target)
    client = AdminClient(socket_path)
    if wait and client.backend(*names).get("origin") != "discovery":
        answer = client.change_backend(*names, {"state": "drain"})
        _wait_drained(target, Drain(client, names, answer, timeout, kill=and_kill))
    answer = client.remove_backend(*names, force=and_kill)
    if as_json:
        _print_json(answer)
        return
    sessions = counted(tables.number(answer, "connections"), "connection")
    click.echo(f"{target}: removed, {sessions} {'closed' if and_kill else 'left'}")


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
            click.echo(clipped(str(problem)), err=True)
        _fail("the reload was rejected; the running configuration is unchanged", EXIT_REJECTED)
    notes = answer.get("notes")
    for note in notes if isinstance(notes, list) else ():
        click.echo(clipped(f"note: {note}"))
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
