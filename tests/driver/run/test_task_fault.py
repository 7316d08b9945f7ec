"""A run in which no baseline trains fails with the task's name on it, and begins again once the task is mended."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
import ray
from run_context import add_functions, open_context
from scripted_worker import ScriptedWorker

from aquasurf_ray.activations import BASELINES
from aquasurf_ray.cli.main import exit_code
from aquasurf_ray.driver import resume, search
from aquasurf_ray.driver.errors import TaskAtFault
from aquasurf_ray.driver.run.claims import Budget, Claims
from aquasurf_ray.driver.run.task_fault import refuse_task_without_baseline
from aquasurf_ray.driver.state.evaluations import state_of
from aquasurf_ray.store import EvaluationRequest, EvaluationResult, Store
from aquasurf_ray.training_metrics import metric_reason


class Broken(ScriptedWorker):
    """Every training diverges while the file `broken` is in the folder."""

    def __init__(self, settings):
        super().__init__(settings)
        self.broken = Path(settings.import_from[0]) / "broken"

    @ray.method(concurrency_group="work")
    def train(self, job):
        if self.broken.exists():
            reason = f"training loss became nan with {job.function[:1]}"
            return replace(self._train(job), status="diverged", reason=reason, score=None, epochs=())
        return self._train(job)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AQUASURF_STORE", raising=False)
    (tmp_path / "broken").touch()
    return f"sqlite:///{tmp_path}/runs.db"


def begun(here, **options):
    chosen = {"name": "one", "candidates": 12, "evaluations": 4, "workers": 2, "cpus_per_worker": 0.2}
    return search("digits", worker=Broken, **{**chosen, "features": "outputs", "store": here, **options})


def statuses(here):
    with Store.open(here, create=False) as store:
        run = store.run("one")
        return run, [each.evaluation.status for each in store.snapshot(run.id).evaluations]


@pytest.mark.usefixtures("ray_here")
@pytest.mark.slow
def test_a_run_without_a_baseline_that_trains_blames_the_task_and_resumes_once_it_is_mended(here):
    with pytest.raises(TaskAtFault) as stopped:
        begun(here)
    text = str(stopped.value)
    assert text.startswith(f"no baseline trains ({len(BASELINES)} diverged; 5 of 8: training loss became nan with s)")
    assert "the fault is the task's and not the functions'" in text
    assert "'aquasurf task check digits'; what diverged is queued again; a changed task needs a run of" in text
    assert text.endswith(f"resume one --store {here}")
    assert exit_code(stopped.value) == 1
    run, found = statuses(here)
    assert (run.status, run.message) == ("failed", text)
    assert set(found) == {"queued"}, "the store blames no function"

    with pytest.raises(TaskAtFault):
        resume("one", store=here, worker=Broken)
    os.remove("broken")
    result = resume("one", store=here, worker=Broken)
    assert (result.evaluations, result.diverged) == (len(BASELINES) + 4, 0)
    assert statuses(here)[0].status == "finished"


# --- without Ray ---------------------------------------------------------------------------------------------------

DIVERGED, DONE = EvaluationResult("diverged", reason="loss is nan"), EvaluationResult("done", score=0.5)


@pytest.fixture
def context(tmp_path):
    with Store.open(f"sqlite:///{tmp_path}/s.db") as opened:
        yield open_context(opened, "one", add_functions(opened, 5), requested=False)


FAILED = EvaluationResult("failed", reason="no space left")


def trained(context, *results, origin="baseline"):
    """Train the next candidates of the run with these results; None leaves one running."""
    claims = Claims(context, Budget((), 0), None)
    functions = context.history.candidates[len(context.history.evaluations) :]
    for function, result in zip(functions, results, strict=False):
        request = EvaluationRequest(function.id, 0, origin)
        (claim,) = context.store.claim_all(context.lease, [request])
        claims.update(claim)
        if result is FAILED:
            context.store.record_failure(context.lease, claim.evaluation_id, FAILED.reason, final=True)
        elif result is not None:
            context.store.record_result(context.lease, claim.evaluation_id, result)
        if result is not None:
            known = context.history.evaluations[claim.evaluation_id]
            context.history.evaluations.put(replace(known, status=result.status, score=result.score))


def refuse(context, n_baselines):
    refuse_task_without_baseline(context, Budget(tuple(context.history.candidates[:n_baselines]), 4))


@pytest.mark.parametrize("last", [DONE, None], ids=["done", "running"])
def test_a_baseline_that_trains_or_may_still_do_so_keeps_the_run_alive(context, last):
    trained(context, DIVERGED, DIVERGED, last)
    trained(context, DIVERGED, DIVERGED, origin="suggestion")
    refuse(context, n_baselines=3)
    assert context.history.evaluations.n(status={"diverged"}) == 4, "nothing is queued again"


def test_another_function_that_trains_keeps_the_run_alive(context):
    trained(context, DIVERGED, DIVERGED)
    trained(context, DONE, origin="suggestion")
    refuse(context, n_baselines=2)


def test_if_all_baselines_diverge_what_diverged_is_queued_again(context):
    trained(context, DIVERGED, DIVERGED)
    trained(context, DIVERGED, origin="suggestion")
    with pytest.raises(TaskAtFault, match=r"no baseline trains \(2 diverged; .*; what diverged is queued again$"):
        refuse(context, n_baselines=2)
    statuses = {each.evaluation.status for each in context.store.snapshot(context.run.id).evaluations}
    assert statuses == {"queued"}


NO_METRIC = replace(DIVERGED, reason=metric_reason("f1", math.nan, 3))


def test_a_metric_that_is_nan_for_finite_outputs_of_all_baselines_is_blamed_itself(context):
    trained(context, NO_METRIC, NO_METRIC)
    with pytest.raises(TaskAtFault) as raised:
        refuse(context, n_baselines=2)
    assert str(raised.value).startswith(
        f"no baseline gets a score (2 diverged; 2 of 2: {NO_METRIC.reason}), so the fault is the metric's and not the "
        "functions': look at its update() and compute(), also with 'aquasurf task check "
    )


def test_a_metric_that_is_nan_for_one_of_the_baselines_is_not(context):
    trained(context, NO_METRIC, DIVERGED)
    with pytest.raises(TaskAtFault, match=r"so the fault is the task's and not the functions'"):
        refuse(context, n_baselines=2)


def test_baselines_that_failed_on_their_workers_count_too_and_the_message_names_the_machines(context):
    trained(context, FAILED, DIVERGED, FAILED)
    with pytest.raises(
        TaskAtFault, match=r"no baseline trains \(1 diverged and 2 failed; 2 of 3: no space left\)"
    ) as raised:
        refuse(context, n_baselines=3)
    assert "the task's or the machines' and not the functions'" in str(raised.value)


def test_further_seeds_of_a_baseline_are_not_waited_for(context):
    trained(context, DIVERGED, DIVERGED)
    context.store.propose(context.run.id, [function.id for function in context.history.candidates], 1)
    for request in context.store.snapshot(context.run.id).evaluations:
        context.history.evaluations.put(state_of(request))
    with pytest.raises(TaskAtFault, match="2 diverged"):
        refuse(context, n_baselines=2)
