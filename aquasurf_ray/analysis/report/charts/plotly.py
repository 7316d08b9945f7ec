"""A chart as Plotly's JSON, one figure a panel. The page's script adds the colours of the theme (light or dark).

Greys are written as the marker `GROUND`, which the script replaces. Arrays go as base64 of float32, as Plotly reads
them: a third of the size of numbers in JSON, and exact enough for a screen.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping
from functools import singledispatch
from typing import Any

import numpy as np

from aquasurf_ray.analysis.report.charts.chart import (
    GREY,
    PALETTE,
    Axis,
    Band,
    Bars,
    Chart,
    Floats,
    Intervals,
    Line,
    Panel,
    Points,
    Spans,
    row_names,
    width_of,
)

GROUND = "ground-grey"
_BAND = "ground-band"
LONGEST_ROW = 30  # characters of a line that leave room for the picture on a phone
LONGEST_TITLE = 40
LEGEND_LINE = 19  # pixels
_LARGEST = float(np.finfo(np.float32).max)
MOST_UNIT_TICKS = 10  # on a phone more would touch
Json = dict[str, Any]


def figures(chart: Chart, numbers: Mapping[str, int]) -> list[Json]:
    """Return one Plotly figure a panel; `numbers` are the rows of the functions in the page's table, used on hover."""
    return [_figure(panel, chart.height, numbers) for panel in chart.panels]


def _figure(panel: Panel, height: int, numbers: Mapping[str, int]) -> Json:
    data = [trace for mark in panel.marks for trace in _traces(mark, numbers)]
    in_legend = [trace for trace in data if trace.get("showlegend", True)] if panel.legend else []
    layout: Json = {
        "height": height,
        "margin": {"l": 60, "r": 15, "t": 20, "b": 48},
        "showlegend": bool(in_legend),
        "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
        "xaxis": _axis(panel.x) | _whole_ticks(panel),
        "yaxis": _axis(panel.y),
        "hovermode": "closest",
        "barmode": "overlay",
        "uirevision": "kept",  # one value for ever: a live page keeps the reader's zoom when it redraws
    }
    rows = next((row_names(mark) for mark in panel.marks if isinstance(mark, (Intervals, Bars, Spans))), ())
    if rows:
        names = [_wrapped(row, LONGEST_ROW) for row in rows]
        layout["yaxis"] |= {"tickmode": "array", "tickvals": list(range(len(rows))), "ticktext": names}
        layout["margin"]["l"] = 10
    if panel.title:
        lines = [_wrapped(line, LONGEST_TITLE) for line in panel.title.split("\n")]
        text = "<br>".join(lines)
        layout["title"] = {"text": text, "font": {"size": 13}, "x": 0.02, "xanchor": "left"}
        layout["margin"]["t"] = 29 + 17 * (1 + text.count("<br>"))
        # Below the axis, in height of its own: the panels beside this one have no legend, and their axes are as high.
        layout["legend"] = {"x": 0, "y": 0, "yref": "container", "yanchor": "bottom"}
        legend_height = LEGEND_LINE * len(in_legend)
        layout["height"] += legend_height
        layout["margin"]["b"] += legend_height
    if panel.equal:
        layout["yaxis"]["scaleanchor"] = "x"
    return {"data": data, "layout": layout}


def _axis(axis: Axis) -> Json:
    made: Json = {"title": {"text": axis.title}, "zeroline": False, "automargin": True}
    if axis.range is not None:
        made["range"] = list(axis.range)
    if axis.labels:
        made |= {"tickmode": "array", "tickvals": list(axis.labels), "ticktext": list(axis.labels.values())}
    return made | ({} if axis.ticks else {"showticklabels": False, "ticks": "", "showgrid": False})


def _whole_ticks(panel: Panel) -> Json:
    """Return the ticks of a short axis of counts; on a long one, Plotly's own are whole numbers."""
    width = width_of(panel.marks) if panel.x.range is None else panel.x.range[1] - panel.x.range[0]
    return {"dtick": 1, "tick0": 0} if panel.x.whole and width <= MOST_UNIT_TICKS else {}


def _wrapped(text: str, longest: int) -> str:
    """Return a text in lines, each broken after a space or a comma.

    >>> _wrapped("sub(hard_sigmoid(x),erfc(x)) (baseline)", 30)
    'sub(hard_sigmoid(x),erfc(x)) <br>(baseline)'
    """
    broken = text if len(text) <= longest else re.sub(rf"(.{{8,{longest - 1}}}[ ,])(?=\S)", r"\1\n", text)
    return "<br>".join(html.escape(line, quote=False) for line in broken.split("\n"))


