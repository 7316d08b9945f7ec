"""Ask and tell in one process: what a loop of a user's own gets and gives, and what it is told when it errs."""

from __future__ import annotations

import gc
import json
import math
import os
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from study_loops import merit
from torch import nn
from torch.utils.data import TensorDataset

from aquasurf_ray import Study, search
from aquasurf_ray.activations import BASELINES, Activation
from aquasurf_ray.cli.main import main
from aquasurf_ray.driver import confirm, propose, resume
from aquasurf_ray.driver.errors import BadUse, TrialEnded
from aquasurf_ray.driver.run.lease_keeper import LeaseKeeper
from aquasurf_ray.store import RunExists, RunHeld, Store, StoreError, this_process
from aquasurf_ray.tasks import load_task

N_BASELINES = len(BASELINES)


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/s.db"


@pytest.fixture
def make(url):
    """Makes studies, which are closed at the end."""
    made = []

    def study(name="s", **options):
        task = {} if "task" in options else {"direction": "maximize"}
        made.append(Study(name, **{"store": url, "candidates": 40, **task, **options}))
        return made[-1]

    yield study
    for each in made:
        each.close()


def evaluations(url, name="s"):
    with Store.open(url) as store:
        return store.snapshot(store.run(name).id).evaluations


def told(study, n=None):
    """Tell so many trials, or all, their merit; return the functions."""
    functions = []
    while (n is None or len(functions) < n) and (trial := study.ask()) is not None:
        study.tell(trial, merit(trial.function))
        functions.append(trial.function)
    return functions


def test_callbacks_get_what_this_process_trains(make, url):
    got = []

    class Recorder:
        def on_event(self, event):
            got.append(event)

    study = make(evaluations=1, callbacks=[Recorder()])
    first, second = study.ask(), study.ask()
    study.tell(first, 0.25)
    study.tell(second, math.nan)
    third = study.ask()
    third.failed("no memory")
    names = [(type(event).__name__, event.function) for event in got]
    assert names == [
        ("EvaluationStarted", first.function),
        ("EvaluationStarted", second.function),
        ("EvaluationEnded", first.function),
        ("EvaluationEnded", second.function),
        ("EvaluationStarted", third.function),
        ("EvaluationFailed", third.function),
    ]
    assert [(e.status, e.score, e.number, e.best) for e in got[2:4]] == [
        ("done", 0.25, 1, 0.25),
        ("diverged", None, 2, 0.25),
    ]
    assert (got[5].error, got[5].attempts, got[5].final) == ("no memory", 1, False)
    with pytest.raises(BadUse, match="a callback must be an object with a method on_event"):
        make("t", callbacks=[print])


def test_callbacks_are_called_in_the_thread_that_asks_and_tells_one_after_the_other(make):
    got, own, inside = [], [], []

    class Recorder:
        def on_event(self, event):
            inside.append(1)
            time.sleep(0.002)
            got.append((type(event).__name__, threading.get_ident(), len(inside)))
            inside.pop()

    study = make(evaluations=1, callbacks=[Recorder()])

    def loop():
        told(study, 3)
        mine = [name for name, thread, _ in got if thread == threading.get_ident()]
        own.append([name for name in mine if name != "FunctionSuggested"])

    together = threading.Barrier(3)  # so that no thread does the work of two
    with ThreadPoolExecutor(3, initializer=together.wait) as threads:
        for done in [threads.submit(loop) for _ in range(3)]:
            done.result()
    assert sorted(len(names) for names in own) == [6, 6, 6]
    assert all(names == ["EvaluationStarted", "EvaluationEnded"] * 3 for names in own)
    assert {n for _, _, n in got} == {1}


def test_baselines_come_first_then_what_the_surrogate_suggests(make, url):
    functions = told(make(evaluations=6))
    assert functions[:N_BASELINES] == list(BASELINES)
    assert len(set(functions)) == N_BASELINES + 6
    stored = evaluations(url)
    assert [each.origin for each in stored] == ["baseline"] * N_BASELINES + ["suggestion"] * 6
    assert [each.evaluation.score for each in stored] == pytest.approx([merit(f) for f in functions])
    assert all(each.suggestion.predicted_score is not None for each in stored[N_BASELINES:])


