"""The command line: exit codes, one- or two-line errors, one JSON document, and help at once."""

from __future__ import annotations

import csv
import io
import json
import shlex
import subprocess
import sys
from dataclasses import replace

import pytest

from aquasurf_ray.cli.main import main
from aquasurf_ray.store import (
    EvaluationResult,
    FunctionRow,
    NewRun,
    SpectrumRecord,
    Store,
    SuggestionRecord,
    this_process,
)
from aquasurf_ray.store.records.evaluations import Neighbor

SCORES = {"relu(x)": 0.90, "tanh(x)": 0.85, "mul(sigmoid(x),elu(x))": 0.95}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with nothing in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AQUASURF_STORE", raising=False)
    return tmp_path


@pytest.fixture
def finished(here):
    """A working folder with the store of a small finished run."""
    from aquasurf_ray.activations import fingerprint, parse

    with Store.open("sqlite:///aquasurf.db") as store:
        task = store.add_task("digits", "1", "d" * 32, {"name": "digits"})
        rows = [FunctionRow(fingerprint(n), n, parse(n).n_operators, (n,)) for n in SCORES]
        ids = store.add_functions(rows)
        new = NewRun("one", "search", task, {"task": "digits", "training_seed": 0}, "c", 0, 1, None, "0.1.0")
        run = store.create_run(new, ids)
        lease = store.acquire_lease(run.id, this_process())
        for number, name in zip(ids, SCORES, strict=True):
            record(store, lease, number, name)
        store.record_spectra(lease, [SpectrumRecord(ids[0], "sampled", 0, "diverged", None, "overflow in layer 2")])
        store.release_lease(lease, "finished")
    return here


def record(store, lease, number, name):
    suggested = name.startswith("mul")
    why = SuggestionRecord(0.93, 2, (Neighbor(1, 0.25, 0.9),), "e" * 8) if suggested else None
    claim = store.claim(lease, number, 0, "suggestion" if suggested else "baseline", why)
    score = SCORES[name]
    result = EvaluationResult(
        "done",
        score=score,
        val_accuracy=score,
        test_score=score - 0.01,
        test_accuracy=score - 0.01,
        val_loss=float("nan"),
    )
    store.record_result(lease, claim.evaluation_id, result)


