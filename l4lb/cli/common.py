"""Options and output that commands for a running l4lb share."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from typing import NoReturn, ParamSpec

import click

from l4lb.admin import DEFAULT_SOCKET
from l4lb.admin.client import AdminClient, ClientError, Json
from l4lb.base.names import split_backend
from l4lb.base.text import clipped, plural
from l4lb.cli.draining import Drain
from l4lb.cli.parameters import duration
from l4lb.terminal import tables

EXIT_FAILED = 1
EXIT_REJECTED = 2
EXIT_INTERRUPTED = 130

P = ParamSpec("P")

socket_option = click.option(
    "--socket",
    "socket_path",
    envvar="L4LB_SOCKET",
    default=DEFAULT_SOCKET,
    show_default=True,
    show_envvar=True,
    metavar="PATH",
    help="The admin socket.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON in place of text.")
backend_argument = click.argument("target", metavar="POOL/BACKEND")


def drain_options(*, wait: str, timeout: str, kill: str) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """The options of commands that may wait for a drain, with their help."""
    options = (
        click.option("--wait", is_flag=True, help=wait),
        click.option(
            "--timeout", type=duration, metavar="DURATION", help=f"With --wait: give up after this long. {timeout}"
        ),
        click.option("--kill", "and_kill", is_flag=True, help=kill),
    )

    def with_options(command: Callable[P, None]) -> Callable[P, None]:
        for option in reversed(options):
            command = option(command)
        return command

    return with_options


def reports_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Show a ClientError as one sentence and exit with 1."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except ClientError as error:
            fail(str(error))

    return wrapped


def fail(sentence: str, code: int = EXIT_FAILED) -> NoReturn:
    click.echo(f"Error: {clipped(sentence)}", err=True)
    sys.exit(code)


def split(target: str) -> tuple[str, str]:
    """The names of a pool and of a backend in it, from a command line."""
    try:
        return split_backend(target)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def print_json(value: Json) -> None:
    click.echo(json.dumps(value, indent=2))


def change(target: str, socket_path: str, change: Json, *, as_json: bool) -> None:
    report(target, AdminClient(socket_path).change_backend(*split(target), change), as_json=as_json)


def report(target: str, backend: Json, *, as_json: bool) -> None:
    if as_json:
        print_json(backend)
        return
    connections = plural(tables.number(backend, "connections"), "connection")
    click.echo(f"{target}: {backend['state']}, weight {backend['weight']}, {connections}")


def wait_drained(target: str, draining: Drain) -> Json:
    try:
        return draining.wait()
    except KeyboardInterrupt:
        fail(f"{target} goes on draining, {draining.left} left; `l4lb ready {target}` ends that", EXIT_INTERRUPTED)
