"""A chart as a file for a paper, drawn by matplotlib: PNG, SVG or PDF, by the suffix of its name."""

from __future__ import annotations

from functools import singledispatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.output_file import check_picture, new_figure, write_picture
from aquasurf_ray.analysis.report.charts.chart import (
    GREY,
    PALETTE,
    Axis,
    Band,
    Bars,
    Chart,
    Intervals,
    Line,
    Panel,
    Points,
    Spans,
    row_names,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 3
_PIXELS_AN_INCH = 100
_DASHES = {"solid": "-", "dash": "--", "dot": ":"}
_SYMBOLS = {"circle": "o", "square": "s", "diamond": "D", "x": "x", "star": "*"}
_SYMBOLS |= {"triangle-down": "v", "triangle-left": "<", "triangle-right": ">"}
_GREY = "0.6"


def draw(chart: Chart, path: Path) -> None:
    """Write the chart to a file.

    Raises:
        AnalysisError: the chart has no panel, the file's suffix is not one of `output_file.PICTURES`, matplotlib is not
            installed, or the file cannot be written.
    """
    check_picture(path)
    if not chart.panels:
        raise AnalysisError(f"picture '{path}' would be empty: {chart.words}")
    columns = min(_COLUMNS, len(chart.panels))
    rows = -(-len(chart.panels) // columns)
    # A single panel gets the width of a text column; several share a page.
    size = (4.2 * columns if columns > 1 else 7.0, rows * chart.height / _PIXELS_AN_INCH)
    figure = new_figure(figsize=size, dpi=200)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, panel in zip(grid.flat, chart.panels, strict=False):
        _draw_panel(axes, panel)
    # The last row of the grid may have places without a panel.
    for axes in grid.flat[len(chart.panels) :]:
        axes.set_visible(False)
    write_picture(figure, path)


def _draw_panel(axes: Axes, panel: Panel) -> None:
    for number, mark in enumerate(panel.marks):
        _draw(mark, axes, number)
    axes.set_title(panel.title, fontsize=8, loc="left")
    _set_axis(axes, "x", panel.x)
    _set_axis(axes, "y", panel.y)
    axes.spines[["top", "right"]].set_visible(False)
    if panel.equal:
        axes.set_aspect("equal")
    handles, labels = axes.get_legend_handles_labels()
    # A legend with one entry repeats the title.
    if panel.legend and len(labels) > 1:
        axes.legend(handles, labels, frameon=False, fontsize=7)


def _set_axis(axes: Axes, which: Literal["x", "y"], axis: Axis) -> None:
    axes.set(**{f"{which}label": axis.title})
    if axis.range is not None:
        axes.set(**{f"{which}lim": axis.range})
    if axis.whole:
        axes.locator_params(which, integer=True)
    if axis.labels:
        axes.set(**{f"{which}ticks": list(axis.labels), f"{which}ticklabels": list(axis.labels.values())})
    if not axis.ticks:
        axes.set(**{f"{which}ticks": []})


def _colour(number: int) -> str:
    return _GREY if number == GREY else PALETTE[number % len(PALETTE)]


@singledispatch
def _draw(mark: Any, axes: Axes, number: int) -> None:
    raise TypeError(f"a {type(mark).__name__} cannot be drawn")


@_draw.register(Line)
def _line(mark: Line, axes: Axes, number: int) -> None:
    style: dict[str, Any] = {"color": _colour(mark.colour), "linestyle": _DASHES[mark.dash], "zorder": number}
    style |= {"linewidth": 0.7 * mark.width, "drawstyle": "steps-post" if mark.step else "default"}
    style |= {"alpha": mark.opacity}
    axes.plot(mark.x, mark.y, label=mark.name if mark.shown else None, **style)


@_draw.register(Points)
def _points(mark: Points, axes: Axes, number: int) -> None:
    style: dict[str, Any] = {
        "s": mark.size**2 / 2,
        "marker": _SYMBOLS[mark.symbol],
        "linewidths": 0.3,
        "zorder": number,
    }
    style |= {"label": mark.name if mark.shown else None, "edgecolors": None if mark.symbol == "x" else "white"}
    if mark.values is None:
        axes.scatter(mark.x, mark.y, color=_colour(mark.colour), **style)
        return
    drawn = axes.scatter(mark.x, mark.y, c=mark.values, cmap="viridis_r" if mark.less_is_better else "viridis", **style)
    if mark.scale:
        axes.figure.colorbar(drawn, ax=axes, label=mark.scale)


@_draw.register(Band)
def _band(mark: Band, axes: Axes, number: int) -> None:
    style: dict[str, Any] = {"color": _colour(mark.colour), "alpha": 0.3, "linewidth": 0, "zorder": number}
    axes.fill_between(mark.x, mark.low, mark.high, label=mark.name if mark.shown else None, **style)


@_draw.register(Intervals)
def _intervals(mark: Intervals, axes: Axes, number: int) -> None:
    # A function with one seed has a mean without an interval: its bar has no length.
    reach = np.nan_to_num(np.stack([mark.mean - mark.low, mark.high - mark.mean]))
    at = np.arange(len(mark.rows))
    axes.errorbar(mark.mean, at, xerr=reach, fmt="o", color=_colour(mark.colour), label=mark.name, zorder=number)
    axes.set_yticks(at, mark.rows, fontsize=7)


@_draw.register(Bars)
def _bars(mark: Bars, axes: Axes, number: int) -> None:
    at = np.arange(len(mark.rows))
    axes.barh(at, mark.values, color=_colour(mark.colour), label=mark.name)
    axes.set_yticks(at, mark.rows, fontsize=7)


@_draw.register(Spans)
def _spans(mark: Spans, axes: Axes, number: int) -> None:
    names = row_names(mark)
    at = [names.index(row) for row in mark.rows]
    style: dict[str, Any] = {
        "color": [_colour(each) for each in mark.colours],
        "edgecolor": "white",
        "linewidth": 0.3,
    }
    axes.barh(at, mark.end - mark.start, left=mark.start, label=mark.name, **style)
    axes.set_yticks(range(len(names)), names, fontsize=7)
