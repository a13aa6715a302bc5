"""Commands that work on a configuration file: run, check, schema and demo."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict

import click

from l4lb.cli.parameters import duration
from l4lb.errors import ConfigError, Problem, StartError

EXIT_CONFIG = 2


def _reachable(path: str) -> str:
    """The path as given. BadParameter if it cannot be opened."""
    try:
        os.path.abspath(path)
    except OSError:
        raise click.BadParameter(
            f"the working directory is gone, so '{path}' leads nowhere; give an absolute path"
        ) from None
    return path


_config_option = click.option(
    "-c",
    "--config",
    "path",
    required=True,
    metavar="FILE",
    callback=lambda _context, _parameter, path: _reachable(path),
    help="The configuration file (YAML).",
)


@click.command()
@_config_option
def run(path: str) -> None:
    """Run in the foreground until SIGTERM or SIGINT; log to stderr.

    Exits with 0 after a clean stop, 1 if it cannot start and 2 if the file is wrong. SIGHUP reloads the file, SIGUSR1
    opens the log files again, SIGUSR2 upgrades in place, SIGQUIT stops for a restart.

    \b
    Example:
      l4lb run -c /etc/l4lb/l4lb.yaml
    """
    from l4lb.process import signals
    from l4lb.process.upgrade import predecessor

    signals.hold_signals()
    try:
        handover = predecessor.arrive()
        import uvloop

        from l4lb.process import daemon

        # Absolute: reloads and upgrades need it even after the working directory is gone.
        code = uvloop.run(daemon.run(os.path.abspath(path), handover))
    except ConfigError as error:
        _show_problems(error)
    except StartError as error:
        raise click.ClickException(str(error)) from error
    sys.exit(code)


@click.command()
@click.argument("file", required=False, metavar="[FILE]")
@click.option("-c", "--config", "path", metavar="FILE", help="The same as FILE.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of text.")
def check(file: str | None, path: str | None, as_json: bool) -> None:
    """Validate a configuration file; bind, resolve and contact nothing. `-` is the standard input.

    Exits with 0 if the file is valid, else prints every problem with its line and column and exits with 2.

    \b
    Examples:
      l4lb check /etc/l4lb/l4lb.yaml
      l4lb check -c - < l4lb.yaml
      l4lb check --json l4lb.yaml | jq '.problems[].message'
    """
    if (file is None) == (path is None):
        raise click.UsageError("give one FILE, or - for the standard input")
    wanted = file or path or ""
    problems = _problems(_reachable(wanted))
    if as_json:
        click.echo(json.dumps({"valid": not problems, "problems": [asdict(problem) for problem in problems]}, indent=2))
    elif problems:
        click.echo("\n".join(map(str, problems)), err=True)
    else:
        click.echo(f"{wanted}: valid")
    sys.exit(EXIT_CONFIG if problems else 0)


def _problems(path: str) -> Sequence[Problem]:
    """All problems of a file."""
    from l4lb.balancer.rehearsal import rehearse
    from l4lb.base.gc_pause import gc_paused
    from l4lb.config import load_config
    from l4lb.config.files import BYTES_MAX

    data = sys.stdin.buffer.read(BYTES_MAX + 1) if path == "-" else None
    try:
        with gc_paused():
            rehearse(load_config(path, data=data))
    except ConfigError as error:
        return error.problems
    except StartError as error:
        return [Problem(path, 1, 1, "", str(error))]
    return []


@click.command()
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors that check YAML.

    \b
    Example:
      l4lb schema > l4lb.schema.json
    """
    from l4lb.config import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


@click.command()
@click.option("-c", "--config", "path", metavar="FILE", help="Configuration to use in place of the built-in one.")
@click.option("--duration", type=duration, metavar="DURATION", help="Stop by itself.")
@click.option("--no-load", is_flag=True, help="Start no clients: bring your own.")
def demo(path: str | None, duration: float | None, no_load: bool) -> None:
    """Start stand-ins for model servers, the balancer and some load, and show a live table.

    \b
    Example:
      l4lb demo --duration 30s
    """
    from l4lb import demo as demo_package

    sys.exit(demo_package.main(path, duration=duration, load=not no_load))


def _show_problems(error: ConfigError) -> None:
    click.echo(str(error), err=True)
    sys.exit(EXIT_CONFIG)
