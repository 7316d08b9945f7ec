"""`aquasurf import`: what is read is reported and written again without loss; what is broken changes nothing."""

from __future__ import annotations

import contextlib
import json
import math
import shlex
import sqlite3
import struct
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pages import ROOT, blocks, commands

from aquasurf_ray.activations import register_unary, unregister
from aquasurf_ray.cli.main import main
from aquasurf_ray.driver.benchmarks.importing import import_benchmark
from aquasurf_ray.store import EvaluationResult, Store, this_process

TASK = ["--task", "all-cnn-c/cifar10"]
TITLES = (
    "Train Accuracy",
    "Validation Accuracy",
    "Train Loss",
    "Validation Loss",
    "Test Accuracy",
    "Test Loss",
    "Runtime (s)",
)
ALIASES, CDF = "Equivalent Activation Functions", "Fisher log eigenvalue CDF"
NAMES = ("relu(x)", "max(x,zero(x))", "max(zero(x), x)", "tanh(x)", "exp(x)", "erf(x)", "swish(x)", "mul(x,sigmoid(x))")


def entry(accuracy=0.5, equal=(), cdf=(0.0, 0.25, 1.0), **more):
    figures = dict.fromkeys(TITLES, accuracy) | {"Train Loss": math.nan, "Test Loss": math.inf, "Runtime (s)": 12.5}
    return {**figures, ALIASES: list(equal), CDF: list(cdf), **more}


GOOD = {
    "max(x,zero(x))": entry(0.9, equal=["relu(x)", "tanh(x)"]),
    "relu(x)": entry(0.8, cdf=[]),
    "tanh(x)": entry(math.nan, cdf=[0.5], Epochs=50),
    "erf(x)": dict.fromkeys(TITLES),
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AQUASURF_STORE", raising=False)
    return tmp_path


@pytest.fixture
def good(here):
    (here / "act bench (1).json").write_text(json.dumps(GOOD))
    return "act bench (1).json"


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def content(folder):
    """Everything in the database, as SQL."""
    with sqlite3.connect(folder / "aquasurf.db") as connection:
        dump = "\n".join(connection.iterdump())
    connection.close()
    return dump


def test_what_was_found_is_said(here, good, capsys):
    code, out, err = run(capsys, "import", good, *TASK)
    assert (code, err) == (0, "")
    assert [" ".join(line.split()) for line in out.splitlines()] == [
        "act bench (1).json is now run 'act-bench-1' of task all-cnn-c/cifar10: 3 entries",
        "functions 2 distinct functions, 1 entry diverged",
        "spectra 1 of 3 numbers, 1 empty, 1 of other lengths (1)",
        "left out 1 entry more, without any metric",
        "repeated 1 entry of a function that occurred before, kept as its seeds (relu(x) is max(x,zero(x)))",
        "not equal 1 names that the file calls equal but that differ here, kept (tanh(x) is not max(x,zero(x)))",
        "unknown 'Epochs' in 1; kept, and written by export",
        "searches of all-cnn-c/cifar10 do not reuse these results, since they were trained elsewhere; list them with",
        "aquasurf top act-bench-1",
    ]
    assert json.loads(run(capsys, "status", "act-bench-1", "--json")[1])["kind"] == "import"
    top = json.loads(run(capsys, "top", "act-bench-1", "--format", "json")[1])
    assert [(row["function"], row["val_accuracy"], row["seed"], row["confirmed"]) for row in top] == [
        ("relu(x)", 0.9, 0, 0.8)
    ]
    shown = run(capsys, "show", "max(x,zero(x))")[1]
    assert "seeds        all-cnn-c/cifar10 as run 'act-bench-1' (imported), val_accuracy with seeds 0, 1: 0.9" in shown
    assert "run 'act-bench-1', task" in shown
    assert "run 'act-bench-1'" not in run(capsys, "show", "erf(x)")[1]


def test_one_json_document(here, good, capsys):
    code, out, err = run(capsys, "import", good, *TASK, "--name", "mine", "--json")
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert (document["run"], document["created"], document["entries"], document["functions"]) == ("mine", True, 3, 2)
    assert document["cdf_lengths"] == {"3": 1, "0": 1, "1": 1}
    assert document["unequal_examples"] == [["tanh(x)", "max(x,zero(x))"]]
    assert document["unknown"] == {"Epochs": 1}


def test_a_bar_on_a_terminal(here, good, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    code, out, err = run(capsys, "import", good, *TASK)
    assert (code, out.splitlines()[0]) == (
        0,
        "act bench (1).json is now run 'act-bench-1' of task all-cnn-c/cifar10: 3 entries",
    )
    assert "reading" in err
    assert "100%" in err


def test_a_second_time_it_is_known(here, good, capsys):
    run(capsys, "import", good, *TASK)
    before = content(here)
    for name in ([], ["--name", "other"]):
        code, out, _ = run(capsys, "import", good, *TASK, *name)
        assert (code, out.strip()) == (
            0,
            f"{good} was imported before as run 'act-bench-1' of task all-cnn-c/cifar10; nothing has changed",
        )
    assert content(here) == before
    (here / good).write_text(json.dumps(GOOD, indent=1))
    assert "is now run 'act-bench-1-2'" in run(capsys, "import", good, *TASK)[1]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (json.dumps(GOOD)[:250], "in entry 'max(x,zero(x))': the file ends: it was cut short"),
        ("", "byte 0: the file is empty"),
        ("{}", "'bad.json' has no entry with any metric"),
        ('{"relu(x)": {"Epochs": 3}}', "'bad.json' has no entry with any metric"),
        ("[1, 2]", "byte 0: expected a JSON object, got '['"),
        (
            json.dumps(GOOD).replace('tanh(x)":', 'tahn(x)":'),
            "entry 'tahn(x)': unknown operator 'tahn' at 1; did you mean 'tanh'?",
        ),
        (
            json.dumps(GOOD).replace('"tanh(x)"]', '"tahn(x)"]'),
            "entry 'max(x,zero(x))', equal name 'tahn(x)': unknown operator",
        ),
        (json.dumps({"relu(x)": entry()})[:-1] + ', "relu(x)": {}}', "entry 'relu(x)' appears twice"),
        (json.dumps({"relu(x)": entry("high")}), """entry 'relu(x)': 'Train Accuracy' must be a number, got "high\""""),
        (json.dumps({"\x1b[31m\x00\u202e": entry()}), r"entry '\x1b[31m\x00\u202e': "),
        (json.dumps({"relu(" * 300 + "x" + ")" * 300: entry()}), "expression nests deeper than 100"),
        (json.dumps({"__import__('os')": entry()}), "unexpected character"),
    ],
)
def test_a_bad_file_changes_nothing_and_is_reported_in_a_line(here, good, capsys, text, says):
    (here / "bad.json").write_text(text)
    code, out, err = run(capsys, "import", "bad.json", *TASK)
    assert (code, out) == (2, "")
    assert says in err
    assert len(err.splitlines()) == 1
    assert err.isprintable() or err.strip().isprintable()
    assert not (here / "aquasurf.db").exists()
    if says.endswith(("short", "100")):
        run(capsys, "import", good, *TASK)
        before = content(here)
        assert run(capsys, "import", "bad.json", *TASK)[0] == 2
        assert content(here) == before


