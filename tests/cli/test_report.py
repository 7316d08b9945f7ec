"""The commands that show a run as pictures, and the command that a report gives to make the run again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from synthetic_run import NAME, fill_store
from typer.main import get_command

from aquasurf_ray.analysis.report import KINDS
from aquasurf_ray.cli.main import app, main
from aquasurf_ray.cli.plot import Kind
from aquasurf_ray.cli.terminal.findings import findings_of
from aquasurf_ray.driver.settings.models import SearchConfig
from aquasurf_ray.driver.settings.reading import make_config
from aquasurf_ray.driver.verbs.repeat_command import command_of
from aquasurf_ray.store import NewRun, Store


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AQUASURF_CACHE", str(folder / "cache"))
        with Store.open(f"sqlite:///{folder}/store.db") as store:
            fill_store(store, n_candidates=12, n_trained=1)
        yield f"sqlite:///{folder}/store.db"


def test_a_report_is_written_with_the_maps_of_spectra_and_outputs(url: str, tmp_path: Path, capsys) -> None:
    assert main(["report", NAME, "-o", str(tmp_path / "r.html"), "--store", url]) == 0
    assert "r.html written, " in capsys.readouterr().out
    text = (tmp_path / "r.html").read_text()
    assert all(title in text for title in ("by spectrum", "by outputs", "by both"))
    assert "aquasurf search digits" in text


def test_commands_that_a_report_suggests_use_the_same_store(url: str) -> None:
    assert findings_of(NAME, url).store_option == f" --store {url}"


def test_a_picture_is_written_and_reported(url: str, tmp_path: Path, capsys) -> None:
    assert main(["plot", NAME, "progress", "-o", str(tmp_path / "p.png"), "--store", url]) == 0
    assert "Best training: " in capsys.readouterr().out
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["report", "nobody", "-o", "r.html"], "nobody"),
        (["report", NAME, "-o", "/dev/null"], "not a regular file"),
        (["report", NAME, "-o", "/nowhere/r.html"], "no folder"),
        (["report", NAME, "-o", "/proc/r.html"], "cannot be written"),
        (["plot", NAME, "progress", "-o", "p.gif2"], "must end in one of .png, .svg, .pdf"),
        (["plot", NAME, "progress", "-o", "p.pgf"], "must end in one of"),  # it would need LaTeX
        (["plot", NAME, "portrait", "-o", "p.png"], "portrait"),
        (["plot", NAME, "predictions", "-o", "p.png"], "no data for the picture 'predictions' yet"),
        (["watch", NAME, "--port", "70000"], "65535"),
    ],
)
def test_bad_use_is_reported_in_a_line_and_leaves_nothing(arguments, said, url, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, "--store", url]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_watch_may_be_started_before_the_run_or_the_database_exists(url, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("http.server.ThreadingHTTPServer.serve_forever", lambda server: None)
    assert main(["watch", "nobody", "--store", url]) == 0
    missing, served = capsys.readouterr().err.splitlines()
    assert missing.startswith("run 'nobody' does not exist yet; the runs are ")
    assert NAME in missing
    assert served.endswith("/run/nobody shows run 'nobody'; Ctrl-C ends")
    assert main(["watch", "--store", "sqlite:///soon.db"]) == 0
    missing, served = capsys.readouterr().err.splitlines()
    assert missing.startswith("there is no store at 'sqlite:///soon.db' yet")
    assert list(tmp_path.iterdir()) == [], "reading creates nothing"
    assert main(["watch", "--store", "sqlite:////nowhere/soon.db"]) == 2
    assert "folder '/nowhere' does not exist" in capsys.readouterr().err


def test_notes_on_a_run_are_stored_and_printed(url: str, capsys) -> None:
    assert main(["note", NAME, "with mixup", "--store", url]) == 0
    assert capsys.readouterr().out.endswith("  with mixup\n")
    assert main(["note", NAME, "--json", "--store", url]) == 0
    assert [each["text"] for each in json.loads(capsys.readouterr().out)] == ["with mixup"]
    assert main(["note", NAME, " ", "--store", url]) == 2
    assert "note: give a text of 1 to 2000 characters, got 0" in capsys.readouterr().err


def test_the_command_line_has_every_kind_of_picture() -> None:
    assert [kind.value for kind in Kind] == list(KINDS)


def test_the_command_of_a_search_gives_its_configuration_again(tmp_path: Path) -> None:
    config = make_config(
        {
            "task": "digits",
            "name": "mine",
            "space": "three-node",
            "evaluations": 7,
            "candidates": 50,
            "surrogate": "aquasurf",
            "max_cost": 1.2,
            "modules": ("one", "two"),
            "seed": 3,
            "store": "sqlite:///not-repeated.db",
        }
    )
    command = shlex.split(stored(tmp_path, "search", config.model_dump(mode="json"), 7))
    assert command[:2] == ["aquasurf", "search"]
    parsed = get_command(app).commands["search"].make_context("search", command[2:]).params
    options = {
        key: value for key, value in parsed.items() if key in SearchConfig.model_fields and value not in (None, [])
    }
    assert make_config(options | {"modules": tuple(options["modules"])}) == config.model_copy(
        update={"name": None, "store": None}
    )


@pytest.mark.parametrize(
    ("kind", "config", "command"),
    [
        (
            "evaluate",
            {"task": "digits", "functions": ["mul(x,tanh(x))", "relu(x)"], "seeds": 3, "workers": 2},
            "aquasurf evaluate 'mul(x,tanh(x))' 'relu(x)' --task digits --seeds 3 --workers 2",
        ),
        (
            "confirm",
            {"task": "digits", "confirms": "a b", "seeds": 5, "top": 3, "judge": "test"},
            "aquasurf confirm 'a b' --top 3 --seeds 5 --judge test",
        ),
        (
            "build",
            {"task": "digits", "space": "three-node", "seeds": 3},
            "aquasurf benchmark build digits --space three-node --seeds 3",
        ),
        (
            "build",
            {"task": "digits", "space": "three-node", "seeds": 3, "fishers": ["sampled", "empirical"]},
            "aquasurf benchmark build digits --space three-node --seeds 3 --fisher sampled,empirical",
        ),
        ("import", {"task": "digits", "file": "a.json"}, "aquasurf import a.json --task digits"),
        (
            "import",
            {"task": "digits", "file": "act-bench-digits.parquet"},
            "aquasurf import act-bench-digits --task digits",
        ),
    ],
)
def test_other_runs_have_their_commands_too(kind, config, command, tmp_path: Path) -> None:
    assert stored(tmp_path, kind, config, None) == command


@pytest.mark.parametrize("kind", ["evaluate", "build"])
def test_the_command_of_a_run_that_is_no_search_has_only_options_that_its_command_knows(kind, tmp_path: Path) -> None:
    told = {"task": "digits", "surrogate": "aquasurf", "workers": 2, "modules": ("mine",), "until": "val_loss<=0.1"}
    config = make_config({**told, "evaluations": 2, "fisher": "empirical", "health_gate": "off", "training_seed": 3})
    own = {"functions": ["relu(x)"], "fishers": ["empirical"], "seeds": 2}
    command = shlex.split(stored(tmp_path, kind, config.model_dump(mode="json") | own, None))
    place = get_command(app).commands
    words, place = (command[2:], place["evaluate"]) if kind == "evaluate" else (command[3:], place["benchmark"])
    place = place if kind == "evaluate" else place.commands["build"]
    parsed = place.make_context(kind, words).params
    assert (parsed["workers"], parsed["seeds"], parsed["modules"]) == (2, 2, ["mine"])


def stored(folder: Path, kind, config, budget) -> str:
    """The command of a run that a store has."""
    with Store.open(f"sqlite:///{folder}/commands.db") as store:
        task = store.add_task("digits", "1", "digest", {})
        return command_of(store.create_run(NewRun("mine", kind, task, config, "d", 0, budget, None, "0.1.0")))