def run(capsys, *arguments):
    code = main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["search", "digitz"],
            "unknown task 'digitz'; did you mean 'digits'? A task of your own is given as",
        ),
        (["search", "digits", "--name", "a\nb"], r"control characters, got 'a\nb'"),
        (["search"], "no task given"),
        (["search", "digits", "--evaluations", "0"], "evaluations must be at least 1, got 0"),
        (["search", "digits", "--space", "five-node"], "five-node"),
        (["search", "digits", "--regressor", "knn"], "regressor must be one of gp, knr, rfr, svr, got 'knn'"),
        (["search", "digits", "--store", "mysql://me:secret@host/db"], "neither SQLite nor PostgreSQL"),
        (["search", "digits", "--config", "absent.yaml"], "config file 'absent.yaml' cannot be read"),
        (["search", "digits", "--workers", "many"], "--workers must be a whole number, got 'many'"),
        (["search", "digits", "--bogus"], "No such option"),
        (["search", "digits", "--store", "sqlite:////proc/no/such.db"], "/proc/no"),
        (["search", "digits", "--store", "postgresql+psycopg://me:secret@secret@host/db"], "write %40 in a password"),
        (["search", "digits", "--storage", "/proc/no/such"], "storage '/proc/no/such' cannot be written"),
        (
            ["spectrum", "relu(x)", "--task", "digits", "--seed", "9" * 30],
            "--seed must be at most 2147483647, got '999",
        ),
        (["resume", "one"], "aquasurf.db"),
        (
            ["evaluate", "mul(sigmiod(x),x)", "--task", "digits"],
            "unknown operator 'sigmiod' at 5; did you mean 'sigmoid'?",
        ),
        (["evaluate", "relu(x)"], "no task given"),
        (["evaluate", "relu(x)", "--task", "digits", "--modules", "no_such"], "module 'no_such' cannot be imported"),
        (["spectrum", "relu(x)", "--task", "digits", "--modules", "no_such"], "module 'no_such' cannot be imported"),
        (["search", "digits", "--fisher", "exact"], "fisher must be "),
        (["search", "digits", "--layer-weighting", "some"], "layer-weighting must be "),
        (["search", "digits", "--max-attempts", "0"], "max-attempts must be "),
        (["search", "digits", "--lease-seconds", "0"], "lease-seconds must be "),
        (["search", "digits", "--checkpoint-interval", "-1"], "checkpoint-interval must be "),
        (["evaluate", "relu(x)", "--config", "absent.yaml"], "config file 'absent.yaml' cannot be read"),
        (["resume", "one", "--config", "absent.yaml"], "config file 'absent.yaml' cannot be read"),
        (["evaluate", "relu(x)", "--task", "digits", "--seeds", "0"], "seeds: at least one is needed, got 0"),
        (["spectrum", "relu(x", "--task", "digits"], "at 7"),
        (["space", "no-such-space"], "no-such-space"),
        (["status", "nobody"], "aquasurf.db"),
        (["bogus"], "No such command 'bogus'"),
        (["task"], "Missing command"),
        (["task", "bogus"], "No such command 'bogus'"),
        (["task", "check"], "Missing argument"),
        (["task", "check", "digitz"], "unknown task 'digitz'; did you mean 'digits'?"),
        (["task", "show", "digitz"], "unknown task 'digitz'; did you mean 'digits'?"),
        (["task", "check", "digits", "--device", "tpu"], "device must be one of cpu"),
        (["top"], "Missing argument"),
        (["top", "one", "-n", "1.5"], "-n must be a whole number, got '1.5'"),
        (["top", "one", "--format", "html"], "--format must be one of table, json, csv, got 'html'"),
        (["plot", "one", "pie", "-o", "p.png"], "KIND must be one of progress, confirmed, rates"),
        (["watch", "one", "--port", "65536"], "--port must be at most 65535, got '65536'"),
        (["search", "digits", "--learning-rates", "1,two"], "learning-rates must be numbers, such as 0.5,1,2, got"),
        (["confirm", "one"], "aquasurf.db"),
        (["benchmark", "build"], "no task given"),
        (["benchmark", "build", "digits", "--seeds", "0"], "seeds: at least one is needed, got 0"),
        (["benchmark", "build", "digits", "-o", "b.txt"], "written to a file named .parquet or .json, got 'b.txt'"),
        (
            ["benchmark", "build", "digits", "friedman", "-o", "absent"],
            "output must be an existing folder for the files of 2 tasks",
        ),
        (
            ["benchmark", "build", "digits", "friedman", "--name", "one"],
            "got one name; leave it out",
        ),
        (
            ["benchmark", "build", "a.b:c", "a-b:c"],
            "tasks 'a.b:c' and 'a-b:c' would both be 'act-bench-a-b-c'; build them",
        ),
        (["benchmark", "build", "digits", "fridman"], "unknown task 'fridman'"),
        (["benchmark", "build", "digits", "--fisher", "exact"], "fisher must be sampled, empirical or sampled"),
        (["search", "digits", "--confirm", "0"], "confirm must be at least 1, got 0"),
    ],
)
def test_bad_use_is_reported_in_two_lines_at_most_with_exit_code_2(here, capsys, arguments, says):
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert says in err
    assert len(err.splitlines()) <= 2
    assert "Traceback" not in err
    assert "secret" not in err
    assert list(here.iterdir()) == [], "bad use leaves nothing behind"