def _colour(number: int) -> str:
    return GROUND if number == GREY else PALETTE[number % len(PALETTE)]


def _array(values: Floats) -> Json:
    single = np.clip(values, -_LARGEST, _LARGEST).astype("<f4")
    return {"dtype": "f4", "bdata": base64.b64encode(np.ascontiguousarray(single).tobytes()).decode()}


@singledispatch
def _traces(mark: Any, numbers: Mapping[str, int]) -> list[Json]:
    raise TypeError(f"a {type(mark).__name__} cannot be drawn")


@_traces.register(Line)
def _line(mark: Line, numbers: Mapping[str, int]) -> list[Json]:
    line: Json = {"color": _colour(mark.colour), "dash": mark.dash, "width": mark.width}
    line["shape"] = "hv" if mark.step else "linear"
    trace: Json = {"type": "scatter", "mode": "lines", "name": mark.name, "line": line, "showlegend": mark.shown}
    trace |= {"opacity": mark.opacity}
    return [trace | {"x": _array(mark.x), "y": _array(mark.y), "hoverinfo": "x+y+name" if mark.hover else "skip"}]


@_traces.register(Points)
def _points(mark: Points, numbers: Mapping[str, int]) -> list[Json]:
    marker: Json = {"size": mark.size, "symbol": mark.symbol, "color": _colour(mark.colour)}
    if mark.values is not None:
        bar = {"title": {"text": mark.scale, "side": "right"}, "thickness": 10, "outlinewidth": 0}
        marker |= {"color": _array(mark.values), "colorscale": "Viridis", "reversescale": mark.less_is_better}
        # An outline, because the darkest and the brightest colours are close to that of a background.
        marker |= {"line": {"width": 1, "color": GROUND}}
        marker |= {"showscale": bool(mark.scale), "colorbar": bar}
    trace: Json = {"type": "scatter", "mode": "markers", "name": mark.name, "marker": marker, "showlegend": mark.shown}
    trace |= {"x": _array(mark.x), "y": _array(mark.y)}
    if mark.functions:
        # The script shows the function's row of the table in place of Plotly's own label.
        trace |= {"customdata": [numbers[name] for name in mark.functions], "hoverinfo": "none"}
    return [trace]


@_traces.register(Band)
def _band(mark: Band, numbers: Mapping[str, int]) -> list[Json]:
    low: Json = {"type": "scatter", "mode": "lines", "x": _array(mark.x), "y": _array(mark.low), "line": {"width": 0}}
    low |= {"showlegend": False, "hoverinfo": "skip"}
    fill = _BAND if mark.colour == GREY else f"{PALETTE[mark.colour % len(PALETTE)]}33"  # 20% opaque
    high = low | {"y": _array(mark.high), "fill": "tonexty", "fillcolor": fill, "name": mark.name}
    return [low, high | {"showlegend": mark.shown}]


@_traces.register(Intervals)
def _intervals(mark: Intervals, numbers: Mapping[str, int]) -> list[Json]:
    known = np.nan_to_num(np.stack([mark.high - mark.mean, mark.mean - mark.low]))
    bars: Json = {"type": "data", "symmetric": False, "array": known[0].tolist(), "arrayminus": known[1].tolist()}
    trace: Json = {"type": "scatter", "mode": "markers", "name": mark.name, "x": mark.mean.tolist(), "error_x": bars}
    trace |= {"text": [_wrapped(text, LONGEST_TITLE) for text in mark.texts], "hoverinfo": "x+text"}
    return [trace | {"y": list(range(len(mark.rows))), "marker": {"size": 9, "color": _colour(mark.colour)}}]


@_traces.register(Bars)
def _bars(mark: Bars, numbers: Mapping[str, int]) -> list[Json]:
    trace: Json = {"type": "bar", "orientation": "h", "name": mark.name, "x": mark.values.tolist()}
    trace |= {"text": list(mark.rows), "hoverinfo": "x+text", "textposition": "none"}
    return [trace | {"y": list(range(len(mark.rows))), "marker": {"color": _colour(mark.colour)}}]


@_traces.register(Spans)
def _spans(mark: Spans, numbers: Mapping[str, int]) -> list[Json]:
    trace: Json = {"type": "bar", "orientation": "h", "name": mark.name, "base": mark.start.tolist()}
    at = {row: i for i, row in enumerate(row_names(mark))}
    trace |= {"x": (mark.end - mark.start).tolist(), "y": [at[row] for row in mark.rows]}
    trace |= {"hovertext": list(mark.texts)}
    line = {"width": 1, "color": GROUND}
    return [trace | {"hoverinfo": "text", "marker": {"color": [_colour(each) for each in mark.colours], "line": line}}]