@pytest.mark.slow
def test_a_study_chooses_as_a_search_of_the_driver_does(make, url, tmp_path, ray_here):
    """One way from candidate to result: the same seed and results give the same functions."""
    from scripted_worker import ScriptedWorker, score_of

    options = {"candidates": 40, "evaluations": 6, "features": "outputs"}
    searched = f"sqlite:///{tmp_path}/searched.db"
    search("digits", worker=ScriptedWorker, name="s", store=searched, workers=1, cpus_per_worker=0.4, **options)
    study = make(task="digits", evaluations=6, features="outputs")
    for trial in study:
        study.tell(trial, score_of(trial.function))
    functions = [[each.function for each in evaluations(where)] for where in (searched, url)]
    assert functions[0] == functions[1]


def test_the_surrogate_finds_better_functions_than_chance(make, url):
    study = make(candidates=150, first_candidates=150, evaluations=20)
    found = told(study)[N_BASELINES:]
    with Store.open(url) as store:
        all_merits = [merit(f.name) for f in store.candidates(store.run("s").id)]
    assert np.median([merit(f) for f in found]) > np.median(all_merits)
    assert max(merit(f) for f in found) >= np.quantile(all_merits, 0.98)


def test_lower_is_better_if_the_direction_says_so(make, url):
    study = make(direction="minimize", metric="loss", evaluations=2)
    for trial in study:
        study.tell(trial, 5.0 - merit(trial.function))
    values = study.dataframe()["value"]
    assert study.best_trial.value == min(values)
    assert study.best_trial.function == study.dataframe()["function"][int(np.argmin(values))]
    assert [each.evaluation.score for each in evaluations(url)] == [-value for value in values]


def test_the_direction_must_be_given(url):
    with pytest.raises(BadUse, match=r"direction: say whether the values .* 'maximize' or to 'minimize'"):
        Study("s", store=url)
    with pytest.raises(BadUse, match="direction must be 'maximize' or 'minimize', got 'max'"):
        Study("s", store=url, direction="max")


def test_values_may_be_tensors_and_numbers_that_are_not_finite_mean_diverged(make, url):
    study = make()
    values = [torch.tensor(0.25), np.float32(0.5), 1, math.nan, math.inf, -math.inf]
    for value in values:
        study.tell(study.ask(), value)
    found = [each.evaluation for each in evaluations(url)]
    assert [e.status for e in found] == ["done"] * 3 + ["diverged"] * 3
    assert [e.score for e in found] == [0.25, 0.5, 1.0, None, None, None]
    assert found[3].reason == "the value that was told is nan"
    trial = study.ask()
    for wrong in ("0.5", None, True, [1, 2]):
        with pytest.raises(BadUse, match="a value must be a number, got"):
            study.tell(trial, wrong)
    study.tell(trial, 0.1)


def test_a_trial_is_told_once(make):
    study = make()
    trial = study.ask()
    study.tell(trial, 0.5)
    with pytest.raises(TrialEnded, match=r"^trial 0 of study 's' has ended already: it was told; ask for another$"):
        study.tell(trial, 0.5)
    with pytest.raises(TrialEnded, match="it was told"):
        trial.failed()
    assert study.best_trial.value == 0.5


def test_a_trial_is_told_by_its_number_where_it_was_asked(make):
    one, two = make(), make()
    trial = one.ask()
    with pytest.raises(BadUse, match=r"^trial 0 was not asked for by this Study; tell it where it was asked$"):
        two.tell(trial.number, 0.5)
    with pytest.raises(BadUse, match=r"^Trial\(0, 'elu\(x\)', open\) was not asked for by this Study"):
        two.tell(trial, 0.5)
    one.tell(trial.number, 0.5)
    assert two.best_trial == one.best_trial


def test_a_failed_trial_is_asked_again_and_given_up_after_its_attempts(make, url):
    study = make(max_attempts=2)
    first = study.ask()
    first.failed("no memory")
    second = study.ask()
    assert (second.function, second.number) == (first.function, first.number)
    second.failed("no memory")
    assert study.ask().function != first.function
    failed = evaluations(url)[0].evaluation
    assert (failed.status, failed.attempts, failed.error) == ("failed", 2, "no memory")


def test_an_interrupted_study_continues_as_if_it_had_not_been(make, tmp_path):
    whole = told(make(store=f"sqlite:///{tmp_path}/whole.db"), 14)
    study = make()
    first = told(study, 10)
    open_trial = study.ask()
    study.close()
    with pytest.raises(BadUse, match="study 's' is closed"):
        study.ask()
    with pytest.raises(BadUse, match="closed"):
        study.tell(open_trial, 0.5)
    assert [*first, *told(make(), 4)] == whole, "the trial that was open is asked first"


