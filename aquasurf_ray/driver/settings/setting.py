"""The declaration of a setting: its panel in help, its default in words, and the types of its values.

`driver.settings.models` declares all settings with `setting`; the command line makes options of them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from aquasurf_ray.driver.settings.duration import parse_duration

DURATION = "DURATION"
"""The metavar of times, which may be text such as 2h30m."""


AUTO = "auto"
AUTO_RATES = (0.5, 1.0, 2.0)
"""The factors on the learning rate for `auto`."""


class Panel(StrEnum):
    """The sections of a command's help that settings are listed in, in their order."""

    RUN = "Run"
    STOP = "Stop conditions"
    CANDIDATES = "Candidates"
    SURROGATE = "Surrogate"
    TRAINING = "Training"
    WORKERS = "Workers and cluster"
    STORAGE = "Storage and logs"


def setting(
    default: Any,
    panel: Panel,
    description: str,
    *,
    otherwise: str | None = None,
    metavar: str | None = None,
    earlier: Any = ...,
    **limits: Any,
) -> Any:
    """Return the field for one setting.

    Args:
        default: `...` for a setting that must be given.
        description: a full phrase. Help adds the default, unless it is None.
        otherwise: the default in words, where None stands for one that depends on something else.
        metavar: the kind of value as help shows it; by default N, NUMBER or TEXT, or the choices.
        earlier: for a setting of the identity that the first version did not have: the value that its runs count as
            having, which is not always the default. At this value the setting is not part of the identity, so that such
            a run can still be resumed under its name.
        **limits: constraints, as `pydantic.Field` takes them.
    """
    shown = {"panel": panel, "metavar": metavar, "otherwise": otherwise} | (
        {} if earlier is ... else {"earlier": earlier}
    )
    return Field(default, description=description, json_schema_extra=shown, **limits)


def _seconds(value: Any) -> Any:
    """Return seconds. A number, as from Python, YAML or the store, already is; text is a number or a time: 2h30m."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    try:
        return float(str(value))
    except ValueError:
        return parse_duration(str(value))


def _switch(value: Any) -> Any:
    """Return on or off where YAML has read them, without quotes, as truth values."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


def parse_numbers(value: Any) -> Any:
    """Return the parts of texts such as "0.5,1,2" as numbers; a flag that may be repeated gives a list of texts."""
    given = [value] if isinstance(value, str | int | float) else list(value)
    if given == [AUTO]:
        return AUTO_RATES
    try:
        return [float(part) for each in given for part in str(each).split(",")]
    except ValueError:
        raise ValueError("must be numbers, such as 0.5,1,2") from None


Numbers = Annotated[tuple[float, ...], BeforeValidator(parse_numbers)]
Seconds = Annotated[float, BeforeValidator(_seconds)]
OnOff = Annotated[Literal["on", "off"], BeforeValidator(_switch)]
EarlyStop = Annotated[Literal["off", "median", "curves"], BeforeValidator(_switch)]
