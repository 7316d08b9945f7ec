"""The examples of README and docs work as they are printed."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from pages import PAGES, ROOT, all_blocks, aquasurf, blocks, commands, commands_in_text


def test_the_readmes_own_network_is_searched(tmp_path):
    task, use = blocks("README.md", "python")
    (tmp_path / "mytask.py").write_text(task)
    command = next(b for b in blocks("README.md", "") if "mytask" in b).split()
    assert command[:3] == ["aquasurf", "search", "mytask:rings_task"]
    small = ["--candidates", "16", "--evaluations", "2", "--workers", "1", "--json"]
    document = json.loads(aquasurf(*command[1:3], *small, folder=tmp_path))
    assert document["status"] == "finished"
    assert document["evaluations"] == 10
    assert document["best_score"] > 0.8
    subprocess.run([sys.executable, "-c", use], cwd=tmp_path, check=True)


def test_a_space_of_ones_own_with_operators_of_ones_own(tmp_path):
    (space,) = blocks("docs/spaces.md", "yaml")
    (operators,) = blocks("docs/spaces.md", "python")
    (tmp_path / "myoperators.py").write_text(operators)
    (tmp_path / "myspace.yaml").write_text(space.replace('["elu(x)"]', '["elu(x)", "mul(x,bump(x))"]'))
    assert "mul(x,bump(x))" in aquasurf("space", "myspace.yaml", folder=tmp_path).splitlines()
    options = ["--candidates", "30", "--evaluations", "24", "--workers", "1", "--features", "outputs", "--json"]
    document = json.loads(aquasurf("search", "digits", "--space", "myspace.yaml", *options, folder=tmp_path))
    assert document["status"] == "finished"
    trained = aquasurf("query", "SELECT function FROM leaderboard", "--format", "csv", folder=tmp_path)
    assert "bump" in trained


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_make_search_is_run_as_what_the_makefile_says(page):
    (makefile,) = re.findall(
        r"^search:.*\n\t\$\(BIN\)/(.*\n(?:\t\t.*\n)*)", (ROOT / "Makefile").read_text(), re.MULTILINE
    )
    (block,) = (block for block in all_blocks(page) if block.text == "make search\n")
    assert block.to_run.split() == makefile.replace("\\", " ").split()


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
        command.make_context("aquasurf", words)  # raises what it would say of a wrong option
