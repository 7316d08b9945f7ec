"""TPE through Optuna: what it is told, that known functions cost nothing, and what happens without Optuna."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from small_world import UNARY, check_keeps_to_what_is_open, differences, small_world, trajectory, world

from aquasurf_ray.activations import parse
from aquasurf_ray.analysis.errors import AnalysisError
from aquasurf_ray.analysis.replay.evolution import EvolutionPolicy
from aquasurf_ray.analysis.replay.spellings import Spellings
from aquasurf_ray.analysis.replay.tpe import TpePolicy
from aquasurf_ray.surrogate.errors import SurrogateError


@pytest.mark.parametrize("make", [EvolutionPolicy, TpePolicy])
def test_every_open_candidate_is_suggested_once_and_then_nothing(make):
    check_keeps_to_what_is_open(make)


@pytest.mark.parametrize("make", [EvolutionPolicy, TpePolicy])
def test_a_search_follows_from_its_seed(make):
    first, again, other = (trajectory(make(small_world(), seed), 20) for seed in (5, 5, 6))
    assert first == again != other
    with pytest.raises(SurrogateError, match=r"allowed has shape \(2,\)"):
        make(small_world(), 0).suggest(allowed=np.ones(2, dtype=bool))


def studied(policy):
    """What Optuna knows: for each finished trial the name that it chose and the value that it was told."""
    complete = [trial for trial in policy.study.trials if trial.state.name == "COMPLETE"]
    chosen = [(trial.params["0"], trial.params["0.0"], trial.params["0.1"], trial.value) for trial in complete]
    return [(f"{root}({left}(x),{right}(x))", value) for root, left, right, value in chosen]


def test_optuna_is_told_every_result_and_known_names_again():
    spellings, policy = small_world(), TpePolicy(small_world(), 0)
    scores = {0: 0.25}
    policy.observe(0, 0.25)  # a baseline
    for _ in range(20):
        candidate = policy.suggest().candidate
        scores[candidate] = float("-inf") if candidate % 3 == 0 else candidate / 10
        policy.observe(candidate, None if candidate % 3 == 0 else scores[candidate])
    told = studied(policy)
    assert all(value == scores[spellings.find(name)] for name, value in told)
    assert {spellings.find(name) for name, _ in told} == set(scores)
    assert len(told) > len(scores) == 21  # names of known functions were answered, at no cost


def test_names_that_the_benchmark_lacks_are_not_answered():
    whole = small_world()
    spellings = Spellings(whole.names[::3])
    policy = TpePolicy(spellings, 0)
    assert sorted(trajectory(policy, len(spellings))) == list(range(len(spellings)))
    assert {trial.state.name for trial in policy.study.trials} == {"COMPLETE", "FAIL"}
    assert all(spellings.find(name) is not None for name, _ in studied(policy))


def test_several_schemas_are_a_choice_of_their_own():
    spellings = Spellings((("relu(x)",), ("tanh(x)",), ("mul(abs(x),relu(x))",), ("mul(abs(x),tanh(x))",)))
    policy = TpePolicy(spellings, 0)
    assert sorted(trajectory(policy, 4)) == [0, 1, 2, 3]
    assert {trial.params["schema"] for trial in policy.study.trials} == {0, 1}


@pytest.mark.parametrize("make", [EvolutionPolicy, TpePolicy])
def test_the_best_is_found_sooner_than_by_chance(make):
    """Scores fall with the number of operators that are not the target's; chance needs half of the functions."""
    spellings = world((*UNARY, "square", "tanh", "negative", "exp", "elu", "erf", "arctan", "cosh"))
    target = parse("mul(abs(x),tanh(x))")
    scores = [-min(differences(target, parse(name)) for name in names) for names in spellings.names]

    def found_after(policy):
        for number in range(1, len(spellings) + 1):
            candidate = policy.suggest().candidate
            policy.observe(candidate, float(scores[candidate]))
            if scores[candidate] == 0:
                return number
        raise AssertionError

    assert len(spellings) > 100
    assert np.median([found_after(make(spellings, seed)) for seed in range(15)]) < 0.3 * len(spellings)


def test_without_optuna_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(AnalysisError, match=r"TPE needs Optuna: pip install optuna") as told:
        TpePolicy(small_world(), 0)
    assert "\n" not in str(told.value)


def test_optunas_announcements_stay_as_the_user_has_them(capfd):
    import optuna

    before = optuna.logging.get_verbosity()
    trajectory(TpePolicy(small_world(), 0), 3)
    assert optuna.logging.get_verbosity() == before
    assert capfd.readouterr().err == ""
