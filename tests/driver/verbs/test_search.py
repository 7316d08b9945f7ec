"""Searches from end to end: budgets, resumption, sharing, proposals, faults, on real Ray and a real store."""

from __future__ import annotations

import importlib.metadata
import os
import signal
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace

import pytest
import scripted_worker
from scripted_worker import ScriptedGroup, ScriptedWorker
from store_reading import attempts_of

from aquasurf_ray.activations import BASELINES, register_unary, unregister
from aquasurf_ray.analysis.report.live import RunList
from aquasurf_ray.driver import evaluate, propose, resume, search
from aquasurf_ray.driver.cluster.pool import WorkerPool
from aquasurf_ray.driver.errors import BadUse, Interrupted, RunFailed, WorkersFailed
from aquasurf_ray.driver.events import Note, RunProgress
from aquasurf_ray.driver.run import session as execution
from aquasurf_ray.driver.verbs import command as command_of_verbs
from aquasurf_ray.driver.verbs import create_run as creation
from aquasurf_ray.store import RunExists, RunHeld, Store, this_process

pytestmark = pytest.mark.usefixtures("ray_here")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AQUASURF_STORE", raising=False)
    return f"sqlite:///{tmp_path}/runs.db"


@pytest.fixture
def misbehaving():
    """Operators whose names make the scripted worker inject_fault."""
    for name in MISBEHAVING:
        register_unary(name, OFFSETS[name])
    yield
    for name in MISBEHAVING:
        unregister(name)


MISBEHAVING = ("die", "die_once", "hang", "fail", "refuse", "crowded", "creep")
OFFSETS = {name: (lambda x, by=0.1 * i: x * x + by) for i, name in enumerate(MISBEHAVING, 7)}


def scripted(here, **options):
    """A search with workers that answer at once."""
    chosen = {"candidates": 40, "evaluations": 12, "cpus_per_worker": 0.4, "workers": 2, "store": here, **options}
    return search("digits", worker=ScriptedWorker, **chosen)


def opened(here):
    return Store.open(here, create=False)


def requests(here, name):
    with opened(here) as store:
        return store.snapshot(store.run(name).id).evaluations


def functions(here, name):
    return [request.function for request in requests(here, name)]


def test_a_search_meets_its_budget_exactly_and_leaves_nothing_open(here):
    result = scripted(here, name="one")
    assert (result.evaluations, result.exhausted) == (20, False)
    found = requests(here, "one")
    assert Counter(w.evaluation.status for w in found) == {"done": 20}
    assert Counter(w.origin for w in found) == {"baseline": 8, "suggestion": 12}
    assert [w.function for w in found[:8]] == list(BASELINES)
    assert len(set(functions(here, "one"))) == 20
    with opened(here) as store:
        run = store.run("one")
        assert (run.status, run.lease_owner) == ("finished", None)
        assert store.versions(run.id)["torch"] == importlib.metadata.version("torch")
    best = max(found, key=lambda w: w.evaluation.score)
    assert result.best == (best.function, scripted_worker.score_of(best.function))


@pytest.mark.slow
class Totals:
    """The totals of a run: the driver's, and, at the same time, those that the list of `watch` and `status` have."""

    def __init__(self, here):
        self.here, self.found = here, []

    def on_event(self, event):
        if isinstance(event, RunProgress):
            with opened(self.here) as store:
                (row,) = RunList(store).read()
                status = store.status(store.run(row["run"]).id)
            self.found.append((event.view.evaluations_wanted, row["wanted"], status.wanted))


def test_the_total_is_the_same_everywhere_from_the_first_moment_on(here):
    totals = Totals(here)
    scripted(here, name="one", evaluations=2, callbacks=[totals])
    scripted(here, name="one", evaluations=3, callbacks=[totals])
    assert set(totals.found) == {(10, 10, 10), (11, 11, 11)}
    assert totals.found == sorted(totals.found)


def test_a_run_may_have_a_name_in_any_letters(here):
    name = 'it\'s "déjà" 再び'
    assert scripted(here, name=name, evaluations=1, features="outputs").evaluations == 9
    assert resume(name, store=here, worker=ScriptedWorker, evaluations=2).evaluations == 10