def test_a_study_that_nobody_has_any_more_gives_its_trials_back(make, url):
    study = Study("s", direction="maximize", store=url, candidates=40)
    trial = study.ask()
    del study
    gc.collect()
    assert evaluations(url)[0].evaluation.status == "queued"
    with pytest.raises(BadUse, match="was given back"):
        trial.failed()
    assert make().ask().function == trial.function


def test_a_budget_can_be_raised_and_is_shared(make, url):
    assert len(told(make(evaluations=2))) == N_BASELINES + 2
    assert len(told(make(evaluations=5))) == 3
    assert told(make()) == [], "without a number, the study keeps its own"
    with Store.open(url) as store:
        assert (store.run("s").budget, store.run("s").status) == (5, "finished")


def test_a_lower_budget_is_said_and_cannot_be_less_than_what_is_done(make, url, caplog):
    told(make(evaluations=10), N_BASELINES + 3)
    with pytest.raises(BadUse, match="run 's' has finished 3 evaluations; evaluations cannot be lower, got 2"):
        make(evaluations=2)
    assert len(told(make(evaluations=4))) == 1
    assert "run 's': the budget is lowered from 10 evaluations to 4" in caplog.text
    with Store.open(url) as store:
        assert (store.run("s").budget, store.run("s").status) == (4, "finished")


def test_a_study_without_a_limit_gets_one(make, caplog):
    told(make(), N_BASELINES + 3)
    with pytest.raises(BadUse, match="has finished 3 evaluations"):
        make(evaluations=2)
    assert len(told(make(evaluations=5))) == 2
    assert "the budget is lowered from no limit to 5" in caplog.text


def test_another_process_follows_a_budget_that_changes(make, url):
    one = make(evaluations=10)
    told(one, N_BASELINES + 2)
    two = make(evaluations=10)
    left = [one.ask(), two.ask()]
    two.close()  # its trial is queued again, and the lower budget has no room for it
    make(evaluations=3)
    one.tell(left[0], 0.1)
    assert one.ask() is None
    assert len(evaluations(url)) == N_BASELINES + 3
    make(evaluations=6)
    assert len(told(one)) == 3, "it opens the run again, without lowering the budget to its own"


def test_a_process_with_trials_of_its_own_does_not_wait_and_others_do(make):
    one, two = make(evaluations=1), make(evaluations=1)
    trials = [one.ask() for _ in range(N_BASELINES)]
    for trial in trials:
        one.tell(trial, merit(trial.function))
    last = one.ask()
    assert one.ask() is None, "it has the last trial itself"
    assert two.ask(timeout=0.3) is None
    last.failed()
    assert two.ask(timeout=0).function == last.function


def test_all_candidates_can_be_used_up(make, url):
    functions = told(make(candidates=5))
    assert len(functions) == N_BASELINES + 5
    with Store.open(url) as store:
        assert store.run("s").status == "finished"


def test_the_last_trials_are_second_seeds_of_the_best_and_the_best_trial_is_the_best_mean(make, url):
    study, values = make(evaluations=10, leader_seeds=2), {}
    while (trial := study.ask()) is not None:
        value = merit(trial.function) + (0.3 * math.sin(100 * merit(trial.function)) if trial.seed == 0 else 0.0)
        values.setdefault(trial.function, []).append(value)
        study.tell(trial, value)
    assert [request.evaluation.seed for request in evaluations(url)] == [0] * (N_BASELINES + 8) + [1] * 2
    means = {function: sum(of) / len(of) for function, of in values.items()}
    assert study.best_trial.function == max(means, key=means.get)
    assert study.best_trial.value == pytest.approx(max(means.values()))


def test_second_seeds_need_a_number_of_evaluations_which_the_store_may_have(make, url):
    with pytest.raises(BadUse, match="leader_seeds: 2 needs evaluations=N, because the last fifth of them"):
        make(leader_seeds=2)
    with Store.open(url) as store:
        assert store.runs() == []
    make(evaluations=10, leader_seeds=2).close()
    again = make(leader_seeds=2)
    assert len(told(again)) == N_BASELINES + 10


def test_functions_that_somebody_enqueues_are_asked_first(make, url):
    study = make()
    propose("s", ["mul(x,erf(x))"], store=url)
    assert study.ask().function == "mul(x,erf(x))"
    assert evaluations(url)[0].origin == "proposal"


