"""Searches that train their best functions with further seeds, from end to end without Ray: workers answer at once, and
half of a score with a seed other than 0 is that seed's luck."""

from __future__ import annotations

import json
import os
from statistics import mean, stdev

import pytest
from light_driver import InstantPool, without_ray
from scripted_worker import ScriptedWorker, score_of, score_with

from aquasurf_ray.activations import BASELINES
from aquasurf_ray.analysis.report import summary
from aquasurf_ray.analysis.studies.findings import read_findings
from aquasurf_ray.cli.main import main
from aquasurf_ray.driver import confirm, resume, search
from aquasurf_ray.driver.verbs import transfer as transfer_verb
from aquasurf_ray.store import RunExists, Store
from aquasurf_ray.tune import ActivationSearch


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AQUASURF_STORE", f"sqlite:///{tmp_path}/runs.db")
    without_ray(InstantPool, monkeypatch.setattr)


def searched(name="one", **options):
    chosen = {"candidates": 40, "evaluations": 20, "features": "outputs", "workers": 1, "leader_seeds": 2}
    return search("digits", name=name, progress=False, **{**chosen, **options})


def stored(name, read):
    with Store.open(os.environ["AQUASURF_STORE"], create=False) as store:
        return read(store, store.run(name))


def trained(name="one"):
    """Function, change of the recipe and seed of each training, in the order of the requests."""
    requests = stored(name, lambda store, run: store.snapshot(run.id).evaluations)
    return [(each.function, each.evaluation.recipe_change, each.evaluation.seed) for each in requests]


def means(trainings):
    """The mean score by function and change, over the seeds of these trainings."""
    by_pair = {}
    for function, change, seed in trainings:
        by_pair.setdefault((function, change), []).append(score_with(function, change, seed))
    return {pair: mean(scores) for pair, scores in by_pair.items()}


def assert_second_ones(trainings, first):
    """Each training from `first` on is of the best function before it that has one seed only."""
    for i in range(first, len(trainings)):
        before = trainings[:i]
        pairs = [training[:2] for training in before]
        lacking = [pair for pair in pairs if pairs.count(pair) == 1]
        expected = max(lacking, key=means(before).get)
        assert trainings[i] == (*expected, 1)


def test_the_last_fifth_trains_the_best_functions_with_a_second_seed(here):
    result = searched()
    found = trained()
    assert len(found) == 8 + 20
    assert {seed for _, _, seed in found[:24]} == {0}
    assert len({function for function, _, _ in found}) == 24
    assert_second_ones(found, first=24)
    best = max(means(found), key=means(found).get)
    assert result.best == (best[0], pytest.approx(means(found)[best]))
    # The luckiest training is of another function here, which is why there are second seeds.
    assert max(found, key=lambda training: score_of(training[0], training[2]))[0] != best[0]


