"""A run in which no baseline trains fails with the task's name on it, and begins again once the task is mended."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import ray
from scripted_worker import ScriptedWorker

from aquasurf_ray.activations import BASELINES
from aquasurf_ray.cli.main import exit_code
from aquasurf_ray.driver import resume, search
from aquasurf_ray.driver.errors import TaskAtFault
from aquasurf_ray.store import Store

pytestmark = pytest.mark.usefixtures("ray_here")


class Broken(ScriptedWorker):
    """Every training diverges while the file `broken` is in the folder, but for the functions that it names."""

    def __init__(self, settings):
        super().__init__(settings)
        self.broken = Path(settings.import_from) / "broken"

    @ray.method(concurrency_group="work")
    def train(self, job):
        if self.broken.exists() and job.function not in self.broken.read_text().splitlines():
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


def test_a_run_without_a_baseline_that_trains_blames_the_task_and_resumes_once_it_is_mended(here):
    with pytest.raises(TaskAtFault) as stopped:
        begun(here)
    text = str(stopped.value)
    assert text.startswith(f"no baseline trains ({len(BASELINES)} diverged; 5 of 8: training loss became nan with s)")
    assert "the fault is the task's and not the functions'" in text
    assert text.endswith(f"'aquasurf task check digits'; once it is mended: aquasurf resume one --store {here}")
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


def test_a_run_with_one_baseline_that_trains_goes_on(here):
    Path("broken").write_text(BASELINES[-1])
    result = begun(here)
    assert (result.evaluations, result.diverged) == (len(BASELINES) + 4, len(BASELINES) - 1 + 4)