@pytest.mark.slow
def test_every_suggestion_keeps_its_reason(here):
    scripted(here, name="one", surrogate="aquasurf")
    reasons = [w.suggestion for w in requests(here, "one") if w.origin == "suggestion"]
    assert all(reason.embedding_version and reason.rank >= 1 and len(reason.neighbors) == 3 for reason in reasons)
    with opened(here) as store:
        assert all(store.embedding(reason.embedding_version) is not None for reason in reasons)


@pytest.mark.slow
def test_one_worker_and_one_seed_give_one_sequence(here, tmp_path):
    scripted(here, name="one", workers=1)
    other = f"sqlite:///{tmp_path}/other.db"
    scripted(other, name="two", workers=1)
    assert functions(here, "one") == functions(other, "two")
    scripted(other, name="three", workers=1, seed=1)
    assert functions(other, "two") != functions(other, "three")


@pytest.mark.slow
def test_a_finished_run_is_left_alone_and_a_larger_budget_is_met(here):
    scripted(here, name="one")
    assert resume("one", store=here, worker=ScriptedWorker).evaluations == 20
    before = functions(here, "one")
    assert resume("one", store=here, worker=ScriptedWorker, evaluations=18).evaluations == 26
    assert functions(here, "one")[:20] == before
    with pytest.raises(BadUse, match="has finished 18 evaluations; evaluations cannot be lower, got 5"):
        resume("one", store=here, evaluations=5)


@pytest.mark.slow
def test_a_budget_can_be_lowered_to_what_is_done_and_drops_the_suggestions_that_are_open(here):
    scripted(here, name="one", workers=1, evaluations=4)
    with opened(here) as store:
        run = store.run("one")
        lease = store.acquire_lease(run.id, this_process())
        store.set_budget(lease, 9)
        open_ones = [
            store.claim(lease, function.id, 0, "suggestion").evaluation_id
            for function in store.candidates(run.id)
            if function.name not in functions(here, "one")
        ][:2]
        store.release_lease(lease, "interrupted", "stopped")
    notes = []
    result = resume("one", store=here, worker=ScriptedWorker, evaluations=5, callbacks=[Listening(notes)])
    assert "run 'one': the budget is lowered from 9 evaluations to 5" in notes
    assert (result.budget, result.evaluations) == (5, len(BASELINES) + 5)
    with opened(here) as store:
        assert [store.evaluation(number).status for number in open_ones] == ["done", "queued"]
        assert store.run("one").status == "finished"


@pytest.mark.slow
def test_an_extended_run_suggests_what_a_longer_one_would_have(here, tmp_path):
    scripted(here, name="one", workers=1)
    resume("one", store=here, worker=ScriptedWorker, workers=1, evaluations=20)
    other = f"sqlite:///{tmp_path}/other.db"
    scripted(other, name="long", workers=1, evaluations=20)
    assert functions(here, "one") == functions(other, "long")


@pytest.mark.slow
def test_a_second_run_trains_nothing_that_is_known(here):
    scripted(here, name="one", workers=1)
    notes = []
    scripted(here, name="two", workers=1, callbacks=[Listening(notes)])
    assert functions(here, "two") == functions(here, "one")
    assert all(w.reused for w in requests(here, "two"))
    assert any("48 spectra" in note and "used again" in note for note in notes)


class Listening:
    """A callback that keeps notes."""

    def __init__(self, notes):
        self.notes = notes

    def on_event(self, event):
        if isinstance(event, Note):
            self.notes.append(event.text)


@pytest.mark.slow
def test_a_name_taken_by_another_configuration_is_refused(here):
    scripted(here, name="one")
    with pytest.raises(Exception, match=r"run 'one' exists with another configuration \(candidates 40 -> 41\)"):
        scripted(here, name="one", candidates=41)
    with pytest.raises(BadUse, match="cannot change its seed"):
        resume("one", store=here, seed=5)
    with pytest.raises(RunExists, match="run 'one' is of kind 'search', not 'evaluate'"):
        evaluate(["relu(x)"], "digits", name="one", store=here)