@pytest.mark.parametrize(
    "command", [["search", "digits"], ["evaluate", "relu(x)", "--task", "digits"], ["benchmark", "build", "digits"]]
)
def test_a_cluster_that_is_not_there_leaves_nothing_behind(here, capsys, monkeypatch, command):
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # another test's Ray may be there
    code, out, err = run(capsys, *command, "--address", "127.0.0.1:1")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "no Ray cluster answers at '127.0.0.1:1'" in err
    assert list(here.iterdir()) == []


def test_a_run_that_is_not_there_is_named_with_what_is_close(finished, capsys):
    code, _, err = run(capsys, "resume", "onee")
    assert code == 2
    assert "no run is named 'onee'; did you mean 'one'?" in err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--top", "0"], "top: at least one function is needed, got 0"),
        (["--seeds", "0"], "seeds: at least one is needed, got 0"),
        ([], "run 'one' was not trained here, so its winners cannot be confirmed"),
    ],
)
def test_what_cannot_be_confirmed_is_reported_with_exit_code_2(finished, capsys, options, says):
    code, out, err = run(capsys, "confirm", "one", *options)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert says in err


def test_status_of_all_and_of_one(finished, capsys):
    code, out, _ = run(capsys, "status")
    assert code == 0
    assert "one" in out
    assert "finished" in out
    code, out, _ = run(capsys, "status", "one", "--json")
    document = json.loads(out)
    assert (document["status"], document["evaluations"], document["spectra"]) == ("finished", 3, 1)
    assert document["exhausted"] is False
    assert document["best_function"] == "mul(sigmoid(x),elu(x))"


def test_status_lists_what_failed_with_its_attempts_and_error(finished, capsys):
    with Store.open("sqlite:///aquasurf.db") as store:
        (number,) = store.add_functions([FunctionRow("f" * 32, "erf(x)", 1, ("erf(x)",))])
        run_id = store.run("one").id
        lease = store.acquire_lease(run_id, this_process())
        for final in (False, True):
            claim = store.claim(lease, number, 0, "suggestion")
            store.record_failure(lease, claim.evaluation_id, "worker died\nof memory", final=final)
        store.release_lease(lease, "finished")
    _, out, _ = run(capsys, "status", "one", "--json")
    wanted = {"function": "erf(x)", "seed": 0, "recipe_change": None, "attempts": 2, "error": "worker died\nof memory"}
    assert json.loads(out)["failures"] == [wanted]
    _, out, _ = run(capsys, "status", "one")
    assert out.splitlines()[-1].split() == ["erf(x)", "0", "2", "worker", "died", "of", "memory"]


def test_status_and_a_view_list_what_diverged_with_the_reason(finished, capsys):
    with Store.open("sqlite:///aquasurf.db") as store:
        (number,) = store.add_functions([FunctionRow("f" * 32, "exp(exp(x))", 2, ("exp(exp(x))",))])
        lease = store.acquire_lease(store.run("one").id, this_process())
        claim = store.claim(lease, number, 0, "suggestion")
        store.record_result(lease, claim.evaluation_id, EvaluationResult("diverged", reason="loss is NaN"))
        store.release_lease(lease, "finished")
    wanted = {"function": "exp(exp(x))", "seed": 0, "recipe_change": None, "reason": "loss is NaN"}
    assert json.loads(run(capsys, "status", "one", "--json")[1])["divergences"] == [wanted]
    assert run(capsys, "status", "one")[1].splitlines()[-1].split() == ["exp(exp(x))", "0", "loss", "is", "NaN"]
    _, out, _ = run(capsys, "query", "SELECT run, task, function, seed, recipe_change, reason FROM diverged", "--json")
    assert json.loads(out) == [{"run": "one", "task": "digits", **wanted, "recipe_change": ""}]


