"""Best-so-far curves of a comparison: the median of each policy's runs, with a band from quartile to quartile.

Colours are those of Okabe and Ito, which are distinct for every kind of colour vision; the dashes change with each
round of colours. matplotlib is imported when a picture is drawn, and needs no display.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.output_file import check_place, write_file
from aquasurf_ray.analysis.replay.comparison import Comparison, quantiles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
DASHES = ("-", "--", ":", "-.")
FORMATS = (".png", ".svg", ".pdf")
GOALS = {"top_1": "top 1%", "top_01": "top 0.1%"}


def check_format(path: Path) -> None:
    """Check, before anything is computed for a picture, that it can be drawn into this file.

    Raises:
        AnalysisError: matplotlib is not installed or does not know the format, or the file cannot be written.
    """
    _new_figure()
    if path.suffix not in FORMATS:
        raise AnalysisError(f"picture '{path}' must end in one of {', '.join(FORMATS)}")
    check_place(path)


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the file's suffix, whole or not at all.

    Raises:
        AnalysisError: the file cannot be written.
    """
    drawn = BytesIO()
    figure.savefig(drawn, format=path.suffix.removeprefix("."))
    write_file(path, drawn.getvalue())


def draw(comparison: Comparison, path: Path, *, metric: str, title: str, higher_is_better: bool = True) -> None:
    """Write a picture in the format of the file's suffix, one of `FORMATS`.

    Args:
        comparison: the comparison to draw.
        path: the path of the file.
        metric: the name of the score, for the axis.
        title: the title above the picture.
        higher_is_better: whether higher values of the metric are better; if not, the curves have the metric's own sign,
            the opposite of the score's.

    Raises:
        AnalysisError: matplotlib is not installed, or the file cannot be written.
    """
    figure = _new_figure()
    axes = figure.subplots()
    draw_curves(axes, comparison, 1.0 if higher_is_better else -1.0)
    axes.set(xlabel="evaluations after the baselines", ylabel=f"best {metric} so far", title=title)
    save(figure, path)


def _new_figure() -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise AnalysisError("a picture needs matplotlib: pip install 'aquasurf-ray[replay]'") from None
    return Figure(figsize=(8, 5), dpi=150, layout="constrained")


def draw_curves(axes: Axes, comparison: Comparison, sign: float = 1.0) -> None:
    """Draw curves, bands and goals on axes; scores are multiplied by `sign`."""
    from matplotlib.ticker import MaxNLocator

    number = np.arange(1, comparison.evaluations + 1)
    lowest = np.inf
    for i, (policy, measures) in enumerate(comparison.measures.items()):
        q25, median, q75 = quantiles(measures.best_so_far.T, [0.25, 0.5, 0.75])
        colour, dashes = COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % len(DASHES)]
        axes.fill_between(number, sign * q25, sign * q75, step="post", color=colour, alpha=0.15, linewidth=0)
        axes.step(number, sign * median, dashes, where="post", color=colour, label=policy)
        lowest = min(lowest, q25[len(q25) // 10])
    for name, score in comparison.goals.top.items():
        axes.axhline(sign * score, color="0.6", linewidth=0.8, zorder=0)
        axes.annotate(GOALS[name], (1, sign * score), xycoords=("axes fraction", "data"), fontsize=8, color="0.4")
    margin = 0.05 * (comparison.goals.best - lowest) or 0.01
    limits = sorted((sign * (lowest - margin), sign * (comparison.goals.best + margin)))
    axes.set_ylim(*limits)
    axes.set_xlim(1, max(2, comparison.evaluations))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right" if sign > 0 else "upper right", fontsize=8)
