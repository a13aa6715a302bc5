"""Commands that add, change and remove backends of a running l4lb."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ParamSpec

import click

from l4lb.admin.client import AdminClient, Json
from l4lb.base.limits import WEIGHT_MAX
from l4lb.base.text import plural
from l4lb.cli.common import (
    backend_argument,
    change,
    drain_options,
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

P = ParamSpec("P")


class _MaxBusy(click.IntRange):
    """A number, or `auto`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if value == "auto" else super().convert(value, param, ctx)


_limit_options = [
    click.option("--max-connections", type=click.IntRange(min=0), metavar="N", help="Sessions at once; 0 is no limit."),
    click.option(
        "--max-busy",
        type=_MaxBusy(min=0),
        metavar="N",
        help="Turns in flight beyond which it gets no more; 0 is no limit, auto learns it.",
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
@click.option(
    "--weight", type=click.IntRange(0, WEIGHT_MAX), metavar="N", help="Its share of new sessions, 1 when not given."
)
@_takes_limits
@socket_option
@json_option
@reports_errors
def add(pool: str, socket_path: str, as_json: bool, **given: str | int | None) -> None:
    """Add a backend to a pool. It stays over reloads and upgrades, until the file has a backend of that name.

    \b
    Examples:
      l4lb add llama 10.0.0.13:8000
      l4lb add llama 10.0.0.13:8000 --name gpu-c --weight 2 --max-connections 64
    """
    answer = AdminClient(socket_path).add_backend(pool, _settings(given))
    report(f"{pool}/{answer['name']}", answer, as_json=as_json)


@click.command(name="set")
@backend_argument
@click.option("--address", metavar="ADDRESS", help="Where it is from now on. Sessions at the old address go on.")
@_takes_limits
@socket_option
@json_option
@reports_errors
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
    change(target, socket_path, settings, as_json=as_json)


def _settings(given: Mapping[str, str | int | None]) -> Json:
    return {key: value for key, value in given.items() if value is not None}


@click.command()
@backend_argument
@socket_option
@drain_options(
    wait="Drain it first, and wait until its last session has ended.",
    timeout="The backend goes on draining, and is not removed.",
    kill="Close its sessions at once; with --timeout, those left then.",
)
@json_option
@reports_errors
def remove(target: str, socket_path: str, wait: bool, timeout: float | None, and_kill: bool, as_json: bool) -> None:
    """Remove a backend from its pool. It stays away over reloads and upgrades, until the file changes that backend.

    Its sessions end as if the file had removed it: idle ones are closed, and requests in flight may finish within the
    pool's drain_timeout. With --wait it is drained until no session is left, and then removed.

    \b
    Examples:
      l4lb remove llama/gpu-b
      l4lb remove llama/gpu-b --wait --timeout 10m --kill
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout needs --wait")
    if wait and and_kill and timeout is None:
        raise click.UsageError("--wait and --kill need --timeout: what is left is closed then")
    names = split(target)
    client = AdminClient(socket_path)
    if wait and client.backend(*names).get("origin") != "discovery":
        answer = client.change_backend(*names, {"state": "drain"})
        wait_drained(target, Drain(client, names, answer, timeout, kill=and_kill))
    answer = client.remove_backend(*names, force=and_kill)
    if as_json:
        print_json(answer)
        return
    sessions = plural(tables.number(answer, "connections"), "connection")
    click.echo(f"{target}: removed, {sessions} {'closed' if and_kill else 'left'}")
