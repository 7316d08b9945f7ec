"""The notebook does what it says, from an empty folder; cells that ran before find their run finished."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from pages import ROOT

NOTEBOOK = ROOT / "docs/quickstart.ipynb"


def executed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The outputs of each cell of code."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    monkeypatch.delenv("AQUASURF_STORE", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, startup_timeout=600, timeout=1500, resources=resources).execute()
    return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]


def results(outputs: Any) -> list[Any]:
    return [output.data for output in outputs if output.output_type == "execute_result"]


def test_the_notebook_is_stored_without_outputs_and_is_well_formed() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert [cell.outputs for cell in notebook.cells if cell.cell_type == "code"] == [[]] * 5


@pytest.mark.docs
@pytest.mark.timeout(1800)  # two minutes on two free cores; a busy machine must not fail it
@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")  # of Jupyter's own libraries, in this process
def test_the_notebook_searches_judges_draws_and_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search, leaderboard, judging, drawing, training = executed(tmp_path, monkeypatch)
    best, score = ast.literal_eval(results(search)[0]["text/plain"])
    assert score > 0.85
    table = results(leaderboard)[0]["text/plain"]
    assert best in table
    assert f"{score:.4f}"[:5] in table
    assert re.search(r"relu(\(x\))?(:| by|,) .* at each one's best rate, 3 seeds", results(judging)[0]["text/plain"])
    assert any("image/png" in output.get("data", {}) for output in drawing)
    accuracies = ast.literal_eval(results(training)[0]["text/plain"])
    assert "relu(x)" in accuracies
    assert set(accuracies) <= set(re.findall(r"\S+\(x\S*\)", table))
    assert len(accuracies) == 2
    assert min(accuracies.values()) > 0.4, "a tenth is chance"
    again = executed(tmp_path, monkeypatch)
    assert results(again[0])[0]["text/plain"] == results(search)[0]["text/plain"]
