"""The tasks of the how-to pages are searched from end to end as they are printed, but for what their marks shorten.

One through the command line, in processes of its own. All have one worker, because to start one takes seconds, and
the others share a Ray, a process that embeds, and a folder into which every block that names its file
is written.
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys
import tomllib
from types import ModuleType

import pytest
import torch
from feature_distances import row_distance
from pages import ROOT, all_blocks, aquasurf, blocks, commands

from aquasurf_ray.activations import BASELINES, Activation
from aquasurf_ray.cli.main import main
from aquasurf_ray.driver import search
from aquasurf_ray.store import Store
from aquasurf_ray.surrogate.spectra import SpectrumFeature, compress
from aquasurf_ray.tasks import load_task, task_names
from aquasurf_ray.workers.network import spectrum_batch, untrained_network
from aquasurf_ray.workers.spectrum import fisher_spectrum

HOWTO = ("own-network", "tabular", "timm", "text", "images")
SMALL = {"candidates": 3, "evaluations": 1, "workers": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The working folder of somebody who has copied all pages."""
    folder = tmp_path_factory.mktemp("howto")
    shutil.copytree(ROOT / "docs", folder / "docs")
    for block in (block for page in HOWTO for block in all_blocks(f"docs/{page}.md")):
        if block.file and block.file.endswith(".py"):
            (folder / block.file).write_text(block.to_run)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        patch.delenv("AQUASURF_STORE", raising=False)
        yield folder


def task_of(page):
    """The task of the page's `aquasurf search my...`."""
    return next(words[2] for words in commands(f"docs/{page}.md") if words[1] == "search" and words[2].startswith("my"))


def searched(folder, name, likelihood, baselines=BASELINES):
    """The scores by function, of a small search that is whole: its budget met, a spectrum of every candidate."""
    url = f"sqlite:///{folder}/{name.partition(':')[0]}.db"
    result = search(name, name="one", store=url, **SMALL)
    with Store.open(url, create=False) as store:
        run = store.run("one")
        found = store.snapshot(run.id).evaluations
        candidates = {c.name: c.id for c in store.candidates(run.id)}
        spectra = store.spectra(run.task_id, candidates.values())
    assert run.status == "finished"
    assert len(spectra) == len(candidates) == len(baselines) + SMALL["candidates"]
    stored = SpectrumFeature.from_bytes(spectra[candidates["relu(x)"]].feature)
    assert row_distance(stored, compress(relu_spectrum(name, likelihood))) < 0.01
    assert [w.origin for w in found] == ["baseline"] * len(baselines) + ["suggestion"]
    scores = {w.function: w.evaluation.score for w in found if w.evaluation.status == "done"}
    assert result.evaluations == len(found) == len(baselines) + 1
    assert len(scores) >= len(found) - 1
    assert result.best == max(scores.items(), key=lambda item: item[1])
    return scores


def relu_spectrum(name, likelihood):
    task, cpu = load_task(name), torch.device("cpu")
    inputs, _ = spectrum_batch(task, task.splits(), seed=0, device=cpu)
    network = untrained_network(task, lambda: Activation("relu(x)"), seed=0, device=cpu)
    return fisher_spectrum(network, inputs, seed=0, likelihood=likelihood)


@pytest.mark.slow
def test_a_custom_network_is_searched_by_the_command(folder):
    task = task_of("own-network")
    small = ["--candidates", "3", "--evaluations", "1", "--workers", "1", "--json"]
    url = f"sqlite:///{folder}/own.db"
    document = json.loads(aquasurf("search", task, *small, "--store", url, folder=folder))
    assert document["status"] == "finished"
    assert document["evaluations"] == len(BASELINES) + 1
    with Store.open(url, create=False) as store:
        found = store.snapshot(store.run(document["run"]).id).evaluations
    assert [w.origin for w in found] == ["baseline"] * len(BASELINES) + ["suggestion"]
    assert -0.35 < document["best_score"] < 0, (
        "half of the answers are wrong by chance; a lower error is a higher score"
    )


@pytest.mark.usefixtures("ray_here")
@pytest.mark.slow
def test_a_table_is_searched(folder):
    scores = searched(folder, task_of("tabular"), "gaussian")
    assert -1 < max(scores.values()) < -0.5, "predicting the mean has an error of 1"


@pytest.mark.usefixtures("ray_here")
@pytest.mark.slow
def test_a_network_of_timm_is_searched(folder):
    scores = searched(folder, task_of("timm"), "categorical")
    assert max(scores.values()) > 0.15, "a tenth is chance"


@pytest.mark.usefixtures("ray_here")
@pytest.mark.filterwarnings("ignore:the spectrum covers:aquasurf_ray.workers.spectrum.SkippedLayerWarning")
@pytest.mark.slow
def test_a_language_model_is_searched(folder):
    scores = searched(folder, task_of("text"), "categorical", (*BASELINES, "gelu(x)"))
    assert -60 < max(scores.values()) < -5, "96 is chance; the text is that of the pages, and changes with them"


@pytest.mark.usefixtures("ray_here")
@pytest.mark.slow
def test_a_folder_of_images_is_searched(folder):
    exec(blocks("docs/images.md", "python")[0].replace("40 * 10", "12 * 10"), {})
    scores = searched(folder, task_of("images"), "categorical")
    assert max(scores.values()) > 0.05, "a tenth is chance, and twenty images judge after one epoch"


@pytest.mark.parametrize(
    "task", ["mytasks:chords_task", "mymodel:loaded_task", "mytable:diabetes", "mytext:characters"]
)
def test_the_check_finds_nothing_wrong(folder, task, capsys):
    assert main(["task", "check", task]) == 0, capsys.readouterr().err


def test_a_function_is_put_into_a_model(folder, capsys):
    (block,) = (each for each in blocks("docs/own-network.md", "python") if "replace_activations(" in each)
    exec(block, {})
    assert "replaced=('2', '5')" in capsys.readouterr().out


def test_the_page_of_timm_shows_what_is_replaced_and_which_gates_stay(folder, capsys, monkeypatch):
    as_printed = ModuleType("mytimm")
    exec(blocks("docs/timm.md", "python")[0], vars(as_printed))
    monkeypatch.setitem(sys.modules, "mytimm", as_printed)
    (command,) = (words for words in commands("docs/timm.md") if words[1:3] == ["task", "show"])
    assert main([*command[1:], "--json"]) == 0
    network = json.loads(capsys.readouterr().out)["network"]
    assert len(network["replaced"]) == 33
    assert [kept["reason"] for kept in network["kept"]] == ["gate: Hardsigmoid"] * 9


def test_entry_points_give_tasks_their_names(folder):
    (text,) = blocks("docs/own-network.md", "toml")
    entry_points = tomllib.loads(text)["project"]["entry-points"]["aquasurf_ray.tasks"]
    metadata = folder / "mytasks-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: mytasks\nVersion: 1.0\n")
    lines = [f"{name} = {path}" for name, path in entry_points.items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[aquasurf_ray.tasks]", *lines]))
    importlib.invalidate_caches()
    assert set(entry_points) <= set(task_names())
    assert load_task("chords").digest == load_task("mytasks:chords_task").digest


def test_the_spectrum_of_the_language_model_has_its_nine_dense_layers(folder, capsys):
    (command,) = (words for words in commands("docs/text.md") if words[1] == "spectrum")
    function, task = command[2], command[4]
    assert main(["spectrum", function, "--task", task, "--json"]) == 0
    layers = json.loads(capsys.readouterr().out)
    assert len(layers if isinstance(layers, list) else layers["layers"]) == 9
