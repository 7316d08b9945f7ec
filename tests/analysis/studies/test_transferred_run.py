"""What a transfer shows of its source run: the score that selected a function, or the mean that confirmed it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from synthetic_run import METRIC, NAME, done, fill_store

from aquasurf_ray.activations import BASELINES
from aquasurf_ray.analysis.studies.confirmation import PairedDifference
from aquasurf_ray.analysis.studies.transferred_run import Transfer, read_transfer
from aquasurf_ray.analysis.studies.verdict import transfer_verdict
from aquasurf_ray.cli import transfer as command
from aquasurf_ray.cli.terminal.evaluation import print_evaluation
from aquasurf_ray.cli.terminal.paper_table import Table
from aquasurf_ray.store import NewRun, Store, this_process


def transferred(store: Store) -> Transfer:
    """Return a transfer of three functions of the synthetic run, of which two are confirmed."""
    run = store.run(NAME)
    names = [function.name for function in store.candidates(run.id)]
    suggested = [name for name in names if name not in BASELINES]
    # The third and the fourth have no score.
    ids = [store.find_function(name).id for name in [suggested[0], suggested[1], suggested[4], "relu(x)"]]
    task = store.add_task("other", "1", "other", METRIC)
    lease = store.acquire_lease(
        store.create_run(NewRun("moved", "evaluate", task, {"seeds": 2}, "moved", 0, 8, None, "0.1.0"), ids).id,
        this_process(),
    )
    for number in ids:
        for seed in range(2):
            claim = store.claim(lease, number, seed, origin="proposal")
            store.record_result(lease, claim.evaluation_id, done(0.5 + 0.01 * number + 0.02 * seed))
    store.release_lease(lease, "finished")
    return read_transfer(store, NAME, "moved")


@pytest.fixture
def store(tmp_path):
    with Store.open(f"sqlite:///{tmp_path}/s.db") as opened:
        fill_store(opened, n_candidates=14, n_trained=5)
        yield opened


def test_the_source_of_a_confirmed_function_is_its_confirmed_mean(store):
    found = transferred(store)
    of = {each.function: each for each in found.functions}
    confirmed = [each for each in found.functions if each.is_confirmed]
    assert len(confirmed) == 3, "two winners and ReLU"
    assert found.source_judge == "test"
    selected = {row.function: row.score for row in store.leaderboard(run_id=store.run(NAME).id)}
    for each in found.functions:
        if each.function == "relu(x)":
            assert each.source == pytest.approx(0.73 - 0.02)
        elif each.is_confirmed:
            assert each.source == pytest.approx(0.815 - 0.02), "the mean of 0.81 and 0.82, on the test split"
        else:
            assert each.source == selected[each.function]
    assert of["relu(x)"].baseline


def test_without_a_confirmation_the_source_is_the_score_that_selected(store, monkeypatch):
    monkeypatch.setattr("aquasurf_ray.analysis.studies.transferred_run.confirmation_of", lambda *_: None)
    found = transferred(store)
    selected = {row.function: row.score for row in store.leaderboard(run_id=store.run(NAME).id)}
    assert all(each.source == selected[each.function] and not each.is_confirmed for each in found.functions)
    assert found.source_judge is None


@pytest.mark.parametrize("form", [Table.table, Table.markdown, Table.latex, Table.json])
def test_a_table_says_what_means_and_gains_are_on(store, form, capsys):
    found = transferred(store)
    command._PRINTERS[form](found)
    printed = capsys.readouterr().out
    said = json.loads(printed)["note"] if form is Table.json else " ".join(printed.split())
    assert (
        f"Source: the mean in the confirmation of run '{NAME}', on the test split; for a function without one" in said
    )
    assert "Median, mean with 95% interval, gain and p are on the validation split of other." in said
    assert "Gain: the mean difference to relu(x) with the same seeds, positive if better." in said
    sentence = "no function beats relu(x): the best, "
    assert sentence in (json.loads(printed)["verdict"] if form is Table.json else said.replace("No f", "no f"))
    if form is Table.latex:
        lines = printed.splitlines()
        assert lines[0].startswith("% ")
        assert lines[1].startswith(r"\begin")
    command._PRINTERS[Table.table](replace(found, source_judge=None))
    assert f"Source: the best score of run '{NAME}', on the validation split." in " ".join(
        capsys.readouterr().out.split()
    )


def test_the_best_mean_comes_first_and_the_verdict_is_of_means(store):
    found = transferred(store)
    means = [each.mean.mean for each in found.functions]
    assert means == sorted(means, reverse=True)
    best, last = found.functions[0], found.functions[-1]
    assert transfer_verdict(found).sentence.startswith(f"no function beats relu(x): the best, {best.function}, gains +")
    gain = PairedDifference(0.2, 0.001, p_holm=0.002, low=0.1, high=0.3)
    better = replace(found, functions=(replace(best, against_reference=gain), *found.functions[1:]))
    assert transfer_verdict(better).function == best.function
    assert transfer_verdict(better).sentence == (
        f"{best.function} beats relu(x) by 20.0 points [10.0, 30.0], on other, 2 seeds, validation split"
    )
    baseline = replace(last, function="tanh(x)", baseline=True, against_reference=replace(gain, p_holm=None))
    known = replace(found, functions=(baseline, *found.functions))
    assert transfer_verdict(known).sentence.startswith(
        "no function beats relu(x), but the baseline tanh(x) does, by 20.0 points [10.0, 30.0]: the best, "
    )
    alone = replace(found, functions=(best,))
    assert transfer_verdict(alone).sentence.startswith("no verdict: the reference, relu(x), was not trained on other")


@pytest.mark.parametrize("form", [Table.table, Table.markdown, Table.latex])
def test_the_table_of_an_evaluation_says_so_too(store, tmp_path, form, capsys):
    transferred(store)
    print_evaluation("moved", f"sqlite:///{tmp_path}/s.db", form)
    said = " ".join(capsys.readouterr().out.split())
    assert "gain and p are on the validation split. Gain: the mean difference to relu(x) with the same seeds" in said
