"""The command merge, as people type it."""

from __future__ import annotations

import json

import pytest

from aquasurf_ray.cli.main import main
from aquasurf_ray.store import EvaluationResult, FunctionRow, NewRun, Store, this_process


@pytest.fixture
def laptop(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AQUASURF_STORE", raising=False)
    with Store.open("sqlite:///laptop.db") as store:
        task = store.add_task("digits", "1", "digest", {})
        functions = store.add_functions([FunctionRow("f", "f(x)", 1)])
        run = store.create_run(NewRun("one", "search", task, {}, "digest", 0, 1, None, "0.1.0"), functions)
        lease = store.acquire_lease(run.id, this_process())
        claim = store.claim(lease, functions[0], 0, "suggestion")
        store.record_result(lease, claim.evaluation_id, EvaluationResult("done", score=0.5))
        yield store, lease


@pytest.mark.slow
def test_it_says_what_it_brought_in_and_that_there_was_nothing_more(laptop, capsys, tmp_path):
    store, lease = laptop
    assert main(["merge", "sqlite:///laptop.db"]) == 0
    said = capsys.readouterr().out
    assert "run one: left out, since a driver is working on it; merge again when it has ended" in said
    store.release_lease(lease, "finished")
    assert main(["merge", "sqlite:///laptop.db"]) == 0
    assert capsys.readouterr().out == "sqlite:///laptop.db: brought in 1 evaluation\nrun one: new\n"
    assert main(["merge", "sqlite:///laptop.db", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["runs"] == [{"name": "one", "was": "one", "became": "known"}]
    assert document["evaluations"] == 0


def test_a_store_that_is_not_there_is_bad_use_and_makes_none(laptop, capsys, tmp_path):
    assert main(["merge", "sqlite:///none.db"]) == 2
    assert capsys.readouterr().err == "aquasurf: no database at 'none.db'; name an existing store\n"
    assert [file.name for file in tmp_path.glob("*.db")] == ["laptop.db"]