def test_seconds_are_short_in_the_table_and_whole_for_programs(finished, capsys):
    with Store.open("sqlite:///aquasurf.db") as store:
        (number,) = store.add_functions([FunctionRow("f" * 32, "erf(x)", 1, ("erf(x)",))])
        lease = store.acquire_lease(store.run("one").id, this_process())
        claim = store.claim(lease, number, 0, "suggestion")
        store.record_result(lease, claim.evaluation_id, EvaluationResult("done", score=0.99, seconds=12.3456))
        store.release_lease(lease, "finished")
    _, out, _ = run(capsys, "top", "one", "-n", "1")
    assert "12.3 " in out
    assert "12.34" not in out
    assert "0.9000" in out, "accuracies keep their four decimals"
    for form in ("csv", "json"):
        assert "12.3456" in run(capsys, "top", "one", "-n", "1", "--format", form)[1]


def test_top_in_three_formats_shows_the_best_and_all_baselines(finished, capsys):
    _, out, _ = run(capsys, "top", "one", "-n", "1", "--format", "json")
    assert run(capsys, "top", "one", "-n", "1", "--json")[1] == out
    rows = json.loads(out)
    assert [(r["rank"], r["function"], r["baseline"]) for r in rows] == [
        (1, "mul(sigmoid(x),elu(x))", False),
        (2, "relu(x)", True),
        (3, "tanh(x)", True),
    ]
    assert rows[0]["val_loss"] is None, "JSON has no NaN"
    _, out, _ = run(capsys, "top", "one", "--format", "csv")
    assert [r["function"] for r in csv.DictReader(io.StringIO(out))] == ["mul(sigmoid(x),elu(x))", "relu(x)", "tanh(x)"]
    _, out, _ = run(capsys, "top", "one")
    assert out.splitlines()[0].split()[:3] == ["rank", "val_accuracy", "test_accuracy"]


def test_top_and_show_tell_what_other_seeds_gave(finished, capsys):
    with Store.open("sqlite:///aquasurf.db") as store:
        task, best = store.run("one").task_id, store.find_function("mul(sigmoid(x),elu(x))").id
        two = store.create_run(NewRun("two", "evaluate", task, {}, "e", 0, 3, None, "0.1.0"), [best])
        lease = store.acquire_lease(two.id, this_process())
        for seed, score in ((1, 0.9), (2, 0.93)):
            claim = store.claim(lease, best, seed, "proposal")
            store.record_result(lease, claim.evaluation_id, EvaluationResult("done", score=score))
    rows = json.loads(run_top(capsys, "--format", "json"))
    assert [(r["confirmed"], r["confirmed_seeds"], r["confirmed_diverged"]) for r in rows[:2]] == [
        (pytest.approx(0.915), 2, None),
        (None, None, None),
    ]
    first, second = run_top(capsys).splitlines()[1:3]
    assert first.split()[:5] == ["1", "0.9500", "0.9400", "0.9150", "2"]
    assert second.split()[3:5] == ["-", "-"]
    _, out, _ = run(capsys, "show", "mul(sigmoid(x),elu(x))")
    assert "seeds        digits, val_accuracy with seeds 0, 1, 2: 0.9500, 0.9000, 0.9300" in out
    assert "mean         0.9150, 95% interval 0.7244 to 1.0000, over seeds 1, 2; a search selected by seed 0" in out


def test_show_has_the_mean_of_the_seeds_that_confirmed_at_the_rate_that_was_confirmed(synthetic_run_url, capsys):
    """Of the recipe as it is there are the score that selected and one that chose a rate, and no confirming ones."""
    with Store.open(synthetic_run_url) as store:
        best = store.leaderboard(run_id=1, n=1)[0].function
    _, out, _ = run(capsys, "show", best, "--json", "--store", synthetic_run_url)
    own, doubled = json.loads(out)["seeds"]
    assert (own["recipe_change"], own["mean_seeds"], own["selecting_seeds"]) == (None, [3], [0])
    assert (doubled["recipe_change"], doubled["mean_seeds"]) == ("learning_rate*2", [1, 2])
    assert doubled["mean"] == pytest.approx(0.815)
    _, out, _ = run(capsys, "show", best, "--store", synthetic_run_url)
    assert "mean         0.7500, over seed 3; a search selected by seed 0\n" in out
    assert "learning_rate*2, val_accuracy with seeds 1, 2, 3: " in out


