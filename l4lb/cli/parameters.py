"""Types of command-line values that several commands share."""

from __future__ import annotations

from typing import cast

import click


class Duration(click.ParamType):
    """Seconds, written as in the configuration (`90s`, `10m`) or as a bare number."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from l4lb.config.units import parse_duration

        if isinstance(value, float):
            return value
        text = cast(str, value)
        try:
            return parse_duration(f"{text}s" if text.replace(".", "", 1).isdecimal() else text)
        except ValueError as error:
            self.fail(str(error), param, ctx)
