"""The page of built-in tasks names every task, and its recipes are those of the code, tuned as it says."""

from __future__ import annotations

import re

import numpy as np
import pytest
import recipes
from pages import ROOT

from aquasurf_ray.tasks import load_task
from aquasurf_ray.tasks.registry import BUILT_IN

PAGE = (ROOT / "docs/tasks.md").read_text(encoding="utf-8")
KEPT = ROOT / "benchmarks/results/2-core-x86_64-vm/recipes.json"


def rows(header: str) -> dict[str, list[str]]:
    """The cells of the table that begins with this header, by the task in the first one."""
    lines = PAGE[PAGE.index(header) :].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first.strip("`"): others for first, *others in cells}


TUNED = rows("| task | tuned learning rate")


def test_every_built_in_task_is_on_the_page():
    assert set(BUILT_IN) <= set(re.findall(r"`([a-z0-9/-]+)`", PAGE))


@pytest.mark.parametrize("name", rows("| task | network | data"))
def test_the_epochs_are_those_of_the_task(name):
    assert rows("| task | network | data")[name][-1] == f"{load_task(name).recipe.epochs} epochs"


@pytest.mark.parametrize("name", TUNED)
def test_a_recipe_is_the_one_that_its_grid_recommends(name):
    rate, epochs, rates_tried, epochs_tried = TUNED[name]
    recipe = load_task(name).recipe
    assert (f"{recipe.learning_rate:g}", str(recipe.epochs)) == (rate, epochs)
    grid = recipes.GRID[name]
    assert [rates_tried, epochs_tried] == [", ".join(f"{value:g}" for value in values) for values in grid]
    points = [point for point in recipes.read(KEPT) if point["task"] == name]
    assert {(point["learning_rate"], point["epochs"]) for point in points} == {(r, e) for r in grid[0] for e in grid[1]}
    (chosen,) = recipes.recommended(points)
    assert (recipe.learning_rate, recipe.epochs) in [(p["learning_rate"], p["epochs"]) for p in chosen["recommended"]]


def test_all_tuned_tasks_are_on_the_page():
    assert set(TUNED) == set(recipes.GRID)


def test_a_rate_other_than_the_best_one_is_on_the_page_with_both_scores():
    for name in TUNED:
        points = [point for point in recipes.read(KEPT) if point["task"] == name]
        (chosen,) = recipes.recommended(points)
        rate = load_task(name).recipe.learning_rate
        best, own = chosen["recommended"][0], next(p for p in chosen["recommended"] if p["learning_rate"] == rate)
        if own is not best:
            high, low = (f"{np.mean(point['scores']):.3f}" for point in (best, own))
            said = f"On `{name}`, {best['learning_rate']:g} is level with {rate:g} ({high} and {low})"
            assert said in " ".join(PAGE.split())
