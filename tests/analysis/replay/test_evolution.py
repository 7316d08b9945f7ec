"""Regularised evolution and the spellings it moves on, in a space so small that all neighbours can be listed."""

from __future__ import annotations

import numpy as np
import pytest
from small_world import SMALL, differences, small_world

from aquasurf_ray.activations import parse
from aquasurf_ray.analysis.errors import BenchmarkError
from aquasurf_ray.analysis.replay.evolution import EvolutionPolicy, mutated
from aquasurf_ray.analysis.replay.spellings import Spellings, spellings_of
from aquasurf_ray.surrogate.errors import SurrogateError


@pytest.fixture(scope="module")
def spellings() -> Spellings:
    return small_world()


def neighbours(spellings, candidate):
    """All candidates that have a name one operator away from a name of this one."""
    names = [parse(name) for name in SMALL.names()]
    ours = [parse(name) for name in spellings.names[candidate]]
    return {spellings.find(str(name)) for name in names for mine in ours if differences(name, mine) == 1}


def test_the_schema_is_read_off_the_names(spellings):
    (schema,) = spellings.schemas
    assert set(schema.names()) == set(SMALL.names())
    assert sorted(str(g) for genomes in spellings.genomes for g in genomes) == sorted(SMALL.names())
    assert spellings.operators == {"unary": ("abs", "identity", "relu", "sigmoid", "zero"), "binary": ("add", "mul")}


def test_every_name_leads_to_its_candidate_known_or_not(spellings):
    for candidate, names in enumerate(spellings.names):
        assert {spellings.find(name) for name in names} == {candidate}
    assert spellings.find("mul(relu(x),one(x))") == spellings.find("add(relu(x),zero(x))")
    assert spellings.find("tanh(x)") is None


def test_shapes_that_nothing_needs_are_left_out():
    spellings = Spellings((("relu(x)", "add(relu(x),zero(x))"), ("mul(abs(x),relu(x))",)))
    assert [schema.n_names for schema in spellings.schemas] == [8]
    assert [[str(genome) for genome in genomes] for genomes in spellings.genomes] == [
        ["add(relu(x),zero(x))"],
        ["mul(abs(x),relu(x))"],
    ]
    needed = Spellings((("relu(x)",), ("tanh(x)",), ("mul(abs(x),relu(x))",)))
    assert [sorted(schema.names()) for schema in needed.schemas] == [["relu(x)", "tanh(x)"], ["mul(abs(x),relu(x))"]]


def test_names_of_unknown_operators_are_reported(synthetic_benchmark):
    from dataclasses import replace

    strange = replace(synthetic_benchmark, functions=(*synthetic_benchmark.functions[:-1], "wobble(x)"))
    with pytest.raises(BenchmarkError, match="unknown operator 'wobble'"):
        spellings_of(strange)
    assert spellings_of(synthetic_benchmark) is spellings_of(replace(synthetic_benchmark))


def test_a_mutation_changes_one_node_to_another_operator_of_its_kind(spellings):
    parent = parse("add(relu(x),abs(x))")
    rng = np.random.default_rng(0)
    for node, operators in enumerate([{"mul"}, {"identity", "sigmoid", "zero", "abs"}, set("irsz")]):
        children = [mutated(parent, node, spellings, rng) for _ in range(60)]
        assert {differences(parent, child) for child in children} == {1}
        if node < 2:
            place = [child if node == 0 else child.arguments[0] for child in children]
            assert {child.operator for child in place} == operators
    assert mutated(parse("x"), 0, spellings, rng) == parse("x")
    assert str(mutated(parse("add(relu(x),abs(x))"), 2, spellings, rng)).startswith("add(relu(x),")


def test_the_best_of_the_young_is_mutated(spellings):
    """A tournament of the whole population has one winner, whose neighbours are known."""
    for seed in range(20):
        policy = EvolutionPolicy(spellings, seed, population=6, tournament=6)
        members = np.random.default_rng(seed).permutation(len(spellings))[:12].tolist()
        for age, member in enumerate(members):
            policy.observe(member, 100.0 if age == 0 else float(member))  # the best of all is too old
        winner = max(members[-6:])
        assert policy.suggest().candidate in neighbours(spellings, winner) - set(members)


def test_a_diverged_function_has_no_offspring_while_others_compete(spellings):
    good, *bad = np.random.default_rng(3).permutation(len(spellings))[:6].tolist()
    policy = EvolutionPolicy(spellings, 0, population=6, tournament=6)
    policy.observe(good, -1e9)
    for candidate in bad:
        policy.observe(candidate, None)
    assert policy.suggest().candidate in neighbours(spellings, good)


def test_candidates_are_random_until_there_is_a_population(spellings):
    first = {EvolutionPolicy(spellings, seed, population=5).suggest().candidate for seed in range(200)}
    assert len(first) > len(spellings) / 2
    policy = EvolutionPolicy(spellings, 0, population=5, tournament=5)
    for candidate in range(3):
        policy.observe(candidate, float(candidate))
    grown = policy.suggest(pending=[10, 11])  # two that run count as members to come
    assert grown.candidate in neighbours(spellings, 2)


@pytest.mark.parametrize("sizes", [{"population": 0}, {"tournament": 0}, {"population": 3, "tournament": 4}])
def test_impossible_sizes_are_refused(spellings, sizes):
    with pytest.raises(SurrogateError, match="tournament"):
        EvolutionPolicy(spellings, **sizes)