@pytest.mark.slow
def test_too_many_workers_are_refused_and_nothing_is_created(here, tmp_path):
    with pytest.raises(BadUse, match="at most 2 do"):
        scripted(here, name="one", workers=3, cpus_per_worker=1.0)
    with pytest.raises(BadUse, match="workers: 64 with 1 CPUs"):
        evaluate(["relu(x)"], "digits", workers=64)
    assert list(tmp_path.iterdir()) == []
    scripted(here, name="one", evaluations=1)
    with pytest.raises(BadUse, match="at most 2 do"):
        scripted(here, name="two", workers=3, cpus_per_worker=1.0)
    with opened(here) as store:
        assert [run.name for run in store.runs()] == ["one"]


def test_ctrl_c_while_ray_starts_leaves_nothing(here, tmp_path, monkeypatch):
    monkeypatch.setattr(command_of_verbs, "connected", lambda _: nullcontext(os.kill(os.getpid(), signal.SIGINT)))
    with pytest.raises(Interrupted, match="stopped by SIGINT while Ray started; nothing was begun"):
        scripted(here)
    assert list(tmp_path.iterdir()) == []


def test_the_budget_ends_where_the_candidates_do(here):
    notes = []
    result = scripted(here, name="one", candidates=3, evaluations=12, callbacks=[Listening(notes)])
    assert (result.evaluations, result.exhausted) == (11, True)
    assert notes[-1].endswith("before the budget of 12 is met; a run of another name can have more candidates")
    with opened(here) as store:
        assert store.status(store.run("one").id).exhausted


@pytest.mark.slow
def test_proposals_are_trained_next_and_count(here):
    scripted(here, name="one", evaluations=4)
    ((name, proposal),) = propose("one", [" mul(swish(x), swish(x)) "], store=here)
    assert (name, proposal.status) == ("mul(swish(x),swish(x))", "queued")
    assert resume("one", store=here, worker=ScriptedWorker, evaluations=6).evaluations == 14
    found = requests(here, "one")
    assert found[12].function == "mul(swish(x),swish(x))"
    assert found[12].evaluation.status == "done"
    assert Counter(w.origin for w in found) == {"baseline": 8, "proposal": 1, "suggestion": 5}
    with pytest.raises(BadUse, match="unknown operator 'swishh' at 1"):
        propose("one", ["swishh(x)"], store=here)


@pytest.mark.slow
def test_another_driver_is_kept_off_a_run_that_is_held(here):
    scripted(here, name="one", evaluations=4)
    with opened(here) as store:
        lease = store.acquire_lease(store.run("one").id, this_process(), lease_seconds=60)
        beating = Beating(store, lease)
        with beating, pytest.raises(RunHeld, match=r"run 'one' .*pid"):
            resume("one", store=here, worker=ScriptedWorker, evaluations=6)
        store.release_lease(lease, "interrupted")
    assert resume("one", store=here, worker=ScriptedWorker, evaluations=6).evaluations == 14


class Beating:
    """A driver's heartbeat, faster than usual."""

    def __init__(self, store, lease):
        from aquasurf_ray.driver.run.lease_keeper import LeaseKeeper

        self.keeper = LeaseKeeper(store, lease, 1.0)

    def __enter__(self):
        return self.keeper.__enter__()

    def __exit__(self, *error):
        return self.keeper.__exit__(*error)


def space_file(tmp_path, *names):
    path = tmp_path / "space.yaml"
    path.write_text("name: own\nnames:\n" + "".join(f"  - {name}\n" for name in names))
    return str(path)


FILLERS = ("tanh(tanh(x))", "relu(tanh(x))", "elu(tanh(x))", "sigmoid(tanh(x))", "erf(tanh(x))", "arctan(tanh(x))")


