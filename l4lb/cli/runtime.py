"""Commands that ask or change a running l4lb through its admin socket."""

from __future__ import annotations

import sys

import click

from l4lb.admin.client import AdminClient, ClientError, Json
from l4lb.base.limits import WEIGHT_MAX
from l4lb.base.text import clipped
from l4lb.cli.common import (
    EXIT_REJECTED,
    backend_argument,
    change,
    drain_options,
    fail,
    json_option,
    print_json,
    report,
    reports_errors,
    socket_option,
    split,
    wait_drained,
)
from l4lb.cli.draining import Drain
from l4lb.terminal import tables

RELOAD_TIMEOUT = UPGRADE_TIMEOUT = 120.0
UNFOLDED = 1 << 16
"""A line width that no value reaches, so that YAML folds none."""


@click.command()
@socket_option
@json_option
@click.option("--yaml", "as_yaml", is_flag=True, help="Print the backends of each pool as a file has them.")
@reports_errors
def status(socket_path: str, as_json: bool, as_yaml: bool) -> None:
    """Show listeners, pools and backends with their state, health and load.

    A table has the columns that the terminal has room for; elsewhere, those that fit into COLUMNS, or all without it.

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
    print_json(answer) if as_json else tables.print_status(answer)


def _print_yaml(value: Json) -> None:
    import yaml

    from l4lb.config.environment import escaped

    click.echo(yaml.safe_dump(escaped(value), sort_keys=False, allow_unicode=True, width=UNFOLDED), nl=False)


@click.command()
@socket_option
@json_option
@reports_errors
def sessions(socket_path: str, as_json: bool) -> None:
    """Show the live sessions.

    A session without a backend is in the queue, or is kept between two requests.

    \b
    Example:
      l4lb sessions
    """
    answer = AdminClient(socket_path).sessions()
    print_json(answer) if as_json else tables.print_sessions(answer)


@click.command()
@backend_argument
@socket_option
@drain_options(
    wait="Wait until the backend's last session has ended.",
    timeout="The backend goes on draining.",
    kill="With --timeout: close the sessions that are left then, and so do not give up.",
)
@json_option
@reports_errors
def drain(target: str, socket_path: str, wait: bool, timeout: float | None, and_kill: bool, as_json: bool) -> None:
    """Send a backend nothing new; let requests in flight finish.

    With protocol http1, clients keep their connections, and their next requests go to other backends. Other sessions
    are closed once they are idle for a second, and for less and less as the drain gets older; after a response with a
    certain end, at once. With --wait the output explains the wait: requests in flight, connections that are
    never idle, responses that their clients have not read. --kill closes them.

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
    names = split(target)
    client = AdminClient(socket_path)
    answer = client.change_backend(*names, {"state": "drain"})
    if wait:
        answer = wait_drained(target, Drain(client, names, answer, timeout, kill=and_kill))
    if wait and not as_json:
        click.echo(f"{target}: drained, no connections left")
    else:
        report(target, answer, as_json=as_json)


@click.command()
@backend_argument
@socket_option
@json_option
@reports_errors
def ready(target: str, socket_path: str, as_json: bool) -> None:
    """Put a backend back into service after drain or maint.

    \b
    Example:
      l4lb ready llama/gpu-b
    """
    change(target, socket_path, {"state": "ready"}, as_json=as_json)


@click.command()
@backend_argument
@socket_option
@json_option
@reports_errors
def maint(target: str, socket_path: str, as_json: bool) -> None:
    """Take a backend out of service: no new sessions and no health checks.

    \b
    Example:
      l4lb maint llama/gpu-b
    """
    change(target, socket_path, {"state": "maint"}, as_json=as_json)


@click.command()
@backend_argument
@click.argument("value", metavar="WEIGHT", type=click.IntRange(0, WEIGHT_MAX))
@socket_option
@json_option
@reports_errors
def weight(target: str, value: int, socket_path: str, as_json: bool) -> None:
    """Set the weight of a backend, 0 to 256; with 0 it gets no new sessions.

    \b
    Example:
      l4lb weight llama/gpu-b 4
    """
    change(target, socket_path, {"weight": value}, as_json=as_json)


@click.command()
@click.argument("session", metavar="SESSION", type=click.IntRange(min=0))
@socket_option
@json_option
@reports_errors
def kill(session: int, socket_path: str, as_json: bool) -> None:
    """Close one session, by the number that `l4lb sessions` shows.

    \b
    Example:
      l4lb kill 81604378624
    """
    answer = AdminClient(socket_path).kill_session(session)
    print_json(answer) if as_json else click.echo(f"session {session}: closed")


@click.command()
@socket_option
@json_option
@reports_errors
def reload(socket_path: str, as_json: bool) -> None:
    """Reload the configuration as SIGHUP does, and wait for the outcome.

    Exits with 0 if it was applied and with 2 if it was rejected; the running configuration is unchanged then.

    \b
    Examples:
      l4lb reload
      l4lb reload --json | jq -r '.problems[]?'
    """
    try:
        answer = AdminClient(socket_path, timeout=RELOAD_TIMEOUT).reload()
    except ClientError as error:
        problems = error.answer.get("problems")
        if error.status is None or not isinstance(problems, list):
            raise
        if as_json:
            print_json(error.answer)
            sys.exit(EXIT_REJECTED)
        for problem in problems:
            click.echo(clipped(str(problem)), err=True)
        fail("the reload was rejected; the running configuration is unchanged", EXIT_REJECTED)
    if as_json:
        print_json(answer)
        return
    notes = answer.get("notes")
    for note in notes if isinstance(notes, list) else ():
        click.echo(clipped(f"note: {note}"))
    click.echo("reloaded")


@click.command()
@socket_option
@json_option
@reports_errors
def upgrade(socket_path: str, as_json: bool) -> None:
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
        if as_json:
            print_json(error.answer)
            sys.exit(EXIT_REJECTED)
        fail(str(error), EXIT_REJECTED)
    if as_json:
        print_json(answer)
        return
    click.echo(f"upgraded: process {answer['pid']} serves with l4lb {answer['version']}")
