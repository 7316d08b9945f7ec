"""The examples of README and docs work as they are printed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def blocks(page, language):
    """The fenced blocks of a language, in order."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    return [text for found, text in fenced if found == language]


def aquasurf(*arguments, folder):
    environment = {key: value for key, value in os.environ.items() if key != "AQUASURF_STORE"}
    done = subprocess.run(
        [sys.executable, "-m", "aquasurf_ray", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readmes_own_network_is_searched(tmp_path):
    task, use = blocks("README.md", "python")
    (tmp_path / "mytask.py").write_text(task)
    command = next(b for b in blocks("README.md", "") if "mytask" in b).split()
    assert command[:3] == ["aquasurf", "search", "mytask:rings_task"]
    small = ["--candidates", "16", "--evaluations", "2", "--workers", "2", "--json"]
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
    options = ["--candidates", "30", "--evaluations", "24", "--workers", "2", "--features", "outputs", "--json"]
    document = json.loads(aquasurf("search", "digits", "--space", "myspace.yaml", *options, folder=tmp_path))
    assert document["status"] == "finished"
    trained = aquasurf("query", "SELECT function FROM leaderboard", "--format", "csv", folder=tmp_path)
    assert "bump" in trained


@pytest.mark.parametrize("page", ["README.md", "docs/spaces.md", "docs/architecture.md", "CONTRIBUTING.md"])
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / page).read_text()):
        assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"


def test_every_command_the_readme_names_exists():
    from typer.main import get_command

    from aquasurf_ray.cli.main import app

    known = set(get_command(app).commands)
    named = set(re.findall(r"^aquasurf ([a-z]+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert named <= known
