"""Draws the README's picture from the store of a finished run: python docs/pictures/draw.py NAME OUTPUT.png [STORE]."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from store import EmbeddingRecord, RunEvaluation, Store

WORST_SHOWN = 0.80


def main(name: str, output: Path, url: str) -> None:
    with Store.open(url, create=False) as store:
        run = store.run(name)
        wishes = store.snapshot(run.id).evaluations
        versions = [wish.suggestion.embedding_version for wish in wishes if wish.suggestion]
        embedding = store.embedding(versions[-1])
    plt.rcParams["axes.spines.right"] = plt.rcParams["axes.spines.top"] = False
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), dpi=150)
    draw_search(left, wishes)
    draw_map(right, wishes, embedding)
    figure.tight_layout()
    figure.savefig(output)


def draw_search(axes: Axes, wishes: tuple[RunEvaluation, ...]) -> None:
    scores = np.array([np.nan if w.evaluation.score is None else w.evaluation.score for w in wishes])
    baseline = np.array([w.origin == "baseline" for w in wishes])
    number = np.arange(1, len(wishes) + 1)
    shown = np.maximum(scores, WORST_SHOWN)
    axes.plot(number[baseline], shown[baseline], "s", color="0.45", label="baselines")
    axes.plot(number[~baseline], shown[~baseline], "o", color="#0072b2", label="suggestions")
    axes.step(number, np.fmax.accumulate(scores), where="post", color="#d55e00", label="best so far")
    axes.set(xlabel="evaluation", ylabel=f"validation accuracy (below {WORST_SHOWN:.2f}: at the edge)")
    axes.set_ylim(WORST_SHOWN - 0.005, 1.0)
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0.25, 0.2))


def draw_map(axes: Axes, wishes: tuple[RunEvaluation, ...], embedding: EmbeddingRecord) -> None:
    place = {int(number): xy for number, xy in zip(embedding.function_ids, embedding.coordinates, strict=True)}
    axes.plot(*embedding.coordinates.T, ".", color="0.8", markersize=4, zorder=0)
    trained = [w for w in wishes if w.evaluation.score is not None and w.evaluation.function_id in place]
    xy = np.array([place[w.evaluation.function_id] for w in trained])
    colours = [max(w.evaluation.score, WORST_SHOWN) for w in trained]
    drawn = axes.scatter(*xy.T, c=colours, cmap="viridis", s=28, edgecolor="white", linewidth=0.5)
    axes.figure.colorbar(drawn, ax=axes, label="validation accuracy")
    for wish, point in zip(trained, xy, strict=True):
        if wish.origin == "baseline":
            axes.annotate(wish.function[:-3], point, fontsize=7, xytext=(3, 3), textcoords="offset points")
    axes.set(xticks=[], yticks=[], xlabel="candidates, by outputs and spectrum (UMAP)")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "sqlite:///aquasurf.db")
