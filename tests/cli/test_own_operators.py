"""Functions with operators of a user's own, whose module may be there, or lost since."""

from __future__ import annotations

import contextlib
import json
import sys

import pytest

from aquasurf_ray.activations import OperatorError, fingerprint, parse, unregister
from aquasurf_ray.cli.main import main
from aquasurf_ray.driver.settings.models import SearchConfig
from aquasurf_ray.store import EvaluationResult, FunctionRow, NewRun, Store, this_process

MODULE = """
import torch
from aquasurf_ray.activations import register_unary

print("a module that prints")
register_unary("cli_bump", lambda x: torch.exp(-x * x), latex=r"e^{-#1^2}", words="bump of #1")
"""
NAME = "mul(x,cli_bump(x))"


@pytest.fixture
def forget(tmp_path, monkeypatch):
    """A working folder with the module, and a way to make this process forget it, as a new one would be."""

    def forgotten():
        sys.modules.pop("cliops", None)
        with contextlib.suppress(OperatorError):
            unregister("cli_bump")

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AQUASURF_STORE", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "cliops.py").write_text(MODULE)
    yield forgotten
    forgotten()


@pytest.fixture
def stored(forget, tmp_path, capsys):
    """A store in which the function was trained; this process has forgotten the operator. Gives its fingerprint."""
    exec(MODULE, {})
    digest = fingerprint(parse(NAME))
    forget()
    capsys.readouterr()
    with Store.open("sqlite:///aquasurf.db") as store:
        task = store.add_task("digits", "1", "d" * 32, {"name": "digits"})
        ids = store.add_functions([FunctionRow(digest, NAME, 2, (NAME,))])
        config = {"task": "digits", "training_seed": 0, "modules": ["cliops"]}
        run = store.create_run(NewRun("one", "search", task, config, "c", 0, 1, None, "0.1.0"), ids)
        lease = store.acquire_lease(run.id, this_process())
        claim = store.claim(lease, ids[0], 0, "suggestion")
        store.record_result(lease, claim.evaluation_id, EvaluationResult("done", score=0.97, val_accuracy=0.97))
        store.release_lease(lease, "finished")
    return digest


def shown(capsys, *arguments):
    code = main(["show", *arguments, "--json"])
    captured = capsys.readouterr()
    return code, json.loads(captured.out) if captured.out else None, captured.err


def test_show_imports_the_modules_of_the_runs_that_have_the_function(stored, capsys):
    code, document, _ = shown(capsys, " mul( x, cli_bump(x) ) ")
    assert code == 0
    assert (document["function"], document["fingerprint"]) == (NAME, stored)
    assert "bump of" in document["words"]
    assert "e^{-" in document["latex"]
    assert document["evaluations"][0]["val_accuracy"] == 0.97


def test_show_reads_another_spelling_with_the_modules_of_all_runs(stored, capsys):
    code, document, _ = shown(capsys, "mul(cli_bump(x),x)")
    assert code == 0
    assert (document["function"], document["fingerprint"]) == (NAME, stored)


def test_show_takes_a_fingerprint(stored, capsys):
    code, document, _ = shown(capsys, stored)
    assert (code, document["function"]) == (0, NAME)


def test_show_prints_what_is_stored_where_the_module_is_lost(stored, capsys, tmp_path):
    (tmp_path / "cliops.py").unlink()
    code, document, _ = shown(capsys, NAME)
    assert code == 0
    assert (document["words"], document["latex"], document["fingerprint"]) == (None, None, stored)
    assert "cli_bump" in document["unreadable"]
    assert "module 'cliops' cannot be imported" in document["unreadable"]
    assert document["evaluations"][0]["val_accuracy"] == 0.97
    assert main(["show", NAME]) == 0
    out = capsys.readouterr().out
    assert "unreadable" in out
    assert "0.9700" in out


def test_show_of_an_unknown_operator_is_bad_use_and_says_what_could_not_be_imported(stored, capsys, tmp_path):
    (tmp_path / "cliops.py").write_text("raise RuntimeError('two\\nlines')")
    code, document, err = shown(capsys, "cli_bump(relu(x))")
    assert (code, document) == (2, None)
    assert "unknown operator 'cli_bump'" in err
    assert "RuntimeError: two lines" in err
    assert len(err.splitlines()) == 1


def test_a_built_in_function_is_shown_without_running_anybodys_module(stored, capsys):
    code, _, err = shown(capsys, "relu(x)")
    assert code == 0
    assert "a module that prints" not in err
    assert "cliops" not in sys.modules


OWN_TASK = f"""
from dataclasses import replace
from aquasurf_ray.tasks import load_task


def bumped():
    return replace(load_task("digits"), name="bumped", baselines=("{NAME}",))
"""


@pytest.mark.parametrize("command", ["show", "check"])
def test_a_task_with_a_baseline_of_an_own_operator_is_checked_as_it_is_searched(forget, capsys, tmp_path, command):
    (tmp_path / "own_task.py").write_text(OWN_TASK)
    try:
        assert main(["task", command, "own_task:bumped"]) != 0
        captured = capsys.readouterr()
        assert "for your own: --modules MODULE" in captured.out + captured.err
        assert main(["task", command, "own_task:bumped", "--modules", "cliops"]) == 0
    finally:
        sys.modules.pop("own_task", None)