def test_learning_curves_are_stored_with_the_value(make, url):
    study = make(direction="minimize")
    trial = study.ask()
    for epoch, value in enumerate([3.0, math.nan, 1.0], start=1):
        trial.report(value, epoch)
    with pytest.raises(BadUse, match="epoch must be a whole number from 1, got 0"):
        trial.report(0.5, 0)
    study.tell(trial, 1.0)
    with Store.open(url) as store:
        curve = store.curve(evaluations(url)[0].evaluation.id)
    assert [(row.epoch, row.val_score) for row in curve] == [(1, -3.0), (2, None), (3, -1.0)]


def test_the_epochs_of_a_trial_are_the_last_one_that_it_reported(make, url):
    study = make(evaluations=1)
    reporting, silent = study.ask(), study.ask()
    for epoch in (20, 60, 40):
        reporting.report(0.5, epoch)
    study.tell(reporting, 0.9)
    study.tell(silent, math.nan)
    assert study.dataframe()["epochs"].isna().tolist() == [False, True]
    assert study.dataframe()["epochs"][0] == 60
    assert [each.evaluation.epochs for each in evaluations(url)] == [60, None]


def test_a_trial_that_has_ended_takes_no_more_reports(make):
    study = make()
    told_one, failed_one, open_one = study.ask(), study.ask(), study.ask()
    study.tell(told_one, 0.5)
    failed_one.failed("no memory")
    for trial, how in ((told_one, "was told"), (failed_one, "failed")):
        with pytest.raises(TrialEnded, match=f"^trial {trial.number} of study 's' has ended already: it {how};"):
            trial.report(0.3, 2)
    study.close()
    with pytest.raises(BadUse, match="study 's' is closed"):
        open_one.report(0.3, 1)


def test_a_number_of_evaluations_may_be_text_like_every_other_number(make, url):
    study = make(evaluations="2", candidates="40")
    assert len(told(study)) == N_BASELINES + 2
    with Store.open(url) as store:
        assert store.run("s").budget == 2


def test_wrong_arguments_of_methods_are_named(make):
    study = make()
    trial = study.ask()
    for call, text in (
        (lambda: study.ask(timeout="soon"), "timeout must be a number, got 'soon'"),
        (lambda: study.compute_spectra("all"), "most must be a whole number of spectra, got 'all'"),
        (lambda: study.tell("0", 0.5), "a trial must be what ask\\(\\) returned, or its number, got '0'"),
        (lambda: study.tell(True, 0.5), "a trial must be what ask\\(\\) returned, or its number, got True"),
        (lambda: study.fail(None), "a trial must be what ask\\(\\) returned, or its number, got None"),
        (lambda: trial.failed(3), "reason must be text, got 3"),
    ):
        with pytest.raises(BadUse, match=text):
            call()
    assert trial.state == "open"


def test_another_study_of_the_name_is_refused(make):
    make()
    with pytest.raises(RunExists, match=r"run 's' exists with another configuration \(study .*minimize"):
        make(direction="minimize")
    with pytest.raises(
        RunExists, match=r"candidates 40 -> 50.*; to read its table alone, with .*\.evaluations\(run='s'\)"
    ):
        make(candidates=50)


def test_wrong_options_are_named(url):
    for options, text in (
        ({"workers": 2}, "a Study has no option 'workers'"),
        ({"features": "both"}, "features 'both' need spectra"),
        ({"features": 3}, "features and examples go together"),
        ({"space": "open"}, "grows in a single driver"),
        ({"surrogate": "aquasurf"}, "a Study needs metric, got 'aquasurf'"),
        ({"candidates": 0}, "candidates must be at least 1, got 0"),
        ({"features": "digits", "task": "digits"}, "the spectra are of that task"),
        ({"evaluations": "many"}, "evaluations must be .*, got 'many'"),
        ({"evaluations": [5]}, "evaluations must be"),
        ({"regressor": "5"}, "regressor must be one of gp, knr, rfr, svr, got '5'"),
        ({"metric": 5.5}, "metric must be a name on one line, got 5.5"),
        ({"metric": object()}, "metric must be a name on one line, got <object"),
        ({"metric": " "}, "metric must be a name on one line, got ' '"),
        ({"task": b"digits"}, "task must be a Task or the name of one, got b'digits'"),
        ({"objective": "accuracy"}, "objective goes with a network factory"),
        ({"features": nn.Linear, "examples": "train"}, "train split must be a data set or a DataLoader, got a str"),
    ):
        with pytest.raises(BadUse, match=text):
            Study("s", store=url, **{"direction": "maximize", **options})
    with pytest.raises(BadUse, match="task 'digits' has the metric accuracy, to maximize; got None and 'minimize'"):
        Study("s", store=url, task="digits", direction="minimize")


