"""The reference of the commands, from click's own description of them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import click

from docs.generate.parts import table
from l4lb.cli import COMMANDS, main


def commands() -> str:
    """Every command: what it does, its options, its examples."""
    context = click.Context(main, info_name="l4lb")
    return "\n\n".join(_command(context, name) for name in COMMANDS)


def _command(parent: click.Context, name: str) -> str:
    command = main.get_command(parent, name)
    assert command is not None
    context = click.Context(command, info_name=name, parent=parent)
    usage = " ".join([f"l4lb {name}", *command.collect_usage_pieces(context)])
    parts = [f"## `l4lb {name}`", f"```text\n{usage}\n```", *_paragraphs(command.help or "")]
    options = [option for option in command.get_params(context) if isinstance(option, click.Option)]
    rows = [_option(context, option) for option in options if "--help" not in option.opts]
    if rows:
        parts.append(table(("option", "default", "meaning"), rows))
    return "\n\n".join(parts)


def _paragraphs(text: str) -> Iterator[str]:
    """The help as Markdown; its examples, which click does not wrap, as blocks of code."""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.startswith("\b\n"):
            _, *lines = paragraph.removeprefix("\b\n").splitlines()
            yield "```console\n" + "\n".join(f"$ {line.strip()}" for line in lines) + "\n```"
        else:
            yield _marked(" ".join(paragraph.split()))


def _marked(text: str) -> str:
    """Options, and keys with underscores, set as code."""
    return re.sub(r"(?<![\w`-])(--[a-z-]+|[a-z]+_[a-z_]+)(?![\w`-])", r"`\1`", text)


def _option(context: click.Context, option: click.Option) -> tuple[str, str, str]:
    names = ", ".join(f"`{name}`" for name in option.opts)
    info: dict[str, Any] = option.to_info_dict()
    if not info["is_flag"]:
        names = f"`{', '.join(option.opts)} {option.make_metavar(context)}`"
    default = option.show_default if isinstance(option.show_default, str) else info["default"]
    if option.required:
        shown = "required"
    elif info["is_flag"] or not isinstance(default, str | int) or default == "":
        shown = "none" if not info["is_flag"] else "off"
    else:
        shown = f"`{default}`" if default != "all" else "all"
    text = _marked(option.help or "")
    if option.envvar:
        text += f" Environment: `{option.envvar}`."
    return names, shown, text
