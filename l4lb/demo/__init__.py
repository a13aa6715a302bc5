"""The quickstart: stand-ins for model servers, the balancer in front of them, some load, and a live table."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from l4lb.errors import ConfigError, L4lbError

EXIT_FAILED = 1
EXIT_CONFIG = 2

QUICKSTART = Path(__file__).with_name("quickstart.yaml")


def main(path: str | None, *, duration: float | None, load: bool) -> int:
    """Run the demo until Ctrl-C, or for `duration` seconds, and return the exit status.

    `path` is a configuration in place of the built-in one; every backend in it becomes a stand-in. Without `load`
    there are no clients.
    """
    try:
        from l4lb.demo.scenario import run

        asyncio.run(run(path or str(QUICKSTART), duration, load=load))
    except ConfigError as error:
        click.echo(str(error), err=True)
        return EXIT_CONFIG
    except L4lbError as error:
        click.echo(f"Error: {error}", err=True)
        return EXIT_FAILED
    except BrokenPipeError:  # as in `l4lb demo | head`: no one reads the output
        return EXIT_FAILED
    except KeyboardInterrupt:  # before anything was started
        return 0
    return 0
