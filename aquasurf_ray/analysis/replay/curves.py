"""Best-so-far curves of a comparison: the median of each policy's runs, with a band from quartile to quartile.

Colours are those of Okabe and Ito, which are distinct for every kind of colour vision; the dashes change with each
round of colours.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aquasurf_ray.analysis.output_file import new_figure, write_picture
from aquasurf_ray.analysis.replay.comparison import Comparison, quantiles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
DASHES = ("-", "--", ":", "-.")
GOALS = {"top_1": "top 1%", "top_01": "top 0.1%"}


def draw(comparison: Comparison, path: Path, *, metric: str, title: str, higher_is_better: bool = True) -> None:
    """Write a picture in the format of the file's suffix, one of `output_file.PICTURES`.

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
    figure = new_figure(figsize=(8, 5), dpi=150)
    axes = figure.subplots()
    draw_curves(axes, comparison, 1.0 if higher_is_better else -1.0)
    axes.set(xlabel="evaluations after the baselines", ylabel=f"best {metric} so far", title=title)
    write_picture(figure, path)


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
        # The first tenth of a search may begin far below: the axis leaves it out, so that the rest is not squeezed.
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
