"""Commands and their help: a `Commands` is what a file of the command line adds its command, or its group of them, to.

Help is plain text, since Rich takes longer to load than all else that help needs. Its sections are the panels that
Typer knows as `rich_help_panel`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from aquasurf_ray.cli.terminal.settings import FromModel

OPTIONS = "Options"
F = TypeVar("F", bound=Callable[..., Any])


class PanelCommand(TyperCommand):
    """A command whose help lists the options in panels, in the order of their first options; `Options` comes last."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the usage, with optional arguments in brackets and required ones in none."""
        arguments = [parameter for parameter in self.get_params(ctx) if parameter.param_type_name == "argument"]
        words = {argument_name(each): each.required or "Required" in _help_of(each) for each in arguments}
        return ["[OPTIONS]", *(word if required else f"[{word}]" for word, required in words.items())]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        panels: dict[str, list[tuple[str, str]]] = {"Arguments": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            if parameter.param_type_name == "argument":
                panels["Arguments"].append((argument_name(parameter), _help_of(parameter)))
            else:
                panel = getattr(parameter, "rich_help_panel", None) or OPTIONS
                panels.setdefault(panel, []).append((record[0], option_text(parameter)))
        # A dictionary keeps the order of insertion, so this moves the panel to the end.
        panels[OPTIONS] = panels.pop(OPTIONS)
        for title, records in panels.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class CommandGroup(TyperGroup):
    """A group whose help shows the first paragraph of each command's help whole, where Typer cuts it."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, first_paragraph(found.help)) for name, found in commands if found is not None])


class Commands(typer.Typer):
    """One command, or a group of commands, as a file of the command line defines it."""

    def __init__(self, **settings: Any) -> None:
        # Completion is an option of `aquasurf` itself, not of each command.
        super().__init__(cls=CommandGroup, rich_markup_mode=None, add_completion=False, **settings)

    def command(self, name: str | None = None, **more: Any) -> Callable[[F], F]:
        """Return a decorator that adds a command, with the options that its parameters take from the model."""
        add = super().command(name, cls=PanelCommand, **more)

        def decorate(function: F) -> F:
            add(function if isinstance(function, FromModel) else FromModel(function))
            return function

        return decorate

    @property
    def summary(self) -> str:
        """The first paragraph of the group's help, or of the only command's, known before the command is built."""
        text = self.info.help if isinstance(self.info.help, str) else self.registered_commands[0].callback.__doc__
        return first_paragraph(text)


def first_paragraph(text: str | None) -> str:
    """Return the first paragraph of a help text on one line."""
    return " ".join(str(text).partition("\n\n")[0].split())


def option_text(option: Any) -> str:
    """Return an option's help with its default, unless the text says it; not Typer's, which adds limits in code."""
    text = str(option.help or "")
    if option.required:
        return f"{text} Required."
    shown = option.default is None or option.is_flag or option.multiple or "Default: " in text
    return text if shown else f"{text} Default: {getattr(option.default, 'value', option.default)}."


def _help_of(argument: Any) -> str:
    return str(getattr(argument, "help", None) or "")


def argument_name(argument: Any) -> str:
    """Return an argument as usage shows it, such as `FUNCTIONS...`."""
    return f"{argument.metavar or argument.name.upper()}{'...' if argument.nargs == -1 else ''}"
