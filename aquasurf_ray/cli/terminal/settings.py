"""Options that are made from the configuration's model, so that a new setting is one line of the model.

Pydantic takes as long to load as everything else that `aquasurf --help` needs, so a command's options are made when
Typer asks for its signature, and Typer asks only for the command that is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, update_wrapper
from inspect import Parameter, Signature, signature
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer

FROM_MODEL = "the option of the model's setting with this parameter's name"
METAVARS = {int: "N", float: "NUMBER", str: "TEXT", bool: "BOOLEAN"}
REQUIRED_SOMEWHERE = "Required, here or in the file of --config."
"""A setting without a default is not a required option of Typer's, since a configuration file may give it as well."""
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="YAML file with these options; flags take precedence over it."),
]


def with_settings(
    model: str, *more: str, without: tuple[str, ...] = (), argument: str | None = None, defaults: bool = True
) -> Callable[[Callable[..., None]], FromModel]:
    """Return a decorator that gives a command the settings of a model as options, and `--config`.

    The command gets the settings that were given as a dictionary, its parameter `settings`. A parameter of its own
    replaces the setting of the same name, which a configuration file may then give too.

    Args:
        model: a class of `driver.settings.models`, by name.
        more: further settings.
        without: settings of the model that the command does not take.
        argument: a setting that is the command's argument instead of an option.
        defaults: whether help shows default values. A command that continues a run has none: a setting that is not
            given keeps the run's value.
    """

    def names() -> list[str]:
        from aquasurf_ray.driver.settings import models
        from aquasurf_ray.driver.settings.setting import Panel

        order = models.HELP_ORDER.index
        taken = [name for name in (*getattr(models, model).model_fields, *more) if name not in without]
        return sorted(taken, key=lambda name: (list(Panel).index(models.shown(name)["panel"]), order(name)))

    return lambda command: FromModel(command, names, argument, defaults)


class FromModel:
    """A command with options from the model: parameters annotated `FROM_MODEL`, and the settings called `names`."""

    def __init__(
        self,
        command: Callable[..., None],
        names: Callable[[], list[str]] | None = None,
        argument: str | None = None,
        defaults: bool = True,
    ) -> None:
        update_wrapper(self, command)
        self._command, self._names, self._argument, self._defaults = command, names, argument, defaults

    def __call__(self, **given: Any) -> None:
        if self._names is not None:
            given = self._with_settings(**given)
        self._command(**given)

    @property
    def __signature__(self) -> Signature:
        """The parameters that Typer makes options of; keyword-only, since their order is that of help."""
        parameters = list(self._declared.values())
        if self._names is not None:
            parameters += [
                Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=self._annotation(name))
                for name in self._names()
                if name not in self._declared
            ]
            parameters.append(Parameter("config", Parameter.KEYWORD_ONLY, default=None, annotation=ConfigFile))
        return Signature(parameters)

    @cached_property
    def _declared(self) -> Mapping[str, Parameter]:
        parameters = {}
        # The command's annotations are texts, because its file has `from __future__ import annotations`.
        for name, parameter in signature(self._command, eval_str=True).parameters.items():
            if FROM_MODEL in getattr(parameter.annotation, "__metadata__", ()):
                parameter = parameter.replace(annotation=_option(name))
            if name != "settings":
                parameters[name] = parameter.replace(kind=Parameter.KEYWORD_ONLY)
        return parameters

    def _annotation(self, name: str) -> Any:
        from aquasurf_ray.driver.settings.models import shown

        if name == self._argument:
            return _argument(name)
        return _option(name, panel=str(shown(name)["panel"]), defaults=self._defaults)

    def _with_settings(self, config: Path | None = None, **given: Any) -> dict[str, Any]:
        from aquasurf_ray.driver.settings.models import SearchConfig
        from aquasurf_ray.driver.settings.reading import read_config_file

        parameters = {name: given.pop(name) for name in self._declared}
        # an option that may be repeated and was not given is an empty list
        flags = {name: value for name, value in given.items() if value is not None and value != []}
        settings = (read_config_file(config) if config else {}) | flags
        for name in parameters.keys() & SearchConfig.model_fields.keys() & settings.keys():
            in_file = settings.pop(name)
            parameters[name] = in_file if parameters[name] is None else parameters[name]
        return {**parameters, "settings": settings}


def _option(name: str, panel: str | None = None, *, defaults: bool = True) -> Any:
    # The store is where the run is found, not one of its values.
    kind, about = _shown(name, with_default=defaults or name == "store")
    return Annotated[kind | None, typer.Option(f"--{name.replace('_', '-')}", rich_help_panel=panel, **about)]


def _argument(name: str) -> Any:
    kind, about = _shown(name)
    return Annotated[kind | None, typer.Argument(**about)]


def _shown(name: str, with_default: bool = True) -> tuple[Any, dict[str, Any]]:
    """Return the type that Typer reads a setting's value as, and what help shows of the setting."""
    from aquasurf_ray.driver.settings.models import SearchConfig, shown
    from aquasurf_ray.driver.settings.setting import DURATION

    field, text = SearchConfig.model_fields[name], shown(name)
    kind, metavar = _kind(field.annotation)
    metavar = text["metavar"] or metavar
    default = text["otherwise"] or _default_text(field.default, "s" if metavar == DURATION else "")
    parts = [
        field.description or "",
        f"Default: {default}." if with_default and default and not field.is_required() else "",
        REQUIRED_SOMEWHERE if field.is_required() else "",
    ]
    return str if metavar == DURATION else kind, {"help": " ".join(filter(None, parts)), "metavar": metavar}


def _default_text(value: Any, unit: str) -> str:
    if value in (None, ()):
        return ""
    return f"{value:g}{unit}" if isinstance(value, float) else f"{value}{unit}"


def _kind(annotation: Any) -> tuple[Any, str]:
    """Return the type that Typer reads a value as, and its metavar.

    Choices are read as text: the model refuses all others, from a configuration file as from a flag, and names the
    setting.
    """
    origin = get_origin(annotation)
    if origin in (Union, UnionType, Annotated):  # a type or None, a type with a validator
        return _kind(get_args(annotation)[0])
    if origin is Literal:
        return str, "|".join(get_args(annotation))
    if origin in (tuple, list):
        return list[str], "TEXT"
    if annotation not in METAVARS:
        raise TypeError(
            f"no option can be made of a setting of type {annotation}; use one of {', '.join(map(str, METAVARS))}"
        )
    return annotation, METAVARS[annotation]
