"""A search of the open space: what it makes, from what, and that it is the same however often it is interrupted."""

from __future__ import annotations

import json
import sys
from collections import Counter

import pytest
from recorder import Recorder
from scripted_worker import ScriptedWorker, price_of

from aquasurf_ray.activations import fingerprint, outputs, parse
from aquasurf_ray.activations.spaces.space import OPEN
from aquasurf_ray.activations.standardization import core, scale_free_digest, standardized
from aquasurf_ray.activations.zoo import zoo_functions
from aquasurf_ray.driver import propose, resume, search
from aquasurf_ray.driver.errors import BadUse
from aquasurf_ray.driver.events import CandidatesGrown, Note
from aquasurf_ray.driver.settings import models as configuration
from aquasurf_ray.driver.settings.reading import make_config
from aquasurf_ray.driver.suggestions import growth
from aquasurf_ray.driver.suggestions.growth import PERIOD
from aquasurf_ray.driver.suggestions.standard_forms import StandardForms
from aquasurf_ray.driver.suggestions.surrogates import PolicyData
from aquasurf_ray.store import Store, read_only_query


@pytest.fixture
def here(tmp_path, monkeypatch, ray_here):
    monkeypatch.chdir(tmp_path)
    return f"sqlite:///{tmp_path}/runs.db"


@pytest.fixture(autouse=True)
def few_children(monkeypatch):
    """A machine that many share would otherwise wait for them."""
    monkeypatch.setattr(growth, "FEWEST_CHILDREN", 60)


def scripted(here, **options):
    chosen = {"space": OPEN, "candidates": 90, "growth": 2, "evaluations": 14, "cpus_per_worker": 0.4, "workers": 1}
    return search("digits", worker=ScriptedWorker, **{**chosen, "store": here, **options})


def record_of(here, name):
    """The candidates with their origin, and what was suggested and why, without the store's numbers."""
    with Store.open(here, create=False) as store:
        run = store.run(name)
        candidates = store.candidates(run.id)
        requests = store.snapshot(run.id).evaluations
        state = store.growth(run.id)
    origins = read_only_query(
        here,
        "SELECT f.name, g.generation, g.change, a.name AS parent, b.name AS other FROM grown_candidates g"
        " JOIN functions f ON f.id = g.function_id LEFT JOIN functions a ON a.id = g.parent_id"
        f" LEFT JOIN functions b ON b.id = g.other_parent_id WHERE g.run_id = {run.id} ORDER BY 2, 1",
    ).rows
    reasons = [
        (r.function, r.suggestion.predicted_score, r.suggestion.embedding_version) for r in requests if r.suggestion
    ]
    return [function.name for function in candidates], origins, reasons, state


def test_a_search_grows_from_its_best_and_every_candidate_has_its_parents(here):
    listener = Recorder()
    scripted(here, name="a", callbacks=[listener])
    names, origins, reasons, state = record_of(here, "a")
    assert names[:8] == [
        "elu(x)",
        "relu(x)",
        "selu(x)",
        "sigmoid(x)",
        "softplus(x)",
        "softsign(x)",
        "swish(x)",
        "tanh(x)",
    ]
    zoo = {fingerprint(expression) for _, expression in zoo_functions()}
    assert zoo <= {fingerprint(name) for name in names}
    assert len({fingerprint(name) for name in names}) == len(names)
    assert state.generation == (14 - 1) // PERIOD == 3
    assert state.candidates == len(origins) == 3 * 2 * PERIOD
    assert names[-len(origins) :]
    assert len(names) == 8 + 90 + len(origins)
    with Store.open(here) as store:
        requests = store.snapshot(store.run("a").id).evaluations
    numbers = {r.function: r.position for r in reversed(requests)}
    for name, generation, change, *parents in origins:
        expected = {"random": 0, "crossover": 2}.get(change, 1)
        assert sum(parent is not None for parent in parents) == expected
        assert all(numbers[parent] < 8 + PERIOD * generation - 1 for parent in parents if parent)
        assert parse(name).n_operators <= 10
        values = outputs(name)
        assert (values == values).all()
        assert values.min() < values.max()
    assert len({function for function, *_ in reasons} & {name for name, *_ in origins}) >= 1
    grown = listener.of(CandidatesGrown)
    assert [(event.generation, event.candidates) for event in grown] == [(1, 8), (2, 8), (3, 8)]
    assert all(event.functions >= 60 for event in grown)


