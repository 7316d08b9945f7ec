"""A picture as data: panels of marks in a run's own units, with a caption that describes it in words.

`charts.plotly` draws it on the page and `charts.matplotlib` for papers, so both show the same. Arrays are float64 [n];
NaN is a gap. Colours are indices into a palette, so that each renderer has one that suits its background.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Dash = Literal["solid", "dash", "dot"]
Symbol = Literal["circle", "square", "diamond", "triangle-down", "triangle-left", "triangle-right", "x", "star"]

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's colours, which are distinct for every kind of colour vision; -1 is the renderer's grey."""

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
    hover: bool = True  # responds to the pointer; False for a line through points that do


@dataclass(frozen=True, eq=False)
class Points:
    """Single points. `functions` are their names, which the page shows with all metrics of the function.

    With `values`, the colour is that of the value on a scale, which is drawn next to the panel if `scale` names it. The
    brightest colour is the highest value; with `less_is_better`, the lowest one.
    """

    name: str
    x: Floats
    y: Floats
    functions: tuple[str, ...] = ()
    colour: int = 0
    values: Floats | None = None
    scale: str = ""
    less_is_better: bool = False
    symbol: Symbol = "circle"
    size: float = 7.0
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
    """A mean with its interval for each row, named on the vertical axis; NaN ends are left out. The page shows the
    texts on hover: the whole names of rows that have short ones."""

    name: str
    rows: tuple[str, ...]
    texts: tuple[str, ...]
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
    """Time spans in rows: from `start` to `end`, with a text and a colour for each."""

    name: str
    rows: tuple[str, ...]
    start: Floats
    end: Floats
    texts: tuple[str, ...]
    colours: tuple[int, ...]


def row_names(mark: Intervals | Bars | Spans) -> tuple[str, ...]:
    """Return the names on the vertical axis, from below: row i, and everything that belongs to it, is drawn at height
    i."""
    return tuple(sorted(set(mark.rows))) if isinstance(mark, Spans) else mark.rows


Mark = Line | Points | Band | Intervals | Bars | Spans


def width_of(marks: Sequence[Mark]) -> float:
    """Return the length of the horizontal axis that lines, points, bands and bars need."""
    values = [np.append(mark.values, 0.0) for mark in marks if isinstance(mark, Bars)]
    values += [mark.x for mark in marks if isinstance(mark, Line | Points | Band)]
    known = np.concatenate([np.zeros(0), *values])
    return float(np.ptp(known[np.isfinite(known)])) if np.isfinite(known).any() else 0.0


@dataclass(frozen=True)
class Axis:
    """A title with its unit, and the initial range; None fits the data. An axis of counts is `whole`: half an epoch is
    no tick. `labels` are the only ticks, by their places.
    """

    title: str = ""
    range: tuple[float, float] | None = None
    ticks: bool = True
    whole: bool = False
    labels: Mapping[float, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Panel:
    """One pair of axes. The title may have several lines."""

    marks: tuple[Mark, ...]
    x: Axis = field(default_factory=Axis)
    y: Axis = field(default_factory=Axis)
    title: str = ""
    legend: bool = True
    equal: bool = False  # one unit of x is as long as one of y


@dataclass(frozen=True)
class Chart:
    """A picture. `words` describe it, with its numbers, for people who cannot see it.

    The page offers a logarithmic vertical axis if all values are positive.
    """

    kind: str
    title: str
    words: str
    panels: tuple[Panel, ...]
    height: int = 360
    metric_is_vertical: bool = False

    @property
    def may_be_logarithmic(self) -> bool:
        """Return whether the vertical axis can be logarithmic."""
        heights = [mark.y for panel in self.panels for mark in panel.marks if isinstance(mark, Line | Points)]
        known = np.concatenate([np.zeros(0), *heights])
        return self.metric_is_vertical and bool((known[~np.isnan(known)] > 0).all())