@pytest.mark.reliability("worker-out-of-memory")
@pytest.mark.slow
def test_a_function_that_kills_its_worker_every_time_is_parked_with_its_error(here, tmp_path, misbehaving):
    options = {"candidates": 6, "evaluations": 1, "features": "outputs", "store": here, "name": "deaths", "workers": 1}
    search("digits", worker=ScriptedWorker, space=space_file(tmp_path, *FILLERS), **options)
    propose("deaths", ["die(x)"], store=here)
    result = resume("deaths", worker=ScriptedWorker, store=here, evaluations=3)
    assert (result.evaluations, result.failed) == (11, 1), "the budget is met by the others"
    (parked,) = [w for w in requests(here, "deaths") if w.evaluation.status == "failed"]
    assert (parked.function, parked.evaluation.attempts) == ("die(x)", 3)
    assert "Actor" in parked.evaluation.error


@pytest.mark.reliability("function-hangs")
@pytest.mark.slow
def test_a_function_that_hangs_is_killed_after_its_time_limit(here, tmp_path, misbehaving):
    space = space_file(tmp_path, "hang(x)")
    options = {"candidates": 1, "evaluations": 1, "features": "outputs", "store": here, "name": "hangs", "workers": 1}
    search("digits", worker=ScriptedWorker, space=space, time_limit=0.5, max_attempts=2, **options)
    (parked,) = [w for w in requests(here, "hangs") if w.evaluation.status == "failed"]
    assert "time limit of 0.5 s passed" in parked.evaluation.error
    assert parked.evaluation.attempts == 2


def test_a_worker_that_dies_once_costs_one_attempt_and_no_result(here, tmp_path, misbehaving):
    space, storage = space_file(tmp_path, "die_once(x)"), tmp_path / "storage"
    storage.mkdir()
    options = {"candidates": 1, "evaluations": 1, "features": "outputs", "store": here, "workers": 1}
    search("digits", worker=ScriptedWorker, space=space, name="once", storage=str(storage), **options)
    (request,) = [w for w in requests(here, "once") if w.origin == "suggestion"]
    assert (request.evaluation.status, request.evaluation.attempts) == ("done", 1)


@pytest.mark.reliability("out-of-memory-alone")
@pytest.mark.slow
def test_what_ran_out_of_memory_is_tried_again_with_the_machine_to_itself(here, tmp_path, misbehaving):
    """`crowded` has memory enough only while no other worker is busy, and takes long enough to be beside others."""
    storage = tmp_path / "storage"
    storage.mkdir()
    functions = ["crowded(x)", *FILLERS, "tanh(erf(x))", "elu(erf(x))"]
    options = {"store": here, "workers": 2, "cpus_per_worker": 0.5, "name": "alone", "storage": str(storage)}
    result = evaluate(functions, "digits", worker=ScriptedWorker, max_attempts=2, **options)
    assert (result.evaluations, result.failed) == (9, 0)
    found = {request.function: request.evaluation for request in requests(here, "alone")}
    assert found["crowded(x)"].attempts == 1, "it failed beside another, and was alone the next time"
    with opened(here) as store:
        tries = [a.outcome for a in attempts_of(store, found["crowded(x)"].id)]
    assert tries == ["failed", "done"]


@pytest.mark.reliability("attempts-and-progress")
@pytest.mark.faults
def test_the_count_of_attempts_restarts_at_each_later_checkpoint(here, tmp_path, misbehaving):
    """`creep` dies five times, each time with one more epoch saved; three tries without progress are the limit."""
    storage = tmp_path / "storage"
    storage.mkdir()
    options = {"store": here, "workers": 1, "name": "creeping", "storage": str(storage), "max_attempts": 2}
    assert evaluate(["creep(x)"], "digits", worker=ScriptedWorker, **options).evaluations == 1
    (request,) = requests(here, "creeping")
    assert (request.evaluation.status, request.evaluation.attempts) == ("done", 1)
    with opened(here) as store:
        assert [a.outcome for a in attempts_of(store, request.evaluation.id)] == ["failed"] * 5 + ["done"]


