"""Changes of a recipe: one text for each, and what they make of a recipe."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aquasurf_ray.recipe_change import RecipeChange, applied, changes_of
from aquasurf_ray.tasks import TaskError
from aquasurf_ray.tasks.recipe import Recipe

RECIPE = Recipe(learning_rate=0.01, weight_decay=5e-4)


@given(st.sampled_from(["learning_rate", "weight_decay", "clip_norm"]), st.floats(1e-9, 1e9))
def test_a_text_gives_the_same_change_back(field, value):
    change = RecipeChange(field, value)
    assert RecipeChange.parse(str(change)) == change


def test_equal_changes_have_one_text_and_none_is_empty():
    assert changes_of("learning_rate", [0.5, 1, 2.0, 2], RECIPE) == ("learning_rate*0.5", "", "learning_rate*2")
    assert changes_of("weight_decay", [0, 5e-4, 1e-3], RECIPE) == ("weight_decay=0", "", "weight_decay=0.001")
    assert RecipeChange.parse("") is None
    assert applied("", RECIPE) is RECIPE


def test_a_change_changes_one_field():
    assert applied("learning_rate*2", RECIPE) == replace(RECIPE, learning_rate=0.02)
    assert applied("weight_decay=0.1", RECIPE) == replace(RECIPE, weight_decay=0.1)
    assert applied("clip_norm=1", RECIPE) == replace(RECIPE, clip_norm=1.0)
    assert applied("batch_size=64", RECIPE) == replace(RECIPE, batch_size=64)
    assert isinstance(applied("batch_size=64", RECIPE).batch_size, int)


@pytest.mark.parametrize(
    ("field", "value", "error", "text"),
    [
        ("optimizer", 1, ValueError, "'optimizer' is not a numeric field of the recipe; these are: epochs, batch_size"),
        ("deterministic", 1, ValueError, "not a numeric field"),
        ("batch_size", 1.5, ValueError, "batch_size must be a whole number, got 1.5"),
        ("learning_rate", float("inf"), ValueError, "must be finite"),
        ("learning_rate", -1, TaskError, "learning_rate must be positive"),
        ("momentum", 1, TaskError, "momentum must be in"),
    ],
)
def test_what_the_recipe_refuses_is_refused(field, value, error, text):
    with pytest.raises(error, match=text):
        changes_of(field, [value], RECIPE)


@pytest.mark.parametrize("text", ["learning_rate=0.1", "weight_decay*2", "learning_rate*", "x", "a=b=c"])
def test_a_text_that_is_no_change_is_refused(text):
    with pytest.raises(ValueError, match=r"learning_rate|could not convert"):
        RecipeChange.parse(text)
