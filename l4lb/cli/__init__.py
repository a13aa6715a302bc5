"""The command line. Commands are imported when they are used, so that `l4lb --help` and completion stay quick."""

from __future__ import annotations

import importlib
from typing import Any

import click

from l4lb.errors import NotBuiltError

# name -> (module, one line of help). The order is the order of `l4lb --help`.
COMMANDS = {
    "run": ("l4lb.cli.local", "Run the load balancer in the foreground."),
    "check": ("l4lb.cli.local", "Validate a configuration file and change nothing."),
    "schema": ("l4lb.cli.local", "Print the JSON Schema of the configuration."),
    "demo": ("l4lb.cli.local", "Try l4lb with built-in backends and load."),
    "status": ("l4lb.cli.runtime", "Show listeners, pools and backends."),
    "sessions": ("l4lb.cli.runtime", "Show the live sessions."),
    "drain": ("l4lb.cli.runtime", "Send a backend nothing new; let its requests finish."),
    "ready": ("l4lb.cli.runtime", "Put a backend back into service."),
    "maint": ("l4lb.cli.runtime", "Take a backend out of service and stop checking it."),
    "weight": ("l4lb.cli.runtime", "Set the weight of a backend."),
    "add": ("l4lb.cli.members", "Add a backend to a pool."),
    "set": ("l4lb.cli.members", "Give a backend another address or other limits."),
    "remove": ("l4lb.cli.members", "Remove a backend from its pool."),
    "kill": ("l4lb.cli.runtime", "Close one session."),
    "agent": ("l4lb.cli.agent", "Report the load of this host to a load balancer."),
    "reload": ("l4lb.cli.runtime", "Reload the configuration and say how it went."),
    "upgrade": ("l4lb.cli.runtime", "Replace the running process by the installed program."),
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name][0])
        # `set` is a builtin of Python, so its function has an underscore.
        command = getattr(module, cmd_name, None) or getattr(module, f"{cmd_name}_")
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except NotBuiltError as error:
            raise click.ClickException(str(error)) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _print_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        from l4lb._version import __version__

        click.echo(f"l4lb {__version__}")
        ctx.exit()


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Each command has --help with an example.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def main() -> None:
    """l4lb, a TCP load balancer."""