@pytest.mark.slow
def test_a_driver_and_a_study_keep_out_of_each_others_way(make, url):
    study = make()
    trial = study.ask()
    with Store.open(url) as store:
        run = store.run("s")
        with pytest.raises(RunHeld, match=f"a study that .* pid {os.getpid()} asks"):
            store.acquire_lease(run.id, this_process())
        study.tell(trial, 0.5)
        lease = store.acquire_lease(run.id, this_process())
        with LeaseKeeper(store, lease, 3.0):
            with pytest.raises(RunHeld, match="is held by"):
                study.ask()
            with pytest.raises(RunHeld, match="is held by"):
                make()
        store.release_lease(lease, "interrupted")
    assert study.ask().function == BASELINES[1], "the study goes on when the driver has ended"


def test_a_forked_process_is_told_to_open_the_study_itself(make):
    study = make()
    trial = study.ask()
    pid = os.fork()
    if not pid:
        try:
            study.ask()
        except BadUse as error:
            os._exit(0 if "open it in this process too" in str(error) else 2)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    study.tell(trial, 0.5)


@pytest.mark.slow
def test_ray_is_not_even_imported(tmp_path):
    code = f"""
import sys
sys.modules["ray"] = None  # importing it is an error now
from aquasurf_ray import Study
study = Study("s", direction="maximize", features="digits", candidates=4, first_candidates=4, evaluations=1,
              store="sqlite:///{tmp_path}/s.db")
for trial in study:
    study.tell(trial, 0.5)
assert len(study.dataframe()) == {N_BASELINES + 1}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def network(activation):
    return nn.Sequential(nn.Linear(6, 8), activation(), nn.Linear(8, 3))


@pytest.fixture
def table():
    draw = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(64, 6, generator=draw), torch.randint(3, (64,), generator=draw))


def test_spectra_of_a_network_are_computed_by_whoever_asks(make, url, table):
    study = make(features=network, examples=table, evaluations=3, candidates=12, first_candidates=12)
    functions = told(study)
    assert len(functions) == N_BASELINES + 3
    with Store.open(url) as store:
        run = store.run("s")
        candidates = {f.id for f in store.candidates(run.id)}
        spectra = store.spectra(run.task_id, candidates)
        assert "100% of" in store.spectrum_coverage(run.id)
    assert len(candidates) == N_BASELINES + 12
    assert len(spectra) >= 12


def test_spectra_are_those_that_a_worker_would_have_computed(make, url, table):
    from aquasurf_ray.surrogate.spectra import SpectrumFeature
    from aquasurf_ray.workers.actor import Worker
    from aquasurf_ray.workers.messages import WorkerSettings

    study = make(features="digits", candidates=2)
    n = N_BASELINES + 2
    # All of them: each process begins at a place of its own, so that several seldom compute the same ones.
    assert study.compute_spectra(most=3) + study.compute_spectra() == n
    with Store.open(url) as store:
        run = store.run("s")
        names = {f.id: f.name for f in store.candidates(run.id)}
        spectra = store.spectra(run.task_id, names)
    assert len(spectra) == n
    assert any(record.status == "done" for record in spectra.values())
    worker = Worker(WorkerSettings(load_task("digits"), threads=torch.get_num_threads()))
    for number, record in spectra.items():
        (reply,) = worker.spectra([names[number]])
        assert (record.status, record.reason) == (reply.status, reply.reason)
        if record.status == "diverged":
            continue
        ours, theirs = SpectrumFeature.from_bytes(record.feature), SpectrumFeature.from_bytes(reply.feature)
        assert ours.to_bytes() == theirs.to_bytes()


def test_a_worker_can_compute_the_spectra_beforehand(make, table):
    options = {"features": network, "examples": table, "candidates": 10, "first_candidates": 10}
    worker, asker = make(**options), make(**options)
    assert worker.compute_spectra() == N_BASELINES + 10
    told(asker, N_BASELINES)
    assert asker.ask() is not None
    assert asker.compute_spectra() == 0
    assert make("outputs-only").compute_spectra() == 0


def test_a_network_that_ignores_its_activation_is_refused(make, table):
    def ignoring(activation):
        activation()
        return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))

    with pytest.raises(BadUse, match="activation"):
        make(features=ignoring, examples=table, candidates=4).compute_spectra()


def test_the_activation_of_a_trial_is_its_function(make):
    trial = make().ask()
    x = torch.linspace(-3, 3, 50)
    assert torch.equal(trial.activation()(x), Activation(trial.function)(x))
    assert trial.activation() is not trial.activation()
    assert repr(trial) == "Trial(0, 'elu(x)', open)"


def test_a_study_of_a_task_shares_its_results_and_is_the_run_that_a_search_makes(make, url, ray_here, tmp_path):
    from scripted_worker import ScriptedWorker, score_of

    study = make(task="digits", evaluations=4, features="outputs")
    for _ in range(N_BASELINES + 2):
        trial = study.ask()
        study.tell(trial, score_of(trial.function))
    study.close()
    result = resume("s", store=url, worker=ScriptedWorker, workers=1, cpus_per_worker=0.4)
    assert result.evaluations == N_BASELINES + 4, "the driver trains what is left"
    assert len(result.dataframe()) == N_BASELINES + 4
    other = make("other", task="digits", evaluations=4, features="outputs", seed=3)
    assert other.ask().function not in {each.function for each in evaluations(url)}, "nothing is trained again"


def test_a_value_that_the_tasks_metric_cannot_have_is_refused(make):
    study = make(task="digits", evaluations=4, features="outputs")
    trial = study.ask()
    with pytest.raises(
        BadUse, match=r"metric accuracy of task 'digits' is declared to lie in \[0, 1\], got 85.5; tell"
    ):
        study.tell(trial, 85.5)
    study.tell(trial, 1.0 + 1e-7)  # a mean in float32
    study.tell(study.ask(), float("inf"))


def test_values_of_ones_own_are_kept_apart_from_those_of_the_task(make, url):
    told(make("one", features="outputs"), 3)
    told(make("two", features="outputs"), 2)
    with Store.open(url) as store:
        assert store.run("one").task_id != store.run("two").task_id
    assert [each.reused for each in evaluations(url, "two")] == [False] * 2


def test_commands_show_a_study(make, url, capsys, tmp_path):
    study = make(evaluations=4, metric="bleu")
    told(study, 10)
    trial = study.ask()

    def run(*words):
        code = main([*words, "--store", url])
        return code, *capsys.readouterr()

    assert f"{this_process().host}" in run("status", "s")[1]
    assert "running" in run("status")[1]
    code, _, err = run("resume", "s")
    assert code == 2
    assert "run 's' is a study, which your own loop continues: Study('s', ...)" in err
    study.tell(trial, 0.5)
    study.close()
    assert "interrupted" in run("status")[1]
    top = run("top", "s")[1]
    assert "bleu" in top
    assert trial.function in top
    assert trial.function in run("show", trial.function)[1]
    assert run("query", "SELECT count(*) AS n FROM evaluations")[0] == 0
    assert run("report", "s", "-o", str(tmp_path / "s.html"))[0] == 0
    assert "bleu" in (tmp_path / "s.html").read_text()
    code, _, err = run("confirm", "s")
    assert code == 2
    assert "run 's' is a study without a task" in err


def test_show_counts_as_the_study_does_and_says_why_it_has_no_learned_values(make, url, capsys):
    study = make()
    told(study, 2)
    propose("s", ["mul(x,sigmoid(mul(learn(1),x)))"], store=url)
    trial = study.ask()
    study.tell(trial, 0.5)
    assert main(["show", trial.function, "--store", url]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"origin proposal, number {trial.number} of the run" in shown
    assert "learned not stored: the values are in the networks of the study's own loop" in shown
    frame = study.dataframe()
    assert frame["function"][trial.number] == trial.function
    main(["show", "relu(x)", "--store", url])
    assert "learned" not in capsys.readouterr().out


@pytest.mark.slow
def test_the_winners_of_a_study_are_confirmed_where_there_is_a_task(make, url, ray_here, tmp_path):
    from scripted_worker import ScriptedWorker, score_of

    study = make(features="digits", candidates=6, first_candidates=6, evaluations=2)
    for trial in study:
        study.tell(trial, score_of(trial.function))
    result = confirm("s", top=1, seeds=2, store=url, worker=ScriptedWorker, workers=1, cpus_per_worker=0.4)
    frame = result.dataframe()
    assert set(frame["seed"]) == {1, 2}
    best = max((f for f in study.dataframe()["function"][N_BASELINES:]), key=score_of)
    assert set(frame["function"]) == {*BASELINES, best}
    assert set(frame["task"]) == {"digits"}, "they are trainings of the task, not of the loop"


def test_stop_ends_all_processes_of_a_study_and_no_later_one(make, url, capsys):
    first, second = make(evaluations=3), make(evaluations=3)
    trial = first.ask()
    assert main(["stop", "s", "--store", url]) == 0
    assert f"{this_process().host} pid {os.getpid()} ask for no more" in capsys.readouterr().out
    first.tell(trial, 0.5)
    assert first.ask() is None
    assert second.ask() is None, "it does not wait for the others either"
    assert main(["stop", "s", "--store", url, "--wait"]) == 0
    assert "study 's' has stopped" in capsys.readouterr().out
    first.close()
    second.close()
    assert main(["stop", "s", "--store", url]) == 0
    assert "is not running, it is interrupted" in capsys.readouterr().out
    third = make(evaluations=3)
    assert len(told(third, 2)) == 2, "a request is for the processes of its time"
    assert main(["stop", "s", "--store", url, "--finish"]) == 0
    assert status_of(url, capsys)["status"] == "finished"
    assert third.ask() is None


def status_of(url, capsys):
    capsys.readouterr()
    assert main(["status", "s", "--store", url, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def loops_of(url, capsys):
    return [(loop["trials"], loop["state"]) for loop in status_of(url, capsys)["loops"]]


def test_a_study_that_is_open_is_running_whether_or_not_it_has_a_trial(make, url, capsys):
    first = make(evaluations=1)
    assert (status_of(url, capsys)["status"], loops_of(url, capsys)) == ("running", [(0, "alive")])
    told(first, 1)
    assert (status_of(url, capsys)["status"], loops_of(url, capsys)) == ("running", [(0, "alive")])
    second = make(evaluations=1)
    first.close()
    assert status_of(url, capsys)["status"] == "running", "another process has it open"
    second.close()
    assert (status_of(url, capsys)["status"], loops_of(url, capsys)) == ("interrupted", [])
    third = make(evaluations=1)
    assert status_of(url, capsys)["status"] == "running"
    told(third)
    assert status_of(url, capsys)["status"] == "finished"
    third.close()
    make(evaluations=1)
    assert status_of(url, capsys)["status"] == "finished", "who only reads it starts nothing"


def test_a_study_whose_processes_died_is_not_called_running(make, url, capsys):
    study = make()
    study.ask()
    with Store.open(url) as store:
        for table in ("trial_leases", "study_processes"):  # the process number is another process's now
            dead = f"UPDATE {table} SET owner = json_set(owner, '$.started', 1)"
            store._write(lambda c, dead=dead: c.exec_driver_sql(dead))
    assert (status_of(url, capsys)["status"], loops_of(url, capsys)) == ("interrupted", [(1, "dead")])
    assert (status_of(url, capsys)["running"], status_of(url, capsys)["queued"]) == (0, 1), "it waits for a process"
    assert main(["stop", "s", "--store", url]) == 0
    assert "is not running, it is interrupted" in capsys.readouterr().out


def test_a_loss_with_its_graph_is_told_and_reported_without_a_warning(make):
    """PyTorch warns of a float that is taken from a graph, and warnings are errors here."""
    study = make(direction="minimize", metric="val_loss", evaluations=1)
    loss = nn.functional.mse_loss(nn.Linear(2, 1)(torch.ones(1, 2)), torch.zeros(1, 1))
    trial = study.ask()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trial.report(loss, 1)
        study.tell(trial, loss)
    assert study.best_trial.value == loss.item()


@pytest.mark.parametrize("text", ["runs.db", "/home/me/runs.db", "sqlite:/runs.db", "mysql://host/runs"])
def test_a_store_that_is_no_url_is_refused_with_the_form_of_one(text):
    with pytest.raises(StoreError, match=r"give sqlite:///FILE or postgresql\+psycopg://USER@HOST/DATABASE"):
        Study("s", direction="maximize", store=text)
