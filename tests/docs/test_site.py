"""The site: it is built strictly, asks nothing of the web, and has a page of every command and of every public name."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from pages import ROOT
from typer.main import get_command

from aquasurf_ray.cli.main import app

ADDRESS = r"=[\"']?(?:https?:)?//"
LOADED = re.compile(rf"<(?:script|img|iframe|source)[^>]* src{ADDRESS}[^>]*>|<link[^>]* href{ADDRESS}[^>]*>")


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """The hook that makes pages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "docs")
        return importlib.import_module("generate")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    return folder


@pytest.mark.slow
def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 60
    assert {page.name: found for page in pages if (found := LOADED.findall(page.read_text()))} == {}
    assert all("md-search" in page.read_text() for page in pages)
    assert not any("edit this page" in page.read_text().lower() for page in pages)


@pytest.mark.slow
def test_examples_in_docstrings_are_blocks_of_code(site: Path) -> None:
    page = (site / "reference/python/aquasurf_ray.surrogate.distances.html").read_text()
    assert re.search(r"<pre>.*&gt;&gt;&gt;", page.replace("\n", " "))
    assert "<blockquote>" not in page


def test_links_hold_in_the_site_as_in_the_repository(generate: ModuleType) -> None:
    turned = generate.with_links
    assert turned("[a](../SECURITY.md#open) ![p](pictures/a.png) [b](text.md)", "index.md") == (
        "[a](SECURITY.md#open) ![p](pictures/a.png) [b](text.md)"
    )
    assert turned("[d](../docker/README.md) [c](../../docs/clusters.md)", "deploy/slurm.md") == (
        "[d](../deploy/docker.md) [c](../clusters.md)"
    )
    assert turned("[`m`](../mkdocs.yml) [x](https://arxiv.org)", "index.md") == "`m` [x](https://arxiv.org)"


def test_every_command_has_a_page_with_all_its_options(generate: ModuleType) -> None:
    pages = generate.generated_pages()
    group = get_command(app)
    named = {
        f"{word}-{name}" if name else word
        for word, command in group.commands.items()
        for name in getattr(command, "commands", [""])
    }
    found = {uri.removeprefix("reference/commands/") for uri in pages if uri.startswith("reference/commands/")}
    assert found == {f"{name}.md" for name in named}
    search = pages["reference/commands/search.md"]
    for parameter in group.commands["search"].params:
        assert parameter.param_type_name == "argument" or f"`{parameter.opts[0]}" in search or parameter.name == "help"
    assert "| Stop conditions | value | meaning |" in search
    assert "| `--fisher` | `sampled`, `empirical` | " in search
    assert "| `KIND` |  | Picture to draw: progress, confirmed, " in pages["reference/commands/plot.md"]
    assert (
        "| `--seeds` | `N` | Trainings of each function, with seeds 0, 1, ... Default: 1. |"
        in (pages["reference/commands/evaluate.md"])
    )


def test_every_public_name_has_a_page(generate: ModuleType) -> None:
    pages = generate.generated_pages()
    for module in generate.PACKAGES:
        package = importlib.import_module(module)
        names = getattr(package, "__all__", None) or [
            name
            for name, thing in vars(package).items()
            if not name.startswith("_") and callable(thing) and getattr(thing, "__module__", "") == module
        ]
        on_page = set(re.findall(r"^::: (\S+)$", pages[f"reference/python/{module}.md"], re.MULTILINE))
        assert on_page == {f"{module}.{name}" for name in names if not name.startswith("__")}