@pytest.mark.reliability("two-unnamed-runs")
@pytest.mark.slow
def test_an_unnamed_run_whose_name_is_taken_meanwhile_has_the_next_one(here, monkeypatch):
    """Between the look for a free name and the making of the run, another driver makes one of the same name."""
    scripted(here, evaluations=1)
    real = creation.free_name
    asked = []

    def overtaken(store, base):
        asked.append(name := real(store, base))
        if len(asked) == 1:
            return "digits-1"
        return name

    monkeypatch.setattr(creation, "free_name", overtaken)
    assert scripted(here, evaluations=2).name == "digits-2"
    assert len(asked) == 2


@pytest.mark.slow
def test_machines_that_always_fail_stop_the_run_which_can_be_resumed(here, tmp_path, misbehaving):
    space = space_file(tmp_path, *(f"fail({f})" for f in ("x", "tanh(x)", "erf(x)", "arctan(x)", "sigmoid(x)")))
    options = {"candidates": 5, "evaluations": 5, "features": "outputs", "store": here, "name": "broken", "workers": 1}
    with pytest.raises(WorkersFailed, match=r"the last 5 functions failed .*the data are gone"):
        search("digits", worker=ScriptedWorker, space=space, **options)
    with opened(here) as store:
        run = store.run("broken")
        assert run.status == "failed"
        assert "the data are gone" in run.message
        assert run.lease_owner is None


@pytest.fixture
def broken_machine(monkeypatch):
    """The first worker's machine is broken: whatever runs there fails, and its replacements too."""
    new_actor = WorkerPool._new_actor

    def on_its_machine(pool, number):
        whole = pool.settings
        pool.settings = replace(whole, task="broken-machine") if number == 1 else whole
        try:
            return new_actor(pool, number)
        finally:
            pool.settings = whole

    monkeypatch.setattr(WorkerPool, "_new_actor", on_its_machine)


@pytest.mark.slow
def test_one_broken_machine_costs_no_function_its_place(here, broken_machine):
    result = scripted(here, name="one")
    assert (result.evaluations, result.failed) == (20, 0)
    assert max(request.evaluation.attempts for request in requests(here, "one")) <= 1, (
        "never twice on the broken machine"
    )
    with opened(here) as store:
        run = store.run("one")
        ids = [function.id for function in store.candidates(run.id)]
        assert len(store.spectra(run.task_id, ids, fisher="sampled", seed=0)) == len(ids), "none goes without"


@pytest.mark.slow
def test_failed_evaluations_are_reported_and_retried_on_request(here, misbehaving):
    options = {"store": here, "workers": 1, "name": "two"}
    with pytest.raises(RunFailed, match=r"1 of 2 evaluations failed on their workers, the first fail\(x\)"):
        evaluate(["relu(x)", "fail(x)"], "digits", worker=ScriptedWorker, **options)
    with pytest.raises(RunFailed, match="1 of 2 evaluations failed"):
        resume("two", store=here, worker=ScriptedWorker)
    statuses = {w.function: (w.evaluation.status, w.evaluation.attempts) for w in requests(here, "two")}
    assert statuses == {"relu(x)": ("done", 0), "fail(x)": ("failed", 3)}


def test_a_fault_of_the_task_is_reported_at_once_and_not_retried(here, misbehaving):
    with pytest.raises(RunFailed, match=r"1 of 1 evaluations failed on their workers, the first refuse\(x\)"):
        evaluate(["refuse(x)"], "digits", worker=ScriptedWorker, store=here, workers=1, name="bad")
    (request,) = requests(here, "bad")
    assert (request.evaluation.status, request.evaluation.attempts) == ("failed", 1)
    assert request.evaluation.error == "TaskError: the images are of two sizes"


@pytest.mark.slow
def test_proposals_that_another_run_has_done_count_without_training(here):
    scripted(here, name="one", evaluations=4)
    known = functions(here, "one")[8:]
    scripted(here, name="two", evaluations=2, seed=5)
    propose("two", known[:2], store=here)
    assert resume("two", store=here, worker=ScriptedWorker, evaluations=5).evaluations == 13
    found = requests(here, "two")
    assert Counter(w.origin for w in found)["baseline"] == 8
    assert len(found) == 13