def run_top(capsys, *options):
    return run(capsys, "top", "one", *options)[1]


def test_show_prints_results_and_why_it_was_suggested_in_any_spelling(finished, capsys):
    code, out, _ = run(capsys, "show", " mul( elu(x), sigmoid(x) ) ")
    assert code == 0
    for part in ("mul(sigmoid(x),elu(x))", "0.9500", "predicted", "0.9300, rank 2", "relu(x): 0.9000, 0.250 away"):
        assert part in out
    _, out, _ = run(capsys, "show", "relu(x)", "--json")
    document = json.loads(out)
    assert document["spectra"][0]["reason"] == "overflow in layer 2"
    assert document["evaluations"][0]["suggestion"] is None


def test_show_mentions_no_embedding_where_there_was_none(here, capsys):
    with Store.open("sqlite:///aquasurf.db") as store:
        task = store.add_task("digits", "1", "d" * 32, {"name": "digits"})
        ids = store.add_functions([FunctionRow(n[:1] * 32, n, 1, (n,)) for n in SCORES])
        config = {"task": "digits", "training_seed": 0, "surrogate": "metric"}
        made = store.create_run(NewRun("one", "search", task, config, "c", 0, 1, None, "0.1.0"), ids)
        lease = store.acquire_lease(made.id, this_process())
        for number, name in zip(ids, SCORES, strict=True):
            record(store, lease, number, name)
        store.release_lease(lease, "finished")
    _, out, _ = run(capsys, "show", "mul(sigmoid(x),elu(x))")
    assert ": 0.9000, 0.250 of the median distance away" in out
    assert f"features         {'e' * 8}" in out
    assert "embedding" not in out
    _, out, _ = run(capsys, "show", "mul(sigmoid(x),elu(x))", "--json")
    why = json.loads(out)["evaluations"][0]["suggestion"]
    assert (why["surrogate"], why["features_version"], why["embedding_version"]) == ("metric", "e" * 8, None)


def test_show_of_a_function_that_was_never_met(finished, capsys):
    code, out, _ = run(capsys, "show", "sinh(cosh(x))")
    assert code == 0
    assert "not trained in this store" in out


def test_query_reads_and_the_database_refuses_the_rest(finished, capsys):
    code, out, _ = run(capsys, "query", "SELECT function FROM leaderboard ORDER BY score DESC", "--format", "csv")
    assert code == 0
    assert out.splitlines()[1] == '"mul(sigmoid(x),elu(x))"'
    for sql in ("DELETE FROM runs", "ATTACH 'x.db' AS x", "SELECT 1; DROP TABLE runs", "PRAGMA writable_schema=1"):
        code, out, err = run(capsys, "query", sql)
        assert (code, out) == (2, "")
        assert len(err.splitlines()) <= 2
    assert run(capsys, "status")[0] == 0


def test_enqueue_says_what_became_of_each(finished, capsys):
    code, out, _ = run(capsys, "enqueue", "one", "relu(x)", "swish(negative(x))")
    assert code == 0
    assert out.splitlines()[:2] == ["relu(x): already done", "swish(negative(x)): queued"]
    assert "aquasurf resume one --evaluations" in out, "a finished run has to be told to go on"


def test_export_writes_the_file_and_says_so(finished, capsys):
    code, out, _ = run(capsys, "export", "one", "--format", "csv", "-o", "one.csv")
    assert (code, out) == (0, "3 functions written to one.csv\n")
    rows = list(csv.DictReader((finished / "one.csv").read_text().splitlines()))
    assert {r["function"] for r in rows} == set(SCORES)


def test_space_counts_and_draws(here, capsys):
    _, out, _ = run(capsys, "space", "three-node", "--count", "--json")
    document = json.loads(out)
    assert document["names"] == 5103
    assert abs(document["unique"] - 2790) < 28
    _, out, _ = run(capsys, "space", "three-node", "--sample", "5")
    assert len(out.splitlines()) == 5