def test_a_wrong_request_is_reported(here, good, capsys):
    assert "unknown task 'cnn'; there are: all-cnn-c/cifar10, " in run(capsys, "import", good, "--task", "cnn")[2]
    assert "'absent.json' does not exist" in run(capsys, "import", "absent.json", *TASK)[2]
    assert "is not a regular file" in run(capsys, "import", here, *TASK)[2]
    assert "module 'absent' cannot be imported" in run(capsys, "import", good, *TASK, "--modules", "absent")[2]
    assert not (here / "aquasurf.db").exists()
    run(capsys, "import", good, *TASK, "--name", "mine")
    (here / "other.json").write_text("{}")
    before = content(here)
    code, _, err = run(capsys, "import", "other.json", *TASK, "--name", "mine")
    assert (code, err) == (2, "aquasurf: a run named 'mine' already exists; choose another --name\n")
    for arguments in (["resume", "mine"], ["enqueue", "mine", "swish(x)"]):
        code, _, err = run(capsys, *arguments)
        assert (code, "'mine' was imported" in err) == (2, True)
    assert content(here) == before


def test_a_search_finds_none_of_it_and_trains_itself(here, capsys):
    """The task's own digest is made as `aquasurf evaluate` makes it; figures of other code are not its results."""
    from aquasurf_ray.store import NewRun
    from aquasurf_ray.tasks import load_task

    (here / "bench.json").write_text(json.dumps(GOOD))
    run(capsys, "import", "bench.json", "--task", "digits")
    task = load_task("digits")
    with Store.open("sqlite:///aquasurf.db") as store:
        task_id = store.add_task(task.name, task.version, task.digest, task.spec())
        made = store.create_run(NewRun("own", "search", task_id, {}, "c", 0, 1, None, "0"))
        lease = store.acquire_lease(made.id, this_process())
        claim = store.claim(lease, store.find_function("relu(x)").id, 0, "baseline")
        assert claim.state == "claimed"
        assert store.record_result(lease, claim.evaluation_id, EvaluationResult("done", score=0.25, val_accuracy=0.25))
        assert [row.score for row in store.leaderboard(run_id=made.id)] == [0.25]
        assert [row.score for row in store.leaderboard(run_id=store.run("bench").id)] == [0.9, 0.8]


def test_a_sqlite_database_is_refused_in_one_line(here, capsys):
    with contextlib.closing(sqlite3.connect(here / "authors.db")) as connection:
        connection.execute("CREATE TABLE t (name, val_acc)")
    code, out, err = run(capsys, "import", "authors.db", *TASK)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "is a SQLite database; import reads Act-Bench files (JSON) and Parquet files of this program" in err