def test_new_functions_are_standard_forms_and_known_ones_are_recognised_up_to_scale():
    forms = StandardForms()
    forms.read(["relu(x)", "mul(1.59254,tanh(x))", "own_operator_of_somebody(x)"])
    made = [
        "add(tanh(x),tanh(x))",
        "add(relu(x),relu(x))",
        "mul(3,relu(x))",
        "exp(x)",
        "reciprocal(x)",
        "add(1,exp(x))",
    ]
    found = forms.of([parse(name) for name in made])
    expected = {2: "relu(x)", 3: "exp(x)"}  # tanh is known in standard form, and relu as it is does not count
    assert found == {place: standardized(parse(name)) for place, name in expected.items()}
    forms.add(list(found.values()))
    assert forms.of([parse(name) for name in made]) == {}


@pytest.mark.slow
def test_a_standardized_search_grows_functions_of_mean_0_and_deviation_1_from_cores(here):
    scripted(here, name="a", standardize="on")
    names, origins, _, state = record_of(here, "a")
    assert state.generation == 3
    assert len(origins) == 24
    forms = [parse(name) for name in names[8:]]
    assert all(standardized(form) == form for form in forms)
    assert len({scale_free_digest(form) for form in forms}) == len(forms)
    grown = [core(parse(name)) for name, *_ in origins]
    assert all(form.n_operators <= 10 for form in grown)
    inherited = [core(parse(parent)) for _, _, _, *both in origins for parent in both if parent]
    assert len(inherited) >= 20


@pytest.mark.parametrize("standardize", ["off", "on"])
@pytest.mark.slow
def test_one_worker_and_one_seed_give_one_sequence_also_in_pieces(here, tmp_path, standardize):
    scripted(here, name="a", standardize=standardize)
    whole = record_of(here, "a")
    other = f"sqlite:///{tmp_path}/other.db"
    for number, budget in enumerate((3, 4, 5, 8, 13, 14)):
        if number == 0:
            scripted(other, name="a", evaluations=budget, standardize=standardize)
        else:
            resume("a", store=other, worker=ScriptedWorker, evaluations=budget)
    assert record_of(other, "a") == whole
    third = f"sqlite:///{tmp_path}/third.db"
    scripted(third, name="a", seed=1, standardize=standardize)
    assert record_of(third, "a")[1] != whole[1]


@pytest.mark.slow
def test_a_generation_that_was_stored_before_its_suggestion_is_used_as_it_is(here, monkeypatch):
    """As after a kill right behind the commit."""
    scripted(here, name="a", evaluations=4)
    resume("a", store=here, worker=ScriptedWorker, evaluations=6)
    whole = record_of(here, "a")
    monkeypatch.setattr(growth.Growth, "_grow", lambda self: pytest.fail("the generation is there"))
    resume("a", store=here, worker=ScriptedWorker, evaluations=8)
    assert record_of(here, "a")[1] == whole[1]


@pytest.mark.parametrize("workers", [3, 20])
@pytest.mark.slow
def test_several_workers_grow_too(here, workers):
    """With 20, suggestions are made ahead in another process."""
    result = scripted(here, name="a", workers=workers, cpus_per_worker=0.02, evaluations=30)
    names, origins, _, state = record_of(here, "a")
    assert result.evaluations == 38
    assert state.generation >= 5
    assert len(names) == 98 + len(origins)