@pytest.fixture
def of_another_task(forget):
    """A store with a run of a task whose network has an activation of its own, and one without it."""
    function = "mul(x,cli_bump(x))"
    with Store.open("sqlite:///aquasurf.db") as store:
        task = store.add_task("bumped", "1", "d" * 32, {"name": "bumped"})
        ids = store.add_functions([FunctionRow("f" * 32, function, 2)])
        config = {"training_seed": 0, "modules": []}
        own = config | {"task": "bumps:task", "own_operators": {"cli_bump": [0.0, 1.0]}}
        for name, values in (("one", own), ("two", config | {"task": "digits"})):
            store.create_run(NewRun(name, "search", task, values, name, 0, 1, None, "0.1.0"), ids)
        lease = store.acquire_lease(store.run("one").id, this_process())
        claim = store.claim(lease, ids[0], 0, "suggestion")
        store.record_result(lease, claim.evaluation_id, EvaluationResult("done", score=0.97, val_accuracy=0.97))
        store.release_lease(lease, "finished")


@pytest.mark.parametrize(
    "command",
    [
        ["transfer", "--from", "one", "--to", "digits", "--seeds", "1"],
        ["evaluate", NAME, "--task", "digits"],
        ["evaluate", "cli_bump", "--task", "digits"],
        ["enqueue", "two", NAME],
        ["use", NAME],
        ["explain", NAME, "--task", "digits"],
        ["spectrum", NAME, "--task", "digits"],
        ["show", "mul(cli_bump(x),cli_bump(x))"],
        ["find", "two", "--near", NAME],
    ],
    ids=lambda command: command[0],
)
def test_an_own_activation_of_another_task_is_named_with_its_task_and_the_remedy(of_another_task, capsys, command):
    assert main(command) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(
        "aquasurf: unknown operator 'cli_bump': it is an own activation of task 'bumps:task' (run 'one'), which only "
        "that task registers; call register_unary('cli_bump', ...) in a module, and "
    )
    assert said.endswith("run with --modules bumps" if command[0] == "enqueue" else "and give --modules bumps")


def test_an_operator_of_another_run_s_module_is_named_with_the_module(stored, capsys):
    assert main(["evaluate", NAME, "--task", "digits"]) == 2
    said = capsys.readouterr().err
    assert "unknown operator 'cli_bump': run 'one' has it from its own modules; give --modules cliops" in said


def test_commands_that_only_read_take_modules(forget, capsys):
    with Store.open("sqlite:///aquasurf.db"):
        pass
    assert main(["show", NAME, "--modules", "cliops"]) == 0
    assert main(["use", NAME, "--modules", "cliops", "--form", "expression"]) == 0
    assert NAME in capsys.readouterr().out


@pytest.mark.parametrize("command", [["use", "cli_bum(x)"], ["evaluate", "cli_bum(x)", "--task", "digits"]])
def test_a_misspelled_operator_is_told_as_such(of_another_task, capsys, command):
    assert main(command) == 2
    assert "unknown operator 'cli_bum' at 1; " in capsys.readouterr().err


def test_spectrum_imports_modules_and_keeps_standard_output_for_the_result(forget, capsys):
    assert main(["spectrum", NAME, "--task", "digits", "--modules", "cliops", "--json"]) == 0
    captured = capsys.readouterr()
    assert len(json.loads(captured.out)["layers"]) == 4
    assert "a module that prints" in captured.err


@pytest.fixture
def handed_over(monkeypatch):
    """The settings that a command was given and hands to its verb, which then stops."""
    from aquasurf_ray.driver.errors import RunFailed
    from aquasurf_ray.driver.verbs import evaluate, resume, search

    calls = []

    def stand_in(*arguments, callbacks, **options):
        (config,) = (value for value in arguments if isinstance(value, SearchConfig))
        calls.append(config.model_dump(exclude_unset=True, exclude_none=True))
        raise RunFailed("stopped here")

    for verb, name in ((search, "start_search"), (evaluate, "start_evaluation"), (resume, "resume_run")):
        monkeypatch.setattr(verb, name, stand_in)
    return calls


def test_evaluate_hands_over_the_modules_that_define_its_functions(forget, handed_over):
    assert main(["evaluate", NAME, "--task", "digits", "--modules", "cliops", "--modules", "json"]) == 1
    assert handed_over == [{"task": "digits", "modules": ("cliops", "json")}]


def test_a_configuration_file_serves_search_evaluate_and_resume(stored, tmp_path, handed_over):
    (tmp_path / "c.yaml").write_text("task: digits\nmodules: [cliops]\nworkers: 3\nlease-seconds: 5\nname: one\n")
    file = ["--config", "c.yaml", "--workers", "2"]
    assert main(["search", *file]) == 1
    assert main(["evaluate", "relu(x)", *file]) == 1
    assert main(["resume", "one", *file]) == 1
    search, evaluate, resume = handed_over
    common = {"task": "digits", "modules": ("cliops",), "workers": 2, "lease_seconds": 5}
    assert search == evaluate == {"name": "one", **common}
    assert common.items() <= resume.items()


@pytest.mark.parametrize("line", ["task: resnet56", "modules: [others]"])
def test_resume_refuses_a_file_of_another_run(stored, tmp_path, handed_over, capsys, line):
    (tmp_path / "c.yaml").write_text(line + "\n")
    assert main(["resume", "one", "--config", "c.yaml"]) == 2
    assert f"cannot change its {line.split(':')[0]}" in capsys.readouterr().err
    assert not handed_over
