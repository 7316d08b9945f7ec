"""A picture as data: panels of marks in a run's own units, with the words that stand in for it.

What draws it is elsewhere (`plotly_chart` for the page, `matplotlib_chart` for papers), so both show the same. Arrays
are float64 [n]; NaN is a gap. Colours are numbers into a palette, so that each drawer has one that suits its ground.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Dash = Literal["solid", "dash", "dot"]
Symbol = Literal["circle", "square", "diamond", "triangle-down", "x"]

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's colours, which people tell apart with any colour vision; -1 is the drawer's grey."""

GREY = -1


@dataclass(frozen=True, eq=False)
class Line:
    """A line through points; `step` keeps each value until the next x."""

    name: str
    x: Floats
    y: Floats
    colour: int = 0
    dash: Dash = "solid"
    step: bool = False
    width: float = 2.0
    opacity: float = 1.0
    shown: bool = True  # in the legend
    hover: bool = True  # answers the pointer; a line through points that do should not


@dataclass(frozen=True, eq=False)
class Points:
    """Single points. `functions` are their names, which the page shows with all that is known of them.

    With `values` the colour is that of the value on a scale, which is drawn beside the panel if `scale` names it.
    """

    name: str
    x: Floats
    y: Floats
    functions: tuple[str, ...] = ()
    colour: int = 0
    values: Floats | None = None
    scale: str = ""
    symbol: Symbol = "circle"
    size: float = 7.0
    labels: tuple[str, ...] = ()  # written beside the points
    shown: bool = True


@dataclass(frozen=True, eq=False)
class Band:
    """The area between two curves."""

    name: str
    x: Floats
    low: Floats
    high: Floats
    colour: int = GREY
    shown: bool = True


@dataclass(frozen=True, eq=False)
class Intervals:
    """A mean with its interval for each row, named on the vertical axis; NaN ends are left out."""

    name: str
    rows: tuple[str, ...]
    mean: Floats
    low: Floats
    high: Floats
    colour: int = 0


@dataclass(frozen=True, eq=False)
class Bars:
    """A horizontal bar for each row."""

    name: str
    rows: tuple[str, ...]
    values: Floats
    colour: int = 0


@dataclass(frozen=True, eq=False)
class Spans:
    """Stretches of time in rows: from `start` to `end`, with a text for each."""

    name: str
    rows: tuple[str, ...]
    start: Floats
    end: Floats
    texts: tuple[str, ...]
    colour: int = 0


def row_names(mark: Intervals | Bars | Spans) -> tuple[str, ...]:
    """The names on the vertical axis, from below: row i is drawn at the height i, and so is what stands beside it."""
    return tuple(sorted(set(mark.rows))) if isinstance(mark, Spans) else mark.rows


Mark = Line | Points | Band | Intervals | Bars | Spans


@dataclass(frozen=True)
class Axis:
    """A title with its unit, and the range that is shown at first; None fits the data."""

    title: str = ""
    range: tuple[float, float] | None = None
    ticks: bool = True


@dataclass(frozen=True)
class Panel:
    """One pair of axes. The title may have several lines."""

    marks: tuple[Mark, ...]
    x: Axis = field(default_factory=Axis)
    y: Axis = field(default_factory=Axis)
    title: str = ""
    legend: bool = True
    below: bool = False  # the legend, where the marks leave the lower corner free
    equal: bool = False  # one unit of x is as long as one of y


@dataclass(frozen=True)
class Chart:
    """A picture. `words` say what is to be seen, with the figures, to those who do not see it."""

    kind: str
    title: str
    words: str
    panels: tuple[Panel, ...]
    height: int = 360