def test_table_status_and_documents_call_the_best_mean_best(here, capsys):
    searched()
    found = means(trained())
    board = stored("one", lambda store, run: store.leaderboard(run_id=run.id))
    by_mean = sorted(found, key=lambda pair: -found[pair])
    assert [row.function for row in board] == [function for function, _ in by_mean]
    assert [row.rank for row in board] == list(range(1, 25))
    assert [row.score for row in board] == pytest.approx([found[pair] for pair in by_mean])
    assert [row.val_accuracy for row in board] == pytest.approx([row.score for row in board])
    twice = [row for row in board if len(row.seeds) == 2]
    assert len(twice) == 4
    assert {row.seeds for row in board} == {(0,), (0, 1)}
    # The deviation between two seeds, pooled: the root of the mean variance; that of a mean of two is smaller.
    pooled = mean(stdev([score_of(row.function, seed) for seed in (0, 1)]) ** 2 for row in twice) ** 0.5
    assert {round(row.noise, 9) for row in twice} == {round(pooled / 2**0.5, 9)}
    assert {round(row.noise, 9) for row in board if len(row.seeds) == 1} == {round(pooled, 9)}
    assert main(["top", "one", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)[0]
    assert first["function"] == by_mean[0][0]
    assert first["seeds"] == 2
    assert first["noise"] == pytest.approx(pooled / 2**0.5)
    assert first["confirmed"] is None, "what selected a function does not confirm it"
    assert main(["status", "one", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["best_function"] == by_mean[0][0]
    assert document["best_score"] == pytest.approx(found[by_mean[0]])


def test_report_and_transfer_call_the_best_mean_best(here):
    searched()
    found = means(trained())
    by_mean = [function for function, _ in sorted(found, key=lambda pair: -found[pair])]
    findings = stored("one", lambda store, run: read_findings(store, "one", "again", quick=True))
    best = stored("one", lambda store, run: store.leaderboard(run_id=run.id, n=1))[0]
    value = f"<b>{found[by_mean[0], '']:.4f}</b> ± {best.noise:.4f} (2 seeds, standard error)"
    assert f"<code>{by_mean[0]}</code> with val_accuracy {value}" in summary.heading(findings)
    assert ">seeds</th>" in summary.leaderboard(findings)
    transferred = stored("one", lambda store, run: transfer_verb._best(store, run, 3))
    assert [row.function for row in transferred] == [name for name in by_mean if name not in BASELINES][:3]


def test_a_larger_budget_goes_on_with_new_functions_and_ends_with_second_seeds(here):
    searched()
    resume("one", evaluations=30, progress=False)
    found = trained()
    assert len(found) == 8 + 30
    assert {seed for _, _, seed in found[28:32]} == {0}, "24 of 30 evaluations are not in the last fifth"
    assert_second_ones(found, first=32)


def test_another_run_of_the_same_configuration_repeats_it_without_training(here):
    searched("one")
    result = searched("two")
    assert trained("two") == trained("one")
    assert result.reused == 28


def test_the_number_of_seeds_is_part_of_the_run(here):
    searched()
    with pytest.raises(RunExists, match="leader_seeds"):
        searched(leader_seeds=3)


def test_a_third_seed_goes_to_the_leader_first(here):
    searched(leader_seeds=3)
    found = trained()
    for i in range(24, 28):
        pairs = [training[:2] for training in found[:i]]
        lacking = [pair for pair in pairs if pairs.count(pair) < 3]
        expected = max(lacking, key=means(found[:i]).get)
        assert found[i] == (*expected, pairs.count(expected))


def test_where_nothing_new_is_left_the_rest_of_the_budget_is_for_second_seeds(here):
    searched(candidates=10, evaluations=18)
    found = trained()
    assert len(found) == 8 + 18
    assert len({function for function, _, _ in found}) == 18
    assert_second_ones(found, first=18)


def test_a_condition_is_met_by_no_single_training(here):
    searched("whole", leader_seeds=1)
    scores = sorted((score_of(function) for function, _, _ in trained("whole")), reverse=True)
    goal = (scores[1] + scores[2]) / 2  # two functions reach it with one seed
    result = searched("one", until=f"val_accuracy>={goal}")
    found = trained()
    met = [i for i, training in enumerate(found) if score_of(training[0]) >= goal and training[2] == 0]
    again = max(met[0] + 1, 8)  # at once, but for the baselines that come first
    best = max(found[:again], key=lambda training: score_of(training[0]))
    assert found[again] == (best[0], "", 1)
    reached = any(value >= goal for pair, value in means(found).items() if [t[:2] for t in found].count(pair) == 2)
    assert (result.ended is not None) == reached


def test_a_failed_second_seed_meets_no_condition_and_resume_trains_it(here, monkeypatch):
    searched("whole", leader_seeds=1)
    early = {score_of(function): function for function, _, _ in trained("whole")[:24]}
    second, first = sorted(early)[-2:]
    leader, train = early[first], ScriptedWorker.train

    def train_or_fail(worker, job):
        if (job.function, job.seed) == (leader, 1):
            raise FileNotFoundError("the data are gone")
        return train(worker, job)

    goal = f"val_accuracy>={max(second, score_of(leader, 1)) / 2 + first / 2}"  # only one training reaches it
    with monkeypatch.context() as patch:
        patch.setattr(ScriptedWorker, "train", train_or_fail)
        result = searched("one", until=goal)
    assert (result.ended, result.failed) == (None, 1)
    assert result.best == (leader, pytest.approx(first))
    assert {seed for _, _, seed in trained()} == {0, 1}, "others are for confirmations"
    result = resume("one", evaluations=21, progress=False)
    assert result.failed == 0
    assert trained().count((leader, "", 1)) == 1
    found = stored("one", lambda store, run: store.leaderboard(run_id=run.id))
    mean_of_both = mean([first, score_of(leader, 1)])
    assert next((row.score, row.seeds) for row in found if row.function == leader) == (
        pytest.approx(mean_of_both),
        (0, 1),
    )


def test_a_confirmation_judges_with_seeds_that_the_search_had_no_part_in(here):
    searched()
    confirmation = confirm("one", top=3, seeds=2, progress=False)
    assert {seed for _, _, seed in trained(confirmation.name)} == {2, 3}
    found = means(trained())
    best = [function for function, _ in sorted(found, key=lambda pair: -found[pair]) if function not in BASELINES][:3]
    names = {function for function, _, _ in trained(confirmation.name)}
    assert names == {*best, *BASELINES}


def test_seeds_and_learning_rates_together(here):
    searched(learning_rates=(0.5, 1.0, 2.0), evaluations=30)
    found = trained()
    assert len(found) == 8 + 30
    assert {seed for _, _, seed in found[:32]} == {0}
    assert len({change for _, change, _ in found[:32]}) > 1
    assert_second_ones(found, first=32)


def test_the_open_space(here):
    searched(space="open", candidates=10, evaluations=20)
    found = trained()
    assert len(found) == 8 + 20
    assert_second_ones(found, first=24)


def test_a_tuner_says_where_the_setting_is_for():
    from aquasurf_ray.driver.errors import BadUse

    with pytest.raises(BadUse, match="leader_seeds: 2 is for `search` and Study"):
        ActivationSearch(trainable="mine", metric="score", mode="max", leader_seeds=2)