@pytest.mark.slow
def test_both_ways_to_make_a_policy_suggest_the_same(here, monkeypatch):
    scripted(here, name="a")
    whole = record_of(here, "a")
    monkeypatch.setattr("aquasurf_ray.driver.suggestions.surrogates.GrowingSurrogate.policy_source", _all_at_once)
    scripted(here, name="b")
    assert record_of(here, "b")[:3] == whole[:3]


def _all_at_once(self, n):
    policy_source = super(type(self), self).policy_source(n)
    assert policy_source is None or isinstance(policy_source, PolicyData)
    return policy_source


@pytest.mark.slow
def test_what_people_propose_takes_part(here):
    scripted(here, name="a", evaluations=3)
    propose("a", ["mul(0.123,sin(mul(4.56,x)))"], store=here)
    resume("a", store=here, worker=ScriptedWorker, evaluations=9)
    names, origins, *_ = record_of(here, "a")
    assert ("mul(0.123,sin(mul(4.56,x)))", 1, "proposal", None, None) in origins
    assert "mul(0.123,sin(mul(4.56,x)))" in names


def test_a_limit_on_cost_and_on_size_holds(here):
    scripted(here, name="a", max_cost=0.9, max_operators=2)
    _, origins, reasons, _ = record_of(here, "a")
    assert all(parse(name).n_operators <= 2 for name, *_ in origins)
    assert all(price_of(function) <= 0.9 for function, *_ in reasons)


def test_a_search_that_has_used_up_its_candidates_makes_more(here):
    result = scripted(here, name="a", candidates=1, growth=1, evaluations=12)
    assert (result.evaluations, result.exhausted) == (20, False)


@pytest.mark.slow
def test_two_runs_share_what_was_trained(here):
    scripted(here, name="a")
    again = scripted(here, name="b")
    assert record_of(here, "b")[:3] == record_of(here, "a")[:3]
    assert again.reused == 22


def test_a_command_proposes_and_gets_the_leaderboard(here, tmp_path):
    script = tmp_path / "propose.py"
    script.write_text(
        "import json, sys, pathlib\n"
        "given = json.load(sys.stdin)\n"
        "pathlib.Path(f'given-{given[\"generation\"]}.json').write_text(json.dumps(given))\n"
        "print(f'# generation {given[\"generation\"]}')\n"
        "print(f'mul(0.{given[\"generation\"]}77,sin(x))\\n\\nno such thing(x)\\nrelu(x)\\nsqrt(x)')\n"
    )
    listener = Recorder()
    scripted(here, name="a", proposals=f"{sys.executable} propose.py", callbacks=[listener])
    _, origins, *_ = record_of(here, "a")
    proposed = [(name, generation) for name, generation, change, *_ in origins if change == "proposal"]
    assert proposed == [(f"mul(0.{i}77,sin(x))", i) for i in (1, 2, 3)]
    notes = [event.text for event in listener.of(Note) if event.text.startswith("proposals")]
    problem = "the first 'no such thing(x)': unknown name 'no' at 1; the variable is x"
    assert notes == [f"proposals: 1 of 4 lines were left out, {problem}"] * 3
    first, second = (json.loads((tmp_path / f"given-{i}.json").read_text()) for i in (1, 2))
    assert len(first["leaderboard"]) == 8
    assert len(second["leaderboard"]) == 8 + PERIOD - 1
    assert (second["metric"], second["higher_is_better"], second["at_most"]) == ("accuracy", True, 8)
    values = [row["value"] for row in second["leaderboard"] if not row["diverged"]]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("import sys; sys.exit('out of credit')", "ended with status 1: out of credit"),
        ("import os; os.kill(os.getpid(), 9)", "ended with status -9"),
        ("import time; time.sleep(100)", "took longer than 1 s"),
        ("print('\\0\\0', flush=True); print('gelu gelu' * 999)", "lines were left out"),
    ],
)
@pytest.mark.slow
def test_a_command_that_misbehaves_costs_a_note(here, tmp_path, monkeypatch, code, problem):
    monkeypatch.setattr("aquasurf_ray.driver.suggestions.proposals.LIMIT_SECONDS", 1.0)
    (tmp_path / "bad.py").write_text(code)
    listener = Recorder()
    result = scripted(here, name="a", proposals=f"{sys.executable} bad.py", evaluations=18, callbacks=[listener])
    assert result.evaluations == 26
    notes = [event.text for event in listener.of(Note) if event.text.startswith("proposals")]
    assert notes
    assert all(problem in note and "\n" not in note and len(note) < 400 for note in notes)
    if "lines" not in problem:
        assert len(notes) == 3
        assert notes[-1].endswith("it is not run again in this session")