@pytest.mark.slow
def test_spectra_that_kill_their_worker_are_done_without(here, tmp_path, misbehaving):
    space = space_file(tmp_path, "die(x)", *FILLERS)
    notes = []
    options = {"candidates": 7, "evaluations": 3, "store": here, "name": "spectra", "workers": 1}
    result = search("digits", worker=ScriptedWorker, space=space, callbacks=[Listening(notes)], **options)
    assert result.evaluations == 11
    assert any(note.startswith("die(x) stays without a spectrum") for note in notes)


@pytest.mark.slow
def test_the_first_suggestion_is_trained_before_all_spectra_are_there(here, tmp_path, misbehaving):
    space, notes = space_file(tmp_path, "hang(x)", *FILLERS), []
    options = {"candidates": 7, "first_candidates": 9, "evaluations": 1, "seed": 10, "callbacks": [Listening(notes)]}
    assert scripted(here, name="one", space=space, **options).evaluations == 9
    with opened(here) as store:
        run = store.run("one")
        candidates = store.candidates(run.id)
        known = store.spectra(run.task_id, [f.id for f in candidates], fisher="sampled", seed=0)
    assert candidates[-1].name == "hang(x)", "or its batch might hold one of the first nine"
    assert "hang(x)" in {f.name for f in candidates if f.id not in known}, "its spectrum never comes"
    assert not any("stays without" in note for note in notes)


@pytest.mark.slow
def test_evaluate_trains_what_is_given_with_every_seed(here):
    result = evaluate(["relu(x)", " relu( x ) ", "tanh(x)"], "digits", seeds=2, store=here, workers=2)
    assert result.evaluations == 4
    name = result.name
    assert Counter((w.function, w.evaluation.seed) for w in requests(here, name)) == {
        ("relu(x)", 0): 1,
        ("relu(x)", 1): 1,
        ("tanh(x)", 0): 1,
        ("tanh(x)", 1): 1,
    }
    assert all(w.evaluation.val_accuracy > 0.5 for w in requests(here, name))
    again = evaluate(["tanh(x)", "relu(x)"], "digits", seeds=2, store=here)
    assert (again.name, again.evaluations) == (name, 4)


@pytest.mark.slow
def test_an_evaluation_on_two_processes_is_a_groups(here, monkeypatch):
    monkeypatch.setattr(execution, "GroupWorker", ScriptedGroup)
    asked = {"gpus_per_evaluation": 2, "gpus_per_worker": 0, "cpus_per_worker": 0.5}
    result = evaluate(["relu(x)"], "digits", store=here, **asked)
    (request,) = requests(here, result.name)
    assert (request.evaluation.status, request.evaluation.n_devices) == ("done", 2)


@pytest.mark.slow
def test_evaluate_reads_functions_after_the_modules_that_define_them(here, tmp_path):
    (tmp_path / "driver_test_operators.py").write_text(
        "import torch\nfrom aquasurf_ray.activations import register_unary\n"
        "register_unary('driver_test_bump', lambda x: torch.exp(-x * x))\n"
    )
    options = {"modules": ["driver_test_operators"], "store": here, "workers": 1}
    result = evaluate(["driver_test_bump(x)"], "digits", **options)
    unregister("driver_test_bump")
    assert result.evaluations == 1
    assert result.best is not None, "the real worker knew it too"


def test_a_real_search_learns_digits_and_shares_its_results(here):
    options = {"candidates": 20, "evaluations": 3, "store": here}
    result = search("digits", name="real", workers=2, **options)
    assert result.evaluations == 11
    assert result.best[1] > 0.9
    found = requests(here, "real")
    done = [w.evaluation.epochs for w in found if w.evaluation.status == "done"]
    assert len(done) >= 8
    assert set(done) == {16}
    with opened(here) as store:
        run = store.run("real")
        ids = [f.id for f in store.candidates(run.id)]
        spectra = store.spectra(run.task_id, ids, fisher="sampled", seed=0)
        assert len(spectra) == 28
        features = [s.feature for s in spectra.values() if s.status == "done"]
        assert len(features) >= 8
        assert all(features)
        assert len(store.curve(found[0].evaluation.id)) == 16
