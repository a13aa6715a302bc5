"""Values that several commands read from the command line."""

from __future__ import annotations

import click


def duration(text: str) -> float:
    """Seconds, written as in the configuration (`90s`, `10m`) or as a bare number."""
    from l4lb.config.units import parse_duration

    try:
        return parse_duration(f"{text}s" if text.replace(".", "", 1).isdecimal() else text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