def test_new_functions_are_told_from_known_ones_also_by_constants_beyond_the_sample(here, tmp_path):
    lines = ["max(relu(x),zero(x))", "min(relu(x),8)", "min(8,relu(x))", "min(relu(x),9)", "mul(1,relu(x))"]
    (tmp_path / "propose.py").write_text(f"print('\\n'.join({lines}))")
    scripted(here, name="a", proposals=f"{sys.executable} propose.py", evaluations=6)
    proposed = [name for name, _, change, *_ in record_of(here, "a")[1] if change == growth.PROPOSAL]
    assert {fingerprint(name) for name in proposed} == {fingerprint(lines[1]), fingerprint(lines[3])}
    assert len(proposed) == 2


def test_proposals_keep_to_the_limits_of_the_run(here, tmp_path):
    big, learning = "add(sin(x),add(cos(x),tanh(x)))", "mul(learn(1),tanh(x))"
    (tmp_path / "propose.py").write_text(f"print('{big}', '{learning}', 'mul(0.77,sin(x))', sep='\\n')")
    listener = Recorder()
    options = {"proposals": f"{sys.executable} propose.py", "max_operators": 4, "learned_parameters": "off"}
    scripted(here, name="a", callbacks=[listener], evaluations=6, **options)
    names, origins, *_ = record_of(here, "a")
    assert [name for name, _, change, *_ in origins if change == "proposal"] == ["mul(0.77,sin(x))"]
    assert not {big, learning} & set(names)
    (note, *_) = [event.text for event in listener.of(Note) if event.text.startswith("proposals")]
    assert (
        note == f"proposals: 2 of 3 lines were left out, the first '{big}': it has 5 operators, and max-operators is 4"
    )


def test_a_command_that_is_not_there_costs_notes(here):
    listener = Recorder()
    scripted(here, name="a", proposals="no-such-program --really", callbacks=[listener], evaluations=6)
    notes = [event.text for event in listener.of(Note) if event.text.startswith("proposals")]
    assert notes[0] == "proposals: 'no-such-program' cannot be started: No such file or directory"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"surrogate": "aquasurf"}, "the open space needs metric, got aquasurf"),
        ({"proposals": "echo 'x"}, "proposals: no closing quotation"),
        ({"proposals": " "}, "proposals must be a command"),
        (
            {"space": "three-node", "proposals": "echo"},
            "can only propose functions to space open, got space three-node",
        ),
        ({"growth": 0}, "growth"),
        ({"max_operators": 0}, "max-operators"),
    ],
)
def test_what_does_not_fit_is_refused(options, problem):
    with pytest.raises(BadUse, match=problem):
        make_config({"task": "digits", "space": OPEN, **options})


def test_the_name_of_the_space_is_one():
    assert configuration.OPEN == OPEN


def test_settings_of_the_open_space_leave_other_runs_as_they_were():
    assert not {"growth", "max_operators", "proposals"} & make_config({"task": "digits"}).identity().keys()
    assert make_config({"task": "digits", "growth": 9}).identity()["growth"] == 9


@pytest.mark.slow
def test_changes_are_spread(here):
    scripted(here, name="a", evaluations=26, growth=4)
    _, origins, *_ = record_of(here, "a")
    assert len(Counter(change for _, _, change, *_ in origins)) >= 5