def test_spectrum_of_a_function(here, capsys):
    code, out, _ = run(capsys, "spectrum", "swish(x)", "--task", "digits", "--json")
    assert code == 0
    document = json.loads(out)
    layers = document["layers"]
    assert [layer["weights"] for layer in layers] == [240, 10416, 20784, 490]
    assert document["coverage"]["text"] == "the spectrum covers 4 of 4 matrices, 100% of 31,930 weights"
    assert (document["coverage"]["share"], document["coverage"]["left_out"]) == (1, {})
    assert all(layer["smallest"] <= layer["median"] <= layer["largest"] for layer in layers)


def test_a_spectrum_that_overflows_is_a_failure_of_the_work(here, capsys):
    code, out, err = run(capsys, "spectrum", "exp(exp(exp(x)))", "--task", "digits")
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1


def test_exit_codes_tell_bad_use_from_failed_work_and_from_defects():
    from aquasurf_ray.cli.main import exit_code
    from aquasurf_ray.driver import errors as driver
    from aquasurf_ray.store import errors as store

    codes = {
        2: [driver.BadUse("x"), store.StoreUnavailable("x"), store.RunNotFound("x"), store.RunHeld("x")],
        1: [driver.RunFailed("x"), driver.Interrupted("x"), store.LeaseLost("x"), store.StoreBusy("x")],
        None: [store.BadRecord("x"), ValueError("x"), AssertionError("x")],
    }
    for code, errors in codes.items():
        assert {exit_code(error) for error in errors} == {code}
    assert exit_code(store.StoreFull("x")) == 1


def test_the_hints_after_a_search_can_be_pasted_into_a_shell(capsys, tmp_path):
    import shlex
    from types import SimpleNamespace

    from aquasurf_ray.cli.terminal.run_result import print_next_steps

    what = {"best": ("mul(x,relu(x))", 0.9), "budget": 4, "kind": "search", "confirmation": None}
    result = SimpleNamespace(name="it's mine", **what)
    print_next_steps(result, None)
    lines = [shlex.split(line.rsplit("  ", 1)[0]) for line in capsys.readouterr().out.splitlines() if line]
    assert ["aquasurf", "show", "mul(x,relu(x))"] in lines
    assert ["aquasurf", "top", "it's mine", "-n", "20"] in lines
    assert ["aquasurf", "resume", "it's mine", "--evaluations", "8"] in lines
    assert ["aquasurf", "confirm", "it's mine"] in lines
    from aquasurf_ray.store import Store

    url = f"sqlite:///{tmp_path}/my runs.db"
    Store.open(url).close()
    print_next_steps(result, url)
    for line in capsys.readouterr().out.splitlines()[1:]:
        assert shlex.split(line.rsplit("  ", 1)[0])[-2:] == ["--store", url]


HEAVY = {"torch", "ray", "umap", "numba", "sqlalchemy", "sklearn", "pandas"}


