"""The examples of README and docs work as they are printed."""

from __future__ import annotations

import json
import re
import sys
from functools import partial

import pytest
from pages import PAGES, ROOT, all_blocks, blocks, commands, commands_in_text, commands_of_make_search

from aquasurf_ray.activations import unregister
from aquasurf_ray.cli.main import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder whose modules this process forgets afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AQUASURF_STORE", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for module in tmp_path.glob("*.py"):
        sys.modules.pop(module.stem, None)


@pytest.fixture
def printed(capsys):
    """Runs a command in this process and returns what it prints."""

    def output(*words):
        code = main(list(words))
        out, err = capsys.readouterr()
        assert code == 0, err
        return out

    return output


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_the_readmes_own_network_is_searched(folder, printed):
    task, use = blocks("README.md", "python")
    (folder / "mytask.py").write_text(task)
    command = next(b for b in blocks("README.md", "") if "mytask" in b).split()
    assert command[:3] == ["aquasurf", "search", "mytask:rings_task"]
    small = ["--candidates", "16", "--evaluations", "2", "--workers", "1", "--json"]
    document = json.loads(printed(*command[1:3], *small))
    assert document["status"] == "finished"
    assert document["evaluations"] == 10
    assert document["best_score"] > 0.8
    exec(use, {})


@pytest.mark.usefixtures("ray_here")
@pytest.mark.slow
def test_a_custom_space_with_custom_operators(folder, printed, request):
    (space,) = blocks("docs/spaces.md", "yaml")
    (operators,) = (block for block in blocks("docs/spaces.md", "python") if block.startswith("# myoperators.py"))
    (folder / "myoperators.py").write_text(operators)
    (folder / "myspace.yaml").write_text(space.replace('["elu(x)"]', '["elu(x)", "mul(x,bump(x))"]'))
    request.addfinalizer(partial(unregister, "bump"))
    assert "mul(x,bump(x))" in printed("space", "myspace.yaml").splitlines()
    options = ["--candidates", "30", "--evaluations", "24", "--workers", "1", "--features", "outputs", "--json"]
    document = json.loads(printed("search", "digits", "--space", "myspace.yaml", *options))
    assert document["status"] == "finished"
    assert "bump" in printed("query", "SELECT function FROM leaderboard", "--format", "csv")


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_make_search_is_run_as_what_the_makefile_says_on_a_task_that_trains_in_half_a_second(page):
    search, confirm = commands_of_make_search()
    (block,) = (block for block in all_blocks(page) if block.text == "make search\n")
    assert search.startswith("aquasurf search mnist1d ")
    assert block.to_run.split("\n") == [search.replace("search mnist1d", "search digits"), confirm]


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / page).read_text()):
        assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"


@pytest.mark.parametrize("page", PAGES)
def test_every_command_a_page_names_is_one_with_these_options(page):
    from typer.main import get_command

    from aquasurf_ray.cli.main import app

    for _, *words in commands(page) + commands_in_text(page):
        command = get_command(app)
        while hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        if words != ["--help"]:
            command.make_context("aquasurf", words)  # raises the error of a wrong option