def test_custom_operators(here, capsys, monkeypatch):
    monkeypatch.syspath_prepend(here)
    code = "from aquasurf_ray.activations import register_unary\nregister_unary('importbump', lambda x: x * x)\n"
    (here / "import_own.py").write_text(code)
    (here / "bench.json").write_text(json.dumps({"importbump(x)": entry()}))
    assert "unknown operator 'importbump'" in run(capsys, "import", "bench.json", *TASK)[2]
    try:
        assert run(capsys, "import", "bench.json", *TASK, "--modules", "import_own")[0] == 0
    finally:
        unregister("importbump")
    with Store.open("sqlite:///aquasurf.db") as store:
        assert store.run("bench").config["modules"] == ["import_own"]


def test_an_own_operator_that_was_edited_since_is_refused(here, capsys):
    register_unary("importbump", lambda x: x * x)
    try:
        (here / "bench.json").write_text(json.dumps({"importbump(x)": entry()}))
        assert run(capsys, "import", "bench.json", *TASK)[0] == 0
        register_unary("importbump", lambda x: x * x * x, replace=True)
        (here / "later.json").write_text(json.dumps({"importbump(x)": entry(), "relu(x)": entry()}))
        code, _, err = run(capsys, "import", "later.json", *TASK)
    finally:
        unregister("importbump")
    assert (code, "importbump(x) is in the store already, as a function with other values" in err) == (2, True)
    with Store.open("sqlite:///aquasurf.db") as store:
        assert [each.name for each in store.runs()] == ["bench"]


@pytest.mark.slow
def test_the_page_works_as_it_is_printed(here, capsys):
    make, look = blocks("docs/act-bench.md", "python")
    exec(make, {})
    (told,) = blocks("docs/act-bench.md", "text")
    outputs = {}
    for text in blocks("docs/act-bench.md", ""):
        for line in text.splitlines():
            code, outputs[line], err = run(capsys, *shlex.split(line)[1:])
            assert (code, err) == (0, ""), line
    assert told == outputs["aquasurf import small.json --task all-cnn-c/cifar10"]
    assert len(outputs) == len(commands("docs/act-bench.md")) == 5
    assert set(json.loads((here / "again.json").read_text())) == set(json.loads((here / "small.json").read_text()))
    exec(look, {})
    assert capsys.readouterr().out.startswith("mul(x,sigmoid(x)) 0.91 [0.")
    assert "docs/act-bench.md" in (ROOT / "README.md").read_text()


LOSSES = st.floats() | st.integers(-3, 3)
ACCURACIES = st.floats(0, 1) | st.just(math.nan)
PLAIN = st.none() | st.booleans() | st.floats() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)


@st.composite
def made_entries(draw):
    figures = {title: draw(ACCURACIES if "Accuracy" in title else LOSSES) for title in TITLES}
    lacking = draw(st.sets(st.sampled_from(TITLES[2:]), max_size=2))
    figures = {title: value for title, value in figures.items() if title not in lacking}
    unknown = draw(st.dictionaries(st.text(max_size=3), PLAIN, max_size=2))
    equal = draw(st.lists(st.sampled_from(NAMES), max_size=3))
    return {**figures, ALIASES: equal, CDF: draw(st.lists(st.floats() | st.integers(0, 1), max_size=6)), **unknown}


FILES = st.dictionaries(st.sampled_from(NAMES), made_entries(), min_size=1, max_size=5)


def bits(value):
    """Floats as their bits, with one NaN and (SQLite has no other in a column of numbers) one zero but for spectra;
    whole numbers as floats."""
    if isinstance(value, dict):
        return {key: bits(item + 0.0 if key in TITLES and item is not None else item) for key, item in value.items()}
    if isinstance(value, list):
        return [bits(item) for item in value]
    if isinstance(value, float | int) and not isinstance(value, bool):
        return "nan" if math.isnan(value) else struct.pack(">d", value).hex()
    return value


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    with Store.open(f"sqlite:///{folder}/store.db") as store:
        yield folder, store


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(made=FILES)
@pytest.mark.slow
def test_import_and_export_lose_nothing(kept, made):
    folder, store = kept
    exports = []
    path = folder / "made.json"
    path.write_text(json.dumps(made))
    for name in ("first.json", "second.json"):
        report = import_benchmark(path, "digits", store=f"sqlite:///{folder}/store.db")
        path = folder / name
        assert store.export_run(store.run(report.run).id, "act-bench", path) == len(made)
        exports.append(path.read_bytes())
    assert exports[0] == exports[1]
    expected = {name: dict.fromkeys(TITLES) | values for name, values in made.items()}
    assert bits(json.loads(exports[0])) == bits(expected)
    assert list(json.loads(exports[0])) == list(made)