@pytest.mark.parametrize("arguments", [[], ["search", "--help"], ["task", "check", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments):
    program = (
        "import sys\nfrom aquasurf_ray.cli.main import main\n"
        f"code = main({arguments})\n"
        f"print(sorted({HEAVY} & set(sys.modules)), code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] 0", done.stderr


@pytest.mark.parametrize(
    "arguments", [["status"], ["status", "synthetic"], ["top", "synthetic"], ["show", "relu"], ["show", "relu(x)"]]
)
def test_a_look_at_results_loads_no_more_than_it_needs(synthetic_run_url, arguments):
    settings = "aquasurf_ray.driver.settings.models"
    heavy = (HEAVY - {"sqlalchemy"}) | {"numpy", "scipy", "sqlalchemy.orm", "alembic", settings}
    program = (
        "import sys\nfrom aquasurf_ray.cli.main import main\n"
        f"code = main({[*arguments, '--store', synthetic_run_url]})\n"
        f"print(sorted({heavy} & set(sys.modules)), code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] 0", done.stderr


def test_a_command_that_ends_without_pythons_teardown_has_written_everything(synthetic_run_url):
    command = [sys.executable, "-m", "aquasurf_ray", "query", "--store", synthetic_run_url, "--format", "json"]
    long = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) SELECT i FROM n"
    done = subprocess.run([*command, long], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert [row["i"] for row in json.loads(done.stdout)] == list(range(1, 20_001))
    refused = subprocess.run([*command, "DELETE FROM runs"], capture_output=True, text=True, timeout=60)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("aquasurf: ")


def test_a_command_without_an_output_does_its_work(synthetic_run_url):
    command = [sys.executable, "-m", "aquasurf_ray", "status", "--store", synthetic_run_url]
    done = subprocess.run(f"exec {shlex.join(command)} >&-", shell=True, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_was_printed_before_an_error_is_not_lost_and_threads_are_waited_for(synthetic_run_url):
    program = (
        "import sys, threading, time\nimport aquasurf_ray.cli.main as command\n"
        "import aquasurf_ray.cli.status as status\nfrom aquasurf_ray.store import StoreBusy\n"
        "def fail(document):\n    raise StoreBusy('the disk sleeps')\n"
        "status.print_activity = fail\n"
        "def late():\n    time.sleep(1)\n    print('a thread')\n"
        "if sys.argv.pop() == 'thread':\n    threading.Thread(target=late).start()\n"
        "command.run()\n"
    )
    for last in ("none", "thread"):
        arguments = ["status", "synthetic", "--store", synthetic_run_url, last]
        done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (1, "aquasurf: the disk sleeps\n")
        assert done.stdout.startswith("run ")
        assert ("a thread" in done.stdout) == (last == "thread")


@pytest.mark.parametrize(
    ("words", "offered"), [("aquasurf benc", "benchmark"), ("aquasurf search digits --evalu", "--evaluations")]
)
def test_the_shell_completes_commands_and_options(monkeypatch, capsys, words, offered):
    monkeypatch.setenv("_AQUASURF_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    with pytest.raises(SystemExit) as ended:
        main([])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"{offered}\n")


def test_wrong_options_are_refused_before_anything_heavy_is_loaded(here):
    refused = (
        ["search", "digits", "--evaluations", "0"],
        ["search", "digitz"],
        ["search", "digits", "--config", "run.yaml"],
        ["evaluate", "relu(x)", "--task", "digits", "--workers", "0"],
    )
    (here / "run.yaml").write_text("evaluation: 5\n")
    program = (
        "import sys\nfrom aquasurf_ray.cli.main import main\n"
        f"print([main(list(arguments)) for arguments in {refused}], sorted({HEAVY} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[2, 2, 2, 2] []\n", done.stderr


def test_a_wrong_option_of_resume_is_refused_before_pytorch_and_ray_are_loaded(synthetic_run_url):
    """The other settings are the run's, which the store has."""
    arguments = ["resume", "synthetic", "--store", synthetic_run_url, "--evaluations", "0"]
    program = (
        "import sys\nfrom aquasurf_ray.cli.main import main\n"
        f"print(main({arguments}), sorted({HEAVY - {'sqlalchemy'}} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "2 []\n", done.stderr
    assert done.stderr == "aquasurf: evaluations must be at least 1, got 0\n"


def test_every_command_has_an_example_in_its_help(capsys):
    from typer.main import get_command

    from aquasurf_ray.cli.main import app

    def all_commands(group, before=()):
        for name, command in group.commands.items():
            yield (*before, name), command
            yield from all_commands(command, (*before, name)) if hasattr(command, "commands") else ()

    names = []
    for words, command in all_commands(get_command(app)):
        names.append(" ".join(words))
        assert run(capsys, *words, "--help")[0] == 0
        assert f"aquasurf {names[-1]}" in (command.epilog or ""), f"{names[-1]} has no example"
    assert {"search", "task", "task list", "task show", "task check"} <= set(names)


def test_a_confirmation_is_a_table_for_people_and_one_document_for_programs(capsys, monkeypatch):
    """Of a metric of which less is better: values have their own sign, and a positive gain is better all the same."""
    from aquasurf_ray.analysis.studies.confirmation import PairedDifference, SeedMean, Shrinkage
    from aquasurf_ray.analysis.studies.confirmed_run import Confirmation, ConfirmedFunction
    from aquasurf_ray.cli.terminal import confirmation as confirmations
    from aquasurf_ray.store import TaskMetric

    winner = ConfirmedFunction(
        function="swish(swish(x))",
        baseline=False,
        selected=-0.25,
        confirmed=SeedMean(3, 0, -0.5, -0.75, -0.25),
        test=SeedMean(3, 0, -0.625, None, None),
        against_reference=PairedDifference(0.125, 0.01, 0.02),
        shrinkage=Shrinkage(0.25, 0.125),
    )
    lost = SeedMean(3, 1, None, None, None)
    relu = ConfirmedFunction("relu(x)", True, -0.5, lost, lost, PairedDifference(None, None), Shrinkage(None, 0.0))
    metric = TaskMetric("rmse", higher_is_better=False)
    found = Confirmation("c", "one", (1, 2, 3), metric, (winner, relu), judge="validation")
    monkeypatch.setattr(confirmations, "_read", lambda name, store: found)
    confirmations.print_confirmation("c", None, as_json=False)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert " ".join(lines[0]) == (
        "rmse of the best functions of run 'one', retrained with seeds 1 to 3 (run 'c'); the validation split judges:"
    )
    values = ["0.2500", "0.5000", "0.6250", "0.2500", "0.7500", "0.1250", "-", "0.0200", "-", "0.2500", "0.1250"]
    assert " ".join(lines[-1]) == (
        "swish(swish(x)) beats relu(x) by 0.125 rmse at the task's own rate, 3 seeds, on the validation split"
    )
    assert " ".join(lines[2]).startswith("selected validation test low high gain"), "headed by split"
    assert lines[3] == [*values, "swish(swish(x))"]
    assert " ".join(lines[4]).endswith("relu(x) (reference) (diverged with 1 of 3 seeds)")
    confirmations.print_confirmation("c", None, as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert (document["winner"], document["judge"], document["reference"]) == (
        "swish(swish(x))",
        "validation",
        "relu(x)",
    )
    assert (document["confirms"], document["seeds"], document["seed_effect"]) == ("one", [1, 2, 3], None)
    first, second = document["functions"]
    assert (first["low"], first["confirmed"], first["high"], first["p"]) == (0.25, 0.5, 0.75, 0.02)
    assert (second["confirmed"], second["diverged"], second["gain"]) == (None, 1, None)
    share = TaskMetric("error_rate", higher_is_better=False, low=0.0, high=1.0)
    wide = replace(winner, against_reference=PairedDifference(0.125, 0.3, 0.3, low=-1.5, high=1.75))
    monkeypatch.setattr(
        confirmations, "_read", lambda name, store: replace(found, metric=share, functions=(wide, relu))
    )
    confirmations.print_confirmation("c", None, as_json=False)
    assert "[-1.0000, +1.0000]" in capsys.readouterr().out
    confirmations.print_confirmation("c", None, as_json=True)
    first = json.loads(capsys.readouterr().out)["functions"][0]
    assert (first["gain_low"], first["gain_high"]) == (-1.0, 1.0)
    known = replace(relu, shrinkage=Shrinkage(-0.0625, None))
    monkeypatch.setattr(confirmations, "_read", lambda name, store: replace(found, functions=(winner, known)))
    confirmations.print_confirmation("c", None, as_json=False)
    assert "were not selected, gained 0.0625 in the median" in capsys.readouterr().out
